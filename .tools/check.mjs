#!/usr/bin/env node
/**
 * Everything that can be said about the sources without running them: one line a step, and `N passed, N failed` at
 * the end.
 *
 *   npm run check                all steps
 *   npm run check -- STEP ...    only these
 */
import { join } from 'node:path';
import { checkCore, checkImportDeclarations } from './check/core.mjs';
import { checkDeadCode, checkDirections, checkForm, checkTestPlaces } from './check/source.mjs';
import { CheckError, mustPass } from './check/step.mjs';
import { checkBrowserBundle, checkPortableTypes, checkTypes } from './check/typescript.mjs';
import { root } from './lib/repository.mjs';

/** Steps that run beside each other. */
const AT_ONCE = 2;

/** The longest first. @type {import('./check/step.mjs').Step[]} */
const STEPS = [
  { name: 'types', run: checkTypes },
  { name: 'core', run: checkCore },
  { name: 'lock-file', run: checkLockFile },
  { name: 'abi', run: checkAbi },
  { name: 'manual', run: checkManual },
  { name: 'form', run: checkForm },
  { name: 'imports', run: checkImportDeclarations },
  { name: 'portable', run: checkPortableTypes },
  { name: 'bundle', run: checkBrowserBundle },
  { name: 'directions', run: checkDirections },
  { name: 'dead-code', run: checkDeadCode },
  { name: 'test-places', run: checkTestPlaces },
];

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !STEPS.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`no step ${unknown.join(', ')}; there are ${STEPS.map(({ name }) => name).join(', ')}`);
  process.exit(1);
}

const waiting = STEPS.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
let passed = 0;
let failed = 0;
await Promise.all(Array.from({ length: AT_ONCE }, runSteps));
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

/** Takes one step after the other until none is left. */
async function runSteps() {
  for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) await runStep(step);
}

/** @param {import('./check/step.mjs').Step} step */
async function runStep(step) {
  const start = performance.now();
  const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`.padStart(7);
  try {
    const detail = await step.run();
    console.log(`${step.name.padEnd(12)}${seconds()}  ok  ${detail}`);
    passed++;
  } catch (error) {
    if (!(error instanceof CheckError)) throw error;
    console.log(`${step.name.padEnd(12)}${seconds()}  FAILED\n${error.message.trimEnd()}\n`);
    failed++;
  }
}

/** What is generated from assembly/abi/ and committed must be what would be generated now. */
async function checkAbi() {
  const output = await mustPass(join(root, '.tools/generate-abi.mjs'), ['--check']);
  return output.trim();
}

/** Likewise the manual pages, from the tables of options. */
async function checkManual() {
  const output = await mustPass(join(root, '.tools/generate-manual.mjs'), ['--check']);
  return output.trim();
}

/** A lock file without some platform's packages, or with a download host, installs only here. */
async function checkLockFile() {
  const output = await mustPass(join(root, '.tools/complete-lock.mjs'), ['--check']);
  return output.trim();
}
