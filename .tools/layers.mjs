/** The layers of tests, in the order in which `npm test` runs them. Each is a project of vitest, or a command. */

/**
 * @typedef {object} Layer
 * @property {string} name
 * @property {string[]} include test files, as globs from the root
 * @property {number} seconds time limit of one test or hook
 * @property {number} [workers] files at a time, where that is not as many as there are processors
 * @property {string[]} [setup] what its test files share is made here, once
 * @property {boolean} [memory] true: the tests' files are in memory where that is possible; what is tested is not the disk
 */

/** Folders of test/ whose tests are a layer of their own; every other one belongs to `unit` and `catches`. */
const OWN_LAYER = ['interop', 'cli', 'vm', 'browser'];

const OTHERS = `test/!(${OWN_LAYER.join('|')})/**`;

/** @type {Layer[]} */
export const LAYERS = [
  { name: 'unit', include: [`${OTHERS}/!(*-catches).test.ts`], seconds: 30 },
  // What the fuzzers catch: a core is compiled for every mistake. Not while one works on something else.
  { name: 'catches', include: [`${OTHERS}/*-catches.test.ts`], seconds: 120 },
  { name: 'interop', include: ['test/interop/**/*.test.ts'], seconds: 120, memory: true },
  { name: 'cli', include: ['test/cli/**/*.test.ts'], seconds: 60, memory: true },
  { name: 'browser', include: ['test/browser/**/*.test.ts'], seconds: 60, workers: 1 },
  // Two virtual machines at a time: each keeps a little more than one processor busy, and waits now and then.
  { name: 'vm', include: ['test/vm/**/*.test.ts'], seconds: 1200, workers: 2, setup: ['test/vm/setup.ts'] },
];
