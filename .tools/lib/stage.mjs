/** Build stages that are left out while nothing that they read has changed, and the lock around a build. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cacheFolder, root } from './repository.mjs';

/**
 * @typedef {object} Stage
 * @property {string} name
 * @property {string[]} inputs files whose content decides, relative to the root
 * @property {string[]} outputs files that must be there, relative to the root
 * @property {string} [environment] whatever else decides: versions, options
 * @property {() => Promise<void>} run makes the outputs, or throws a StageError
 */

/** A stage failed: the message is what its tool printed. */
export class StageError extends Error {}

/** @param {Stage} stage */
export function isMissing(stage) {
  return stage.outputs.some((path) => !existsSync(join(root, path)));
}

/** @param {Stage} stage */
export function isStale(stage) {
  const path = stampPath(stage);
  return isMissing(stage) || !existsSync(path) || readFileSync(path, 'utf8') !== fingerprint(stage);
}

/**
 * Runs a stage. What it read is noted before it starts: a file that is edited meanwhile makes it stale again.
 *
 * @param {Stage} stage
 */
export async function runStage(stage) {
  const stamp = fingerprint(stage);
  rmSync(stampPath(stage), { force: true });
  await stage.run();
  mkdirSync(join(cacheFolder, 'stamps'), { recursive: true });
  writeFileSync(stampPath(stage), stamp);
}

/** @param {Stage} stage */
function stampPath({ name }) {
  return join(cacheFolder, 'stamps', name);
}

/** @param {Stage} stage */
function fingerprint({ inputs, environment = '' }) {
  const hash = createHash('sha256').update(environment);
  for (const path of inputs) hash.update(`\0${path}\0`).update(readFileSync(join(root, path)));
  return hash.digest('hex');
}

/**
 * Runs `work` while no other process builds in this checkout.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withBuildLock(work) {
  const path = join(cacheFolder, 'build.lock');
  mkdirSync(cacheFolder, { recursive: true });
  while (!tryLock(path)) await delay(100);
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

/** @param {string} path */
function tryLock(path) {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
  }
  if (!isOwned(path)) rmSync(path, { force: true }); // its owner was killed; the next attempt is an honest one
  return false;
}

/** @param {string} path */
function isOwned(path) {
  try {
    const owner = Number(readFileSync(path, 'utf8'));
    if (owner === 0) return true; // just being written
    process.kill(owner, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}
