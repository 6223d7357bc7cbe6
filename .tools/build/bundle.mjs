/**
 * Each program in a few files, one for each verb and one for what they share: loading a hundred small ones takes longer
 * than most verbs work. They lie as deep below dist/ as the files that they are made of, so that what these look for
 * beside themselves (the core, the addon, package.json) is found. The programs share no files: what is cut where two
 * of them differ is more to load for both.
 */
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root, sourceFiles } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

/** Folder of a program below dist/bundle/, and what it starts as workers, by their names. */
const PROGRAMS = [
  { folder: 'cli', main: 'host/cli/main.ts', workers: ['zstd-worker', 'helper-worker', 'ublk-worker'] },
  { folder: 'io', main: 'host/cli/io/main.ts', workers: ['zstd-worker'] },
].map(({ folder, ...program }) => ({ folder: `dist/bundle/${folder}`, ...program }));

/** @returns {import('../lib/stage.mjs').Stage} */
export function bundleStage() {
  return {
    name: 'bundle',
    inputs: ['tsconfig.json', 'package-lock.json', '.tools/build/bundle.mjs', ...sourceFiles(['host'], ['.ts'])],
    outputs: PROGRAMS.flatMap(({ folder, workers }) => ['main', ...workers].map((name) => `${folder}/${name}.js`)),
    async run() {
      for (const program of PROGRAMS) await bundleProgram(program);
    },
  };
}

/** @param {typeof PROGRAMS[number]} program */
async function bundleProgram({ folder, main, workers }) {
  rmSync(join(root, folder), { recursive: true, force: true });
  try {
    await build({
      entryPoints: [main, ...workers.map((name) => `host/node/${name}.ts`)].map((path) => join(root, path)),
      entryNames: '[name]',
      outdir: join(root, folder),
      absWorkingDir: root,
      bundle: true,
      splitting: true,
      minify: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      // It looks for a file beside itself.
      external: ['@bokuweb/zstd-wasm'],
      logLevel: 'silent',
    });
  } catch (error) {
    throw new StageError(/** @type {Error} */ (error).message);
  }
  chmodSync(join(root, folder, 'main.js'), 0o755);
}
