/**
 * What V8 makes of a program's text, kept for its next starts by this version of Node: with the functions that `info` runs, since
 * those that it has not seen are read again when they are called.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

/** What each program does while it is watched. */
const RUNS = [
  { folder: 'dist/bundle/cli', args: ['info'] },
  { folder: 'dist/bundle/io', args: ['-c', 'info'] },
];
const NAME = `program.${process.version}-${process.arch}.cache`;
const RECORDER = '.tools/build/record-code-cache.cjs';

/** Needs the programs, the core, and the addon where there will be one. @returns {import('../lib/stage.mjs').Stage} */
export function codeCacheStage() {
  return {
    name: 'code-cache',
    inputs: ['.tools/build/code-cache.mjs', RECORDER, ...RUNS.map(({ folder }) => `${folder}/program.cjs`)],
    outputs: RUNS.map(({ folder }) => `${folder}/${NAME}`),
    environment: process.version,
    async run() {
      const scratch = mkdtempSync(join(tmpdir(), 'corral-build-'));
      try {
        const image = join(scratch, 'image.qcow2');
        node('dist/bundle/cli/main.cjs', 'create', '-q', '-f', 'qcow2', image, '1M');
        for (const { folder, args } of RUNS) {
          for (const name of readdirSync(join(root, folder))) {
            if (name.endsWith('.cache')) rmSync(join(root, folder, name));
          }
          node(RECORDER, `${folder}/program.cjs`, `${folder}/${NAME}`, ...args, image);
        }
      } finally {
        rmSync(scratch, { recursive: true });
      }
    },
  };
}

/** @param {string[]} args */
function node(...args) {
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new StageError(`node ${args.join(' ')}: ${stderr}`);
}
