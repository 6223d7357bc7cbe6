#!/usr/bin/env node
/**
 * Completes package-lock.json for platforms other than this one.
 *
 *   node .tools/complete-lock.mjs           after `npm install` changed the lock file
 *   node .tools/complete-lock.mjs --check   changes nothing, exits with 1 when something is missing
 *
 * Native packages come as one optional dependency for each platform. npm leaves those out of the lock file which the
 * registry at hand does not offer (a mirror may hold only its own platforms), and then `npm ci` refuses the lock file
 * as incomplete, there and everywhere. Their version is exact and their platform is in their name, so the entries can
 * be written without the registry; npm skips them on every other platform.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './lib/repository.mjs';

/**
 * @typedef {object} Entry
 * @property {string} [version]
 * @property {string} [resolved]
 * @property {boolean} [dev]
 * @property {boolean} [optional]
 * @property {string[]} [os]
 * @property {string[]} [cpu]
 * @property {string[]} [libc]
 * @property {Record<string, string>} [optionalDependencies]
 */

const SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const PROCESSORS = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64'];

const path = join(root, 'package-lock.json');
const lock = JSON.parse(readFileSync(path, 'utf8'));
/** @type {Record<string, Entry>} */
const packages = lock.packages;

const missing = Object.values(packages).flatMap(({ optionalDependencies = {}, dev }) =>
  Object.entries(optionalDependencies)
    .filter(([name]) => packages[`node_modules/${name}`] === undefined)
    .flatMap(([name, version]) => platformEntry(name, version, dev === true)),
);
const hosted = Object.entries(packages).filter(([, { resolved }]) => resolved !== undefined);

if (process.argv.includes('--check')) {
  for (const { name } of missing) console.error(`package-lock.json has no entry for ${name}`);
  for (const [name] of hosted) console.error(`package-lock.json names a download host for ${name}`);
  if (missing.length + hosted.length > 0) {
    console.error('run `node .tools/complete-lock.mjs`');
    process.exitCode = 1;
  } else {
    console.log(`${Object.keys(packages).length} packages`);
  }
} else {
  for (const { name, entry } of missing) packages[`node_modules/${name}`] = entry;
  for (const [, entry] of hosted) delete entry.resolved;
  const [[rootName, rootEntry] = [], ...others] = Object.entries(packages);
  others.sort(([a], [b]) => a.localeCompare(b, 'en'));
  lock.packages = Object.fromEntries([[rootName, rootEntry], ...others]);
  writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
  console.log(`added ${missing.length} packages, removed ${hosted.length} hosts`);
}

/**
 * @param {string} name such as `@scope/binding-linux-arm64-musl`
 * @param {string} version
 * @param {boolean} dev
 * @returns {{ name: string, entry: Entry }[]} nothing for a package that is not one platform's
 */
function platformEntry(name, version, dev) {
  const words = name.split(/[-/]/);
  const os = words.filter((word) => SYSTEMS.includes(word));
  const cpu = words.filter((word) => PROCESSORS.includes(word));
  if (os.length === 0 || cpu.length === 0 || !/^\d/.test(version)) return [];
  const libc = words.includes('musl')
    ? ['musl']
    : words.includes('gnu') && os.includes('linux')
      ? ['glibc']
      : undefined;
  return [{ name, entry: { version, cpu, ...(dev ? { dev } : {}), ...(libc ? { libc } : {}), optional: true, os } }];
}
