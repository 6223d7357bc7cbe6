/** The fuzzers of the test run: what each gets to do there. More of it: `npm run simulate`, `mutate`, `differential`. */
import { join } from 'node:path';
import { root } from './lib/repository.mjs';
import { attach } from './lib/run.mjs';

/**
 * A list of options a process.
 *
 * @type {Map<string, string[][]>}
 */
export const FUZZERS = new Map([
  ['differential', [['--minutes', '3']]],
  [
    'simulator',
    [
      ['--seeds', '1000'],
      ['--seeds', '1000', '--start', '1001'],
    ],
  ],
  [
    'mutation',
    [
      // Counts: the run is the same on every machine, and what is new is found by the long runs.
      ['--count', '25000'],
      ['--count', '17000', '--start', '1000001'],
      ['--count', '13000', '--start', '2000001', '--inspect', '--judge', '10'],
    ],
  ],
]);

/** A step or a seed that never ends must not hold up everything without a word. */
const SUMMED_SECONDS = 1200;

/** Each process needs a core. */
const AT_ONCE = 2;

/** @typedef {{ passed: number, failed: number, lines?: string[] }} Tally what failed may have a line each */

/**
 * Runs the processes of some fuzzers, as many beside each other as there are cores for.
 *
 * @param {string[]} names
 * @param {(status: number, tally: Tally | undefined) => Tally} judge
 * @returns {Promise<Map<string, Tally>>} by fuzzer
 */
export async function runFuzzers(names, judge) {
  const waiting = names.flatMap((name) => (FUZZERS.get(name) ?? []).map((options) => ({ name, options })));
  /** @type {Map<string, Tally>} */
  const tallies = new Map(names.map((name) => [name, { passed: 0, failed: 0 }]));
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { name, options } = next;
      const { passed, failed } = await runSummed([join(root, `dist/fuzz/${name}/main.js`), ...options], judge);
      const tally = tallies.get(name) ?? { passed: 0, failed: 0 };
      tallies.set(name, { passed: tally.passed + passed, failed: tally.failed + failed });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return tallies;
}

/**
 * Runs a script that ends with `N passed, N failed`, as ours do.
 *
 * @param {string[]} args
 * @param {(status: number, tally: Tally | undefined) => Tally} judge
 * @returns {Promise<Tally>}
 */
export async function runSummed(args, judge) {
  let output = '';
  const status = await attach(process.execPath, args, {
    stdin: 'ignore',
    seconds: SUMMED_SECONDS,
    onOutput: (text) => {
      output = (output + text).slice(-4096);
    },
  });
  const match = [...output.matchAll(/\b(\d+) passed, (\d+) failed\b/g)].at(-1);
  return judge(status, match === undefined ? undefined : { passed: Number(match[1]), failed: Number(match[2]) });
}
