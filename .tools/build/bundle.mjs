/**
 * The command line in a few files, one for each verb and one for what they share: loading a hundred small ones takes longer
 * than most verbs work. They lie as deep below dist/ as the files that they are made of, so that what these look for
 * beside themselves (the core, the addon, package.json) is found.
 */
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root, sourceFiles } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

const FOLDER = 'dist/bundle/cli';
const MAIN = `${FOLDER}/main.js`;
/** Programs of their own, which are started by their names. */
const WORKERS = ['zstd-worker', 'helper-worker', 'ublk-worker'];

/** @returns {import('../lib/stage.mjs').Stage} */
export function bundleStage() {
  const workers = WORKERS.map((name) => `host/node/${name}.ts`);
  return {
    name: 'bundle',
    inputs: ['tsconfig.json', 'package-lock.json', '.tools/build/bundle.mjs', ...sourceFiles(['host'], ['.ts'])],
    outputs: [MAIN, ...WORKERS.map((name) => `${FOLDER}/${name}.js`)],
    async run() {
      rmSync(join(root, FOLDER), { recursive: true, force: true });
      try {
        await build({
          entryPoints: ['host/cli/main.ts', ...workers].map((path) => join(root, path)),
          entryNames: '[name]',
          outdir: join(root, FOLDER),
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
      chmodSync(join(root, MAIN), 0o755);
    },
  };
}
