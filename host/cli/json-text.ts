/** JSON on the command line, as QEMU reads it: strings may stand in single quotes. Everything here throws `CommandError`. */

import { CommandError } from './output.js';

/** Whether an argument that may be a list of options is a JSON object instead. */
export function isJsonText(text: string): boolean {
  return text.startsWith('{');
}

/** The members of an object. `about` begins the line about what is no JSON. */
export function parseJsonObject(text: string, about = ''): Record<string, unknown> {
  const value = parseJson(text, about);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new CommandError('Invalid JSON object given');
}

function parseJson(text: string, about: string): unknown {
  const strings = /"(?:[^"\\]|\\.)*"|'((?:[^'\\]|\\.)*)'/g;
  const quoted = text.replaceAll(strings, (all, inner?: string) =>
    inner === undefined ? all : `"${inner.replaceAll("\\'", "'").replaceAll('"', '\\"')}"`,
  );
  try {
    return JSON.parse(quoted);
  } catch (error) {
    const { message } = error as Error;
    const position = Number(/position (\d+)/.exec(message)?.[1]);
    const isCut = /end of JSON|Unterminated/.test(message) || position >= quoted.length;
    throw new CommandError(`${about}JSON parse error${isCut ? ', premature EOI' : ''}`);
  }
}
