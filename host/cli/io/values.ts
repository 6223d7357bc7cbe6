/** Numbers and patterns as the shell's commands read them, and sizes as it prints them. */

import { parseSize, SizeError } from '../arguments.js';
import { CommandFailure } from './failures.js';

/** Bytes of the longest request. */
export const LONGEST_REQUEST = 2147483136;
export const SECTOR = 512;

const UNITS = ['EiB', 'PiB', 'TiB', 'GiB', 'MiB', 'KiB'];

/** A number with or without a suffix, in bytes. Throws CommandFailure. */
export function numberArgument(text: string): number {
  try {
    return Number(parseSize(text));
  } catch (error) {
    if (!(error instanceof SizeError)) throw error;
    throw new CommandFailure(
      error.problem !== 'text'
        ? `Parsing error: argument too large -- ${text}`
        : `Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- ${text}`,
    );
  }
}

/** One byte, as in C: 171, 0xab, 0253. Throws CommandFailure. */
export function patternArgument(text: string): number {
  const value = cNumber(text);
  if (value === undefined || value < 0 || value > 255) throw new CommandFailure(`${text} is not a valid pattern byte`);
  return value;
}

/** A whole number as C writes it: decimal, 0x… or 0…; undefined when it is none. */
export function cNumber(text: string): number | undefined {
  const match = /^([+-]?)(?:0x([0-9a-f]+)|(0[0-7]*)|([1-9]\d*))$/i.exec(text);
  if (match === null) return undefined;
  const [, sign, hexadecimal, octal, decimal] = match;
  let value = Number(decimal);
  if (hexadecimal !== undefined) value = Number.parseInt(hexadecimal, 16);
  else if (octal !== undefined) value = Number.parseInt(octal, 8);
  return sign === '-' ? -value : value;
}

/** Bytes with three digits behind the point where there are any: "64 KiB", "1.125 MiB", "77 bytes". */
export function sizeText(bytes: number): string {
  for (const [index, unit] of UNITS.entries()) {
    const size = 1024 ** (UNITS.length - index);
    if (bytes >= size) return `${threeDigits(bytes / size)} ${unit}`;
  }
  return `${bytes.toFixed(6).replace(/\.000000$/, '')} bytes`;
}

/** As C's `%.3f`, which rounds what lies in the middle to the even neighbour, but without a fraction of zeros. */
function threeDigits(value: number): string {
  const thousandths = value * 1000;
  const middle = thousandths % 1 === 0.5;
  const text = (middle ? (2 * Math.round(thousandths / 2)) / 1000 : value).toFixed(3);
  return text.replace(/\.000$/, '');
}
