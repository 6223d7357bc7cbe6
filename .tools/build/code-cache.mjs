/**
 * What V8 makes of a program's text, kept for its next starts by this version of Node: with the functions that one short run
 * calls, since those that it has not seen are read again when they are called.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { root } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

/** What each program does while it is watched. */
const RUNS = [
  { text: 'dist/bundle/cli/program.cjs', args: ['convert', '-q', '-O', 'qcow2'], makes: 'copy.qcow2' },
  { text: 'dist/bundle/cli/info.cjs', args: ['info'] },
  { text: 'dist/bundle/io/program.cjs', args: ['-c', 'info'] },
].map(({ text, args, makes }) => ({ text, cache: cacheOf(text), args, makes }));
const RECORDER = '.tools/build/record-code-cache.cjs';

/** Needs the programs, the core, and the addon where there will be one. @returns {import('../lib/stage.mjs').Stage} */
export function codeCacheStage() {
  return {
    name: 'code-cache',
    inputs: ['.tools/build/code-cache.mjs', RECORDER, ...RUNS.map(({ text }) => text)],
    outputs: RUNS.map(({ cache }) => cache),
    environment: process.version,
    async run() {
      const scratch = mkdtempSync(join(tmpdir(), 'corral-build-'));
      try {
        const image = join(scratch, 'image.qcow2');
        node('dist/bundle/cli/main.cjs', 'create', '-q', '-f', 'qcow2', image, '1M');
        for (const folder of new Set(RUNS.map(({ text }) => dirname(text)))) {
          for (const name of readdirSync(join(root, folder))) {
            if (name.endsWith('.cache')) rmSync(join(root, folder, name));
          }
        }
        for (const { text, cache, args, makes } of RUNS) {
          node(RECORDER, text, cache, ...args, image, ...(makes === undefined ? [] : [join(scratch, makes)]));
        }
      } finally {
        rmSync(scratch, { recursive: true });
      }
    },
  };
}

/** @param {string} text @returns {string} the file beside it that this version of Node reads */
function cacheOf(text) {
  return text.replace(/cjs$/, `${process.version}-${process.arch}.cache`);
}

/** @param {string[]} args */
function node(...args) {
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new StageError(`node ${args.join(' ')}: ${stderr}`);
}
