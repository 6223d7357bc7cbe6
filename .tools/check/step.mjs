/** What every step of `npm run check` shares. */
import { capture } from '../lib/run.mjs';

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {() => Promise<string>} run resolves with what was looked at, for the step's line; throws a CheckError
 */

/** A step found something: the message is what its tool printed. */
export class CheckError extends Error {}

/**
 * Runs a tool of node_modules that must succeed.
 *
 * @param {string} script
 * @param {string[]} args
 * @returns {Promise<string>} its output
 */
export async function mustPass(script, args) {
  const { status, output } = await capture(process.execPath, [script, ...args], {
    env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined },
  });
  if (status !== 0) throw new CheckError(output);
  return output;
}

/**
 * A tool that looked at fewer files than there are has checked nothing, whatever it says.
 *
 * @param {string} tool
 * @param {Iterable<string>} seen
 * @param {string[]} expected
 */
export function requireSeen(tool, seen, expected) {
  const all = new Set(seen);
  const unseen = expected.filter((path) => !all.has(path));
  if (expected.length === 0) throw new CheckError(`${tool}: there is nothing to look at`);
  if (unseen.length > 0) throw new CheckError(`${tool} did not look at:\n  ${unseen.join('\n  ')}`);
}

/**
 * The same where a tool tells only how many files it looked at.
 *
 * @param {string} tool
 * @param {RegExpExecArray | null} match its first group is the count
 * @param {number} expected
 */
export function requireCount(tool, match, expected) {
  const seen = Number(match?.[1] ?? 0);
  if (expected === 0 || seen < expected) {
    throw new CheckError(`${tool} looked at ${seen} files, there are ${expected}`);
  }
  return seen;
}
