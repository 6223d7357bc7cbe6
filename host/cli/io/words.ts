/** A command's words and options, taken apart as QEMU's shell does it. */

/** What getopt says about an option; the usage of the command follows. */
export class OptionError extends Error {}

export interface Words {
  /** Options in their order. */
  readonly options: readonly { readonly letter: string; readonly value: string }[];
  readonly operands: readonly string[];
}

/** The words of a line. Only blanks divide them, and nothing quotes one. */
export function splitWords(line: string): string[] {
  return line.split(' ').filter((word) => word !== '');
}

/**
 * Short options and operands in any order, as in getopt: `-qP5` and `-P 5` are the same, `--` ends the options.
 *
 * @param letters the options; a colon behind a letter: it has a value
 * @throws OptionError
 */
export function parseWords(words: readonly string[], letters: string): Words {
  const options: { letter: string; value: string }[] = [];
  const operands: string[] = [];
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') operands.push(...rest.splice(0));
    else if (word.startsWith('-') && word !== '-') options.push(...parseLetters(word, letters, rest));
    else operands.push(word);
  }
  return { options, operands };
}

function parseLetters(word: string, letters: string, rest: string[]): { letter: string; value: string }[] {
  const options: { letter: string; value: string }[] = [];
  for (let index = 1; index < word.length; index++) {
    const letter = word[index] as string;
    const place = letter === ':' ? -1 : letters.indexOf(letter);
    if (place === -1) throw new OptionError(`invalid option -- '${letter}'`);
    if (letters[place + 1] !== ':') {
      options.push({ letter, value: '' });
      continue;
    }
    const value = index + 1 < word.length ? word.slice(index + 1) : rest.shift();
    if (value === undefined) throw new OptionError(`option requires an argument -- '${letter}'`);
    options.push({ letter, value });
    break;
  }
  return options;
}
