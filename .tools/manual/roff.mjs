/** Text and tables in the macros of man(7). */

/** @typedef {import('../../host/cli/option-table.js').OptionTable} OptionTable */

/**
 * Text as it is: no character means anything to roff. Ends without a line feed.
 *
 * @param {string} text
 */
export function escapeRoff(text) {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\[dq]')
    .replace(/^(?=[.'])/gm, '\\&');
}

/**
 * Whole sentences. A line that is indented begins a line of its own.
 *
 * @param {string} text
 */
export function paragraph(text) {
  return escapeRoff(text)
    .split('\n')
    .map((line) => (line.startsWith(' ') ? `.br\n${line.trim()}` : line))
    .join('\n');
}

/**
 * Operands, their names in italics.
 *
 * @param {string} operands
 */
export function operandText(operands) {
  return escapeRoff(operands).replace(/\b[A-Z][A-Z\d]+\b/g, '\\fI$&\\fR');
}

/**
 * One paragraph for each option that has a text.
 *
 * @param {OptionTable} options
 */
export function optionList(options) {
  return Object.values(options)
    .filter(({ about }) => about !== undefined)
    .map(({ shorts, longs, argument, attached, about }) => {
      const names = [...shorts.map((letter) => `-${letter}`), ...longs.map((name) => `--${name}`)];
      const needed = argument === undefined ? '' : ` \\fI${escapeRoff(argument)}\\fR`;
      const value = attached === undefined ? needed : `[=\\fI${escapeRoff(attached.argument)}\\fR]`;
      return `.TP\n${names.map((name) => `\\fB${escapeRoff(name)}\\fR`).join(', ')}${value}\n${paragraph(/** @type {string} */ (about))}`;
    })
    .join('\n');
}

/**
 * Breaks lines of text that are longer than what a line of a page's source should be. Examples stay as they are.
 *
 * @param {string} page
 */
export function wrap(page) {
  let example = false;
  return page
    .split('\n')
    .map((line) => {
      if (line === '.EX' || line === '.EE') example = line === '.EX';
      return example || line.startsWith('.') ? line : wrapLine(line);
    })
    .join('\n');
}

/** Bytes of a line. */
const LINE = 80;

/** @param {string} line */
function wrapLine(line) {
  const lines = [''];
  for (const word of line.split(' ')) {
    const last = /** @type {string} */ (lines.pop());
    const longer = last === '' ? word : `${last} ${word}`;
    if (longer.length <= LINE || last === '') lines.push(longer);
    // At the beginning of a line these would be a request.
    else lines.push(last, /^[.']/.test(word) ? `\\&${word}` : word);
  }
  return lines.join('\n');
}
