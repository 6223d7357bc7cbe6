/** The options of the mutation fuzzer's command line. */

import { parseArgs } from 'node:util';

export interface MutationArguments {
  /** How many mutants; infinite with `--minutes` alone. */
  readonly count: number;
  /** Number of the first one. */
  readonly start: number;
  /** Stop after this time even if mutants are left. */
  readonly minutes: number | undefined;
  /** Only this one, and say what it is. */
  readonly only: number | undefined;
  /** Write each mutant to this file before it is tried. */
  readonly save: string | undefined;
  /** Inspect the mutants, and do nothing else with them. */
  readonly inspect: boolean;
  /** With `inspect`: QEMU is asked about every so many that are accepted. */
  readonly judgeEvery: number;
}

const DEFAULT_COUNT = 10_000;

/** The options, or what is wrong with them. */
export function parseArguments(args: readonly string[]): MutationArguments | { problem: string } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        count: { type: 'string' },
        start: { type: 'string' },
        minutes: { type: 'string' },
        seed: { type: 'string' },
        save: { type: 'string' },
        inspect: { type: 'boolean', default: false },
        judge: { type: 'string' },
      },
    });
    const minutes = numberOf('--minutes', values.minutes);
    return {
      count: wholeOf('--count', values.count) ?? (minutes === undefined ? DEFAULT_COUNT : Number.POSITIVE_INFINITY),
      start: wholeOf('--start', values.start) ?? 1,
      minutes,
      only: wholeOf('--seed', values.seed),
      save: values.save,
      inspect: values.inspect,
      judgeEvery: Math.max(1, wholeOf('--judge', values.judge) ?? 1),
    };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

function wholeOf(option: string, text: string | undefined): number | undefined {
  const value = numberOf(option, text);
  if (value !== undefined && !Number.isSafeInteger(value)) throw new RangeError(`${option} takes a whole number`);
  return value;
}

function numberOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  const valid = text.trim() !== '' && value >= 0 && Number.isFinite(value);
  if (!valid) throw new RangeError(`${option} takes a number, not '${text}'`);
  return value;
}
