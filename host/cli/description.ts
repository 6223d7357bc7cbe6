/** What a program and its verbs are, without what they do: for the help, the manual and the shells' completion. */

import type { Option, OptionTable } from './option-table.js';

export interface VerbDescription {
  readonly name: string;
  /** A few words for the list of verbs. */
  readonly summary: string;
  /** Whole sentences. */
  readonly about: string;
  /** Operands as the help shows them. */
  readonly operands: string;
  readonly options: OptionTable;
}

export interface ProgramDescription {
  /** The program's own, in front of the verb. */
  readonly options: OptionTable;
  /** In the order of the help. */
  readonly verbs: readonly VerbDescription[];
}

/** `-f, --format FMT`; `-p, --progress[=KIND]`. */
export function optionNames({ shorts, longs, argument, attached }: Option<unknown>): string {
  const names = [...shorts.map((letter) => `-${letter}`), ...longs.map((name) => `--${name}`)];
  const value = argument === undefined ? '' : ` ${argument}`;
  return `${names.join(', ')}${attached === undefined ? value : `[=${attached.argument}]`}`;
}

/** The help's lines on options; one without a text has none. */
export function optionLines(options: OptionTable): string {
  const rows = Object.values(options)
    .filter((option) => option.about !== undefined)
    .map((option): [string, string] => {
      const indent = option.shorts.length === 0 ? '    ' : '';
      return [`${indent}${optionNames(option)}`, option.about as string];
    });
  const width = Math.min(30, Math.max(...rows.map(([names]) => names.length)));
  const margin = ' '.repeat(width + 4);
  return rows
    .map(([names, text]) => {
      const start = names.length > width ? `  ${names}\n${margin}` : `  ${names.padEnd(width)}  `;
      return `${start}${text.replaceAll('\n', `\n${margin}`)}\n`;
    })
    .join('');
}
