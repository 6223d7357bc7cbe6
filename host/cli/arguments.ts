/** Values on the command line: sizes, formats, output kinds and `-o` lists, read as QEMU reads them. */

import type { CacheMode } from '../cache-mode.js';
import { CommandError, UsageError } from './output.js';

const SUFFIXES = 'bkmgtpe';
/** Largest size that QEMU takes: 2^63 - 1. */
const MAXIMUM_SIZE = 2n ** 63n - 1n;

/** A size is not one: not a number, or one out of range. */
export class SizeError extends Error {
  constructor(readonly outOfRange: boolean) {
    super('not a size');
  }
}

/**
 * Bytes from "1.5G", "64k", "0x200" or "1000". A suffix counts in steps of 1024; fractions need one that makes them whole.
 *
 * @throws SizeError
 */
export function parseSize(text: string): bigint {
  const match = /^(?:(0x[0-9a-f]+)|(\d+)(?:\.(\d*))?([bkmgtpe])?)$/i.exec(text);
  if (match === null) throw new SizeError(false);
  const [, hexadecimal, whole = '0', fraction = '', suffix = 'b'] = match;
  const unit = 1024n ** BigInt(SUFFIXES.indexOf(suffix.toLowerCase()));
  if (fraction !== '' && unit === 1n) throw new SizeError(false);
  const parts = (BigInt(fraction.slice(0, 30) || '0') * unit) / 10n ** BigInt(Math.min(fraction.length, 30));
  const size = hexadecimal !== undefined ? BigInt(hexadecimal) : BigInt(whole) * unit + parts;
  if (size > MAXIMUM_SIZE) throw new SizeError(true);
  return size;
}

/** The lines that follow QEMU's complaint about a size. */
export const SIZE_HINTS = [
  'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-',
  'and exabytes, respectively.',
];

/** The same for an option among others. Throws `CommandError` with a line that begins with `about`. */
export function sizeParameter(name: string, text: string, about = ''): bigint {
  try {
    return parseSize(text);
  } catch (error) {
    if (!(error instanceof SizeError)) throw error;
    if (error.outOfRange) throw new CommandError(`${about}Value '${text}' is out of range for parameter '${name}'`);
    const wrong = `${about}Parameter '${name}' expects a non-negative number below 2^64`;
    throw new CommandError(wrong, 1, { hints: SIZE_HINTS });
  }
}

/** A size in QEMU's words when it is wrong: `Invalid start offset specified: 'x'.` */
export function sizeArgument(text: string, what: string): bigint {
  try {
    return parseSize(text);
  } catch (error) {
    if (!(error instanceof SizeError)) throw error;
    if (error.outOfRange) throw new CommandError(`Invalid ${what} specified. Must be between 0 and ${MAXIMUM_SIZE}.`);
    throw new CommandError(`Invalid ${what} specified: '${text}'.`);
  }
}

/** A whole number in a range. */
export function countArgument(text: string, what: string, minimum: number, maximum: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return value;
  throw new CommandError(`Invalid ${what} specified: '${text}'. Must be between ${minimum} and ${maximum}.`);
}

/** `--output` of the commands that know both. */
export function outputArgument(text: string): 'human' | 'json' {
  if (text === 'human' || text === 'json') return text;
  throw new UsageError(`--output expects 'human' or 'json' not '${text}'`);
}

export type Format = 'qcow2' | 'raw';

/** A format that we can handle; `where` begins the line that refuses another one. */
export function formatArgument(text: string, where = ''): Format {
  if (text === 'qcow2' || text === 'raw') return text;
  throw new CommandError(`${where}Unknown file format '${text}' (known: qcow2, raw)`);
}

/**
 * The `-o` options of a command in one map. Options are separated by commas, a doubled comma means itself; several `-o`
 * add up, the last value of a name counts. A name without value is "on".
 */
export function optionList(lists: readonly string[]): Map<string, string> {
  return new Map(lists.flatMap(optionPairs));
}

/** The options of one list in their order. */
export function optionPairs(list: string): [name: string, value: string][] {
  const items = list.replaceAll(',,', '\0').split(',');
  return items
    .filter((item) => item !== '')
    .map((item) => {
      const equals = item.indexOf('=');
      const name = equals === -1 ? item : item.slice(0, equals);
      const value = equals === -1 ? 'on' : item.slice(equals + 1);
      return [name, value.replaceAll('\0', ',')];
    });
}

/** A cache mode in QEMU's words. Throws `CommandError`, with `what` before `option` in its line. */
export function cacheArgument(mode: string, what: 'cache' | 'source cache', exitCode = 1): CacheMode {
  if (mode === 'off') return 'none';
  const known: readonly string[] = ['none', 'directsync', 'writeback', 'writethrough', 'unsafe'] satisfies CacheMode[];
  if (known.includes(mode)) return mode as CacheMode;
  throw new CommandError(`Invalid ${what} option: ${mode}`, exitCode);
}
