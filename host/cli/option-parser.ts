/**
 * A command line as GNU's getopt_long reads it: options and operands in any order, `-qf raw` and `-fraw`, long options
 * cut short as long as they are clear, `--` before operands that look like options.
 */

import type { Option, OptionTable, OptionValues } from './option-table.js';
import { UsageError } from './output.js';

/** One option as it was given. */
export interface Given {
  /** Its key in the table. */
  readonly name: string;
  readonly argument: string;
}

export interface CommandLine<Table extends OptionTable> {
  readonly values: OptionValues<Table>;
  readonly operands: readonly string[];
  /** Every option in the order of the command line. */
  readonly given: readonly Given[];
}

type Named = readonly [name: string, option: Option<unknown>];

/**
 * Reads a verb's arguments; those of options are looked at in their order. Throws `UsageError` in getopt's words, and what
 * the options throw.
 */
export function parseCommandLine<Table extends OptionTable>(
  args: readonly string[],
  table: Table,
  { negativeSizes = false }: { negativeSizes?: boolean } = {},
): CommandLine<Table> {
  const named: readonly Named[] = Object.entries(table);
  const values = Object.fromEntries(named.map(([name, { initial }]) => [name, initial]));
  const operands: string[] = [];
  const given: Given[] = [];
  const take = ([name, option]: Named, argument: string): void => {
    values[name] = option.next(values[name], argument);
    given.push({ name, argument });
  };
  const rest = [...args];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') {
      operands.push(...rest.splice(0));
    } else if (word.startsWith('--')) {
      takeLong(word.slice(2), named, rest, take);
    } else if (word.startsWith('-') && word !== '-' && !(negativeSizes && /^-\d/.test(word))) {
      takeShort(word.slice(1), named, rest, take);
    } else {
      operands.push(word);
    }
  }
  return { values: values as OptionValues<Table>, operands, given };
}

type Take = (option: Named, argument: string) => void;

function takeLong(word: string, table: readonly Named[], rest: string[], take: Take): void {
  const equals = word.indexOf('=');
  const name = equals === -1 ? word : word.slice(0, equals);
  const [option, full] = findLong(name, word, table);
  if (option[1].argument === undefined) {
    if (equals !== -1 && option[1].attached === undefined) {
      throw new UsageError(`option '--${full}' doesn't allow an argument`, 'getopt');
    }
    take(option, equals === -1 ? '' : word.slice(equals + 1));
    return;
  }
  const argument = equals === -1 ? rest.shift() : word.slice(equals + 1);
  if (argument === undefined) throw new UsageError(`option '--${full}' requires an argument`, 'getopt');
  take(option, argument);
}

/** By its whole name, or by the beginning of one. */
function findLong(name: string, word: string, table: readonly Named[]): [option: Named, full: string] {
  const all = table.flatMap((option) => option[1].longs.map((full): [Named, string] => [option, full]));
  const exact = all.find(([, full]) => full === name);
  if (exact !== undefined) return exact;
  const possible = all.filter(([, full]) => full.startsWith(name));
  const [first] = possible;
  if (first === undefined) throw new UsageError(`unrecognized option '--${word}'`, 'getopt');
  if (possible.some(([option]) => option !== first[0])) {
    const names = possible.map(([, full]) => ` '--${full}'`).join('');
    throw new UsageError(`option '--${word}' is ambiguous; possibilities:${names}`, 'getopt');
  }
  return first;
}

function takeShort(letters: string, table: readonly Named[], rest: string[], take: Take): void {
  for (let index = 0; index < letters.length; index++) {
    const letter = letters[index] as string;
    const option = table.find(([, { shorts }]) => shorts.includes(letter));
    if (option === undefined) throw new UsageError(`invalid option -- '${letter}'`, 'getopt');
    if (option[1].argument === undefined) {
      take(option, '');
      continue;
    }
    const argument = index + 1 < letters.length ? letters.slice(index + 1) : rest.shift();
    if (argument === undefined) throw new UsageError(`option requires an argument -- '${letter}'`, 'getopt');
    take(option, argument);
    return;
  }
}
