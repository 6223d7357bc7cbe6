#!/usr/bin/env node
/**
 * Every check and every test, or some layers of it.
 *
 *   npm test                     everything: packages, build, checks, all layers, the fuzzers
 *   npm test -- LAYER ...        only these: check, unit, catches, interop, cli, vm, simulator,
 *                                mutation, differential
 *
 * Layers run one after another: the virtual machine and the measurements need the cores to themselves. The last line
 * is `N passed, N failed`, alone on its line; the exit status says the same.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureDebianPackages } from './debian-packages.mjs';
import { LAYERS } from './layers.mjs';
import { ensureQemu, pathWithQemu } from './lib/qemu.mjs';
import { cacheFolder, root } from './lib/repository.mjs';
import { attach, packageScript } from './lib/run.mjs';

/**
 * Fuzzers: what each gets to do here, a list of options a process; they run beside each other. More of it, and single
 * cases again: `npm run simulate`, `mutate`, `differential`.
 *
 * @type {Map<string, string[][]>}
 */
const FUZZERS = new Map([
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
      ['--minutes', '1'],
      ['--minutes', '1', '--start', '1000001'],
    ],
  ],
  ['differential', [['--minutes', '3']]],
]);
/** A step or a seed that never ends must not hold up everything without a word. */
const SUMMED_SECONDS = 1200;
const NAMES = ['check', ...LAYERS.map(({ name }) => name), ...FUZZERS.keys()];
const NEEDS_QEMU = ['interop', 'cli', 'vm', 'mutation', 'differential'];

/** @typedef {{ passed: number, failed: number }} Tally */

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !NAMES.includes(name));
if (unknown.length > 0) {
  console.error(`no layer ${unknown.join(', ')}; there are ${NAMES.join(', ')}`);
  process.exit(1);
}
process.exitCode = await main(wanted.length === 0 ? NAMES : NAMES.filter((name) => wanted.includes(name)));

/**
 * @param {string[]} names
 * @returns {Promise<number>} the exit status
 */
async function main(names) {
  if (!(await prepare(names))) {
    console.log('\n0 passed, 1 failed');
    return 1;
  }

  /** @type {Tally} */
  const total = { passed: 0, failed: 0 };
  for (const name of names) {
    const start = performance.now();
    console.log(`\n== ${name}`);
    const { passed, failed } = await runLayer(name);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`== ${name}: ${passed} of ${passed + failed} passed in ${seconds} s`);
    total.passed += passed;
    total.failed += failed;
  }
  console.log(`\n${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

/**
 * Packages and the build.
 *
 * @param {string[]} names
 */
async function prepare(names) {
  // The layers that need seconds must not wait for packages that they do not use.
  if (names.some((name) => NEEDS_QEMU.includes(name))) {
    if (!(await ensureDebianPackages())) return false;
    try {
      console.log(`qemu-img ${await ensureQemu()}`);
    } catch (error) {
      console.error(/** @type {Error} */ (error).message);
      return false;
    }
  }
  process.env.PATH = pathWithQemu();
  const build = await node([join(root, '.tools/build.mjs')]);
  process.env.CORRAL_BUILT = 'yes';
  return build === 0 || build === 2; // type errors (2) are a failure of the layer `check`
}

/**
 * @param {string} name
 * @returns {Promise<Tally>}
 */
async function runLayer(name) {
  if (name === 'check') return runSummed([join(root, '.tools/check.mjs')]);
  const processes = FUZZERS.get(name);
  if (processes === undefined) return runVitest(name);
  const main = join(root, `dist/fuzz/${name}/main.js`);
  const tallies = await Promise.all(processes.map((options) => runSummed([main, ...options])));
  return {
    passed: tallies.reduce((sum, { passed }) => sum + passed, 0),
    failed: tallies.reduce((sum, { failed }) => sum + failed, 0),
  };
}

/**
 * Runs a script that ends with `N passed, N failed`, as ours do.
 *
 * @param {string[]} args
 * @returns {Promise<Tally>}
 */
async function runSummed(args) {
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

/**
 * @param {string} project
 * @returns {Promise<Tally>}
 */
async function runVitest(project) {
  mkdirSync(cacheFolder, { recursive: true });
  const report = join(cacheFolder, `test-${project}.json`);
  rmSync(report, { force: true });
  const status = await node([
    packageScript('vitest'),
    'run',
    `--project=${project}`,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ]);
  return judge(status, readReport(report));
}

/**
 * What vitest's report says. A file that could not be loaded has no tests: it counts as one failure. So does a test
 * that was skipped: nobody looks at those again.
 *
 * @param {string} path
 * @returns {Tally | undefined}
 */
function readReport(path) {
  try {
    const report = JSON.parse(readFileSync(path, 'utf8'));
    /** @type {{ name: string, status: string, assertionResults: { status: string }[] }[]} */
    const files = report.testResults;
    const broken = files.filter(({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0);
    const results = files.flatMap(({ assertionResults }) => assertionResults);
    const passed = results.filter(({ status }) => status === 'passed').length;
    const failed = results.length - passed + broken.length;
    const skipped = results.filter(({ status }) => !['passed', 'failed'].includes(status)).length;
    if (skipped > 0) console.error(`${skipped} tests were skipped: they count as failed`);
    return { passed, failed };
  } catch {
    return undefined; // vitest itself broke down; the caller counts that
  }
}

/**
 * Numbers and exit status must agree, and nothing found is a failure.
 *
 * @param {number} status
 * @param {Tally | undefined} tally
 * @returns {Tally}
 */
function judge(status, tally) {
  if (tally === undefined) {
    console.error(`no result (exit status ${status}): counts as one failure`);
    return { passed: 0, failed: 1 };
  }
  const { passed, failed } = tally;
  if (failed === 0 && (status !== 0 || passed === 0)) {
    console.error(`exit status ${status} after ${passed} passed tests: counts as one failure`);
    return { passed, failed: 1 };
  }
  return tally;
}

/** @param {string[]} args */
function node(args) {
  return attach(process.execPath, args, { stdin: 'ignore' });
}
