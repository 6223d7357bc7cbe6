/** Values on the command line: sizes, formats, output kinds and `-o` lists, read as QEMU reads them. */

import type { CacheMode } from '../cache-mode.js';
import { CommandError, UsageError } from './output.js';

const SUFFIXES = 'bkmgtpe';
const MAXIMUM_CACHE_SIZE = 1024 ** 3;
/** Largest size that QEMU takes: 2^63 - 1. */
const MAXIMUM_SIZE = 2n ** 63n - 1n;

/** A size is not one: no number, a negative one, or one that is too large. */
export class SizeError extends Error {
  constructor(readonly problem: 'text' | 'negative' | 'large') {
    super('not a size');
  }
}

/**
 * Bytes from "1.5G", ".5G", "64k", "0x200" or "1000", with spaces and a plus in front, as C's strtoull takes them. A suffix
 * counts in steps of 1024; fractions need one that makes them whole.
 *
 * @throws SizeError
 */
export function parseSize(text: string): bigint {
  const match = /^[ \t\n\v\f\r]*\+?(?:(0x[0-9a-f]+)|(?=\.?\d)(\d*)(?:\.(\d*))?([bkmgtpe])?)$/i.exec(text);
  if (match === null) throw new SizeError(/^\s*-\d+$/.test(text) ? 'negative' : 'text');
  const [, hexadecimal, whole = '', fraction = '', suffix = 'b'] = match;
  const unit = 1024n ** BigInt(SUFFIXES.indexOf(suffix.toLowerCase()));
  if (/[1-9]/.test(fraction) && unit === 1n) throw new SizeError('text');
  // A floating-point number, as in QEMU: the same digits name the same byte.
  const parts = BigInt(Math.trunc(Number(`0.${fraction}`) * Number(unit)));
  const size = hexadecimal !== undefined ? BigInt(hexadecimal) : BigInt(whole) * unit + parts;
  if (size > MAXIMUM_SIZE) throw new SizeError('large');
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
    if (error.problem !== 'text')
      throw new CommandError(`${about}Value '${text}' is out of range for parameter '${name}'`);
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
    if (error.problem !== 'text')
      throw new CommandError(`Invalid ${what} specified. Must be between 0 and ${MAXIMUM_SIZE}.`);
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
 * add up, the last value of a name counts. A name without value is "on", and "off" with a "no" in front.
 */
export function optionList(lists: readonly string[]): Map<string, string> {
  for (const list of lists) {
    // With what a comma at an end belongs to, nobody would be sure once the lists are put together.
    if (/^(,|$)|(^|[^,])(,,)*,$/.test(list)) throw new CommandError(`Invalid option list: ${list}`);
  }
  return new Map(lists.flatMap(optionPairs));
}

/** The options of one list in their order. */
export function optionPairs(list: string): [name: string, value: string][] {
  const items = list.replaceAll(',,', '\0').split(',');
  return items
    .filter((item) => item !== '')
    .map((item) => {
      const equals = item.indexOf('=');
      if (equals === -1) return item.startsWith('no') ? [item.slice(2), 'off'] : [item, 'on'];
      return [item.slice(0, equals), item.slice(equals + 1).replaceAll('\0', ',')];
    });
}

/** A number among options, as C's strtoull reads it but within what can be exact; undefined when it is none. */
export function wholeNumber(text: string): number | undefined {
  return /^\s*[+-]?(\d{1,15}|0x[0-9a-f]{1,12})$/i.test(text)
    ? Number(text.replace(/^\s*[+-]/, '')) * (text.includes('-') ? -1 : 1)
    : undefined;
}

/** What a switch among options says, in any of QEMU's words; undefined: none of them. */
export function switchValue(text: string): boolean | undefined {
  if (['on', 'true', 'yes', 'y'].includes(text)) return true;
  if (['off', 'false', 'no', 'n'].includes(text)) return false;
  return undefined;
}

/** A cache mode in QEMU's words. Throws `CommandError`, with `what` before `option` in its line. */
export function cacheArgument(mode: string, what: 'cache' | 'source cache', exitCode = 1): CacheMode {
  if (mode === 'off') return 'none';
  const known: readonly string[] = ['none', 'directsync', 'writeback', 'writethrough', 'unsafe'] satisfies CacheMode[];
  if (known.includes(mode)) return mode as CacheMode;
  throw new CommandError(`Invalid ${what} option: ${mode}`, exitCode);
}

/** Bytes of a metadata cache. Throws `CommandError`. */
export function cacheSizeArgument(text: string): number {
  const size = Number(sizeArgument(text, 'cache size'));
  if (size <= MAXIMUM_CACHE_SIZE) return size;
  throw new CommandError(`Invalid cache size specified: '${text}'. Must be at most 1G.`);
}
