/** The options of the simulator's command line. */

import { parseArgs } from 'node:util';

export interface SimulatorArguments {
  /** How many seeds to run; infinite with `--minutes` alone. */
  readonly seeds: number;
  /** The first of them. */
  readonly start: number;
  /** Stop after this time even if seeds are left. */
  readonly minutes: number | undefined;
  /** Run only this one. */
  readonly seed: number | undefined;
  /** Print every event of `seed`. */
  readonly trace: boolean;
}

const DEFAULT_SEEDS = 200;

/** The options, or what is wrong with them. */
export function parseArguments(args: readonly string[]): SimulatorArguments | { problem: string } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seeds: { type: 'string' },
        start: { type: 'string' },
        minutes: { type: 'string' },
        seed: { type: 'string' },
        trace: { type: 'boolean', default: false },
      },
    });
    const minutes = numberOf('--minutes', values.minutes, false);
    const seed = numberOf('--seed', values.seed, true);
    if (values.trace && seed === undefined) return { problem: '--trace needs --seed' };
    return {
      seeds:
        numberOf('--seeds', values.seeds, true) ?? (minutes === undefined ? DEFAULT_SEEDS : Number.POSITIVE_INFINITY),
      start: numberOf('--start', values.start, true) ?? 1,
      minutes,
      seed,
      trace: values.trace,
    };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

function numberOf(option: string, text: string | undefined, whole: boolean): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  const valid = text.trim() !== '' && value >= 0 && (whole ? Number.isSafeInteger(value) : Number.isFinite(value));
  if (!valid) throw new RangeError(`${option} takes a ${whole ? 'whole number' : 'number'}, not '${text}'`);
  return value;
}
