/** What is printed of a request that has ended. */

import { sizeText } from './values.js';

/** Bytes in a line of a dump. */
const LINE = 16;

export interface Report {
  /** "read", "wrote", "discard". */
  readonly verb: string;
  readonly offset: number;
  /** Bytes done. */
  readonly length: number;
  /** Milliseconds. */
  readonly elapsed: number;
  /** For programs: numbers between commas. */
  readonly terse: boolean;
}

/** How much was done, and how fast. */
export function reportText({ verb, offset, length, elapsed, terse }: Report): string {
  const seconds = Math.max(elapsed / 1000, 1e-9);
  const [bytes, operations] = [length / seconds, 1 / seconds];
  if (terse) return `${length},1,${timeText(seconds, true)},${bytes.toFixed(3)},${operations.toFixed(3)}\n`;
  return (
    `${verb} ${length}/${length} bytes at offset ${offset}\n` +
    `${sizeText(length)}, 1 ops; ${timeText(seconds, false)} (${sizeText(bytes)}/sec and ${operations.toFixed(4)} ops/sec)\n`
  );
}

function timeText(seconds: number, always: boolean): string {
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  const rest = `${two(seconds % 60)}.${two((seconds * 100) % 100)}`;
  if (minutes === 0 && !always) return `${rest} sec`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}

/** The bytes in hexadecimal and, where they are letters or digits, as these. */
export function dumpText(bytes: Uint8Array, offset: number): string {
  const lines: string[] = [];
  for (let start = 0; start < bytes.length; start += LINE) {
    const line = [...bytes.subarray(start, start + LINE)];
    const hexadecimal = line.map((byte) => `${byte.toString(16).padStart(2, '0')} `).join('');
    const characters = line
      .map((byte) => String.fromCharCode(byte))
      .map((text) => (/[0-9A-Za-z]/.test(text) ? text : '.'));
    lines.push(`${(offset + start).toString(16).padStart(8, '0')}:  ${hexadecimal} ${characters.join('')}\n`);
  }
  return lines.join('');
}
