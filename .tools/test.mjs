#!/usr/bin/env node
/**
 * Every check and every test, or some layers of it.
 *
 *   npm test                     everything: packages, build, checks, all layers, the fuzzers
 *   npm test -- LAYER ...        only these: check, unit, catches, interop, cli, browser, vm, simulator,
 *                                mutation, differential
 *
 * Layers run one after another: the virtual machine needs the cores to itself. The fuzzers, which need one core each, run
 * beside each other. The last line is `N passed, N failed`, alone on its line; the exit status says the same.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureDebianPackages } from './debian-packages.mjs';
import { FUZZERS, runFuzzers, runSummed } from './fuzzers.mjs';
import { LAYERS } from './layers.mjs';
import { ensureQemu, pathWithQemu } from './lib/qemu.mjs';
import { cacheFolder, failuresFile, root } from './lib/repository.mjs';
import { attach, packageScript } from './lib/run.mjs';

const NAMES = ['check', ...LAYERS.map(({ name }) => name), ...FUZZERS.keys()];
const NEEDS_QEMU = ['interop', 'cli', 'browser', 'vm', 'mutation', 'differential'];

/** @typedef {import('./fuzzers.mjs').Tally} Tally */

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
  /** @type {string[]} */
  const failures = [];
  const fuzzers = names.filter((name) => FUZZERS.has(name));
  for (const group of [...names.filter((name) => !FUZZERS.has(name)).map((name) => [name]), fuzzers]) {
    if (group.length === 0) continue;
    const start = performance.now();
    console.log(`\n== ${group.join(', ')}`);
    const tallies = await runGroup(group);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    for (const [name, { passed, failed, lines = [] }] of tallies) {
      console.log(`== ${name}: ${passed} of ${passed + failed} passed in ${seconds} s`);
      total.passed += passed;
      total.failed += failed;
      if (failed > 0) failures.push(`${name}, ${failed}`, ...lines.map((line) => `  ${line}`));
    }
  }
  // The end of a long log is what everybody sees.
  if (failures.length > 0) console.log(`\n== failed\n${failures.join('\n')}`);
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
 * A layer, or some fuzzers.
 *
 * @param {string[]} names
 * @returns {Promise<Map<string, Tally>>}
 */
async function runGroup(names) {
  const [name = ''] = names;
  if (FUZZERS.has(name)) return runFuzzers(names, judge);
  const tally = name === 'check' ? await runSummed([join(root, '.tools/check.mjs')], judge) : await runVitest(name);
  return new Map([[name, tally]]);
}

/**
 * @param {string} project
 * @returns {Promise<Tally>}
 */
async function runVitest(project) {
  mkdirSync(cacheFolder, { recursive: true });
  const report = join(cacheFolder, `test-${project}.json`);
  rmSync(report, { force: true });
  rmSync(failuresFile, { force: true });
  const status = await node([
    packageScript('vitest'),
    'run',
    `--project=${project}`,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    `--reporter=${join(root, '.tools/failures-reporter.mjs')}`,
  ]);
  return { ...judge(status, readReport(report)), lines: readFailures() };
}

/** @returns {string[]} */
function readFailures() {
  return existsSync(failuresFile) ? JSON.parse(readFileSync(failuresFile, 'utf8')) : ['vitest itself broke down'];
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
