/** The layers of tests, in the order in which `npm test` runs them. Each is a project of vitest, or a command. */

/**
 * @typedef {object} Layer
 * @property {string} name
 * @property {string[]} include test files, as globs from the root
 * @property {number} seconds time limit of one test or hook
 * @property {boolean} alone true: one file at a time, because a test needs the machine to itself
 */

/** Folders of test/ whose tests are a layer of their own; every other one belongs to `unit` and `catches`. */
const OWN_LAYER = ['interop', 'cli', 'vm'];

const OTHERS = `test/!(${OWN_LAYER.join('|')})/**`;

/** @type {Layer[]} */
export const LAYERS = [
  { name: 'unit', include: [`${OTHERS}/!(*-catches).test.ts`], seconds: 30, alone: false },
  // What the fuzzers catch: a core is compiled for every mistake. Not while one works on something else.
  { name: 'catches', include: [`${OTHERS}/*-catches.test.ts`], seconds: 120, alone: false },
  { name: 'interop', include: ['test/interop/**/*.test.ts'], seconds: 120, alone: false },
  { name: 'cli', include: ['test/cli/**/*.test.ts'], seconds: 60, alone: false },
  { name: 'vm', include: ['test/vm/**/*.test.ts'], seconds: 1200, alone: true },
];
