/**
 * Each program in one file, with one more for each kind of worker: loading many small ones takes longer than most verbs
 * work. The program is CommonJS: in that form what a verb does not use is not run, and not loaded from Node either. They
 * lie as deep below dist/ as the files that they are made of, so that what these look for beside themselves (the
 * core, the addon, package.json) is found.
 */
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root, sourceFiles } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

/** Folder of a program below dist/bundle/, and what it starts as workers, by their names. */
const PROGRAMS = [
  {
    folder: 'cli',
    main: 'host/cli/main.ts',
    workers: ['zstd-worker', 'helper-worker', 'ublk-worker', 'ublk-queue-worker'],
  },
  { folder: 'io', main: 'host/cli/io/main.ts', workers: ['zstd-worker'] },
].map(({ folder, ...program }) => ({ folder: `dist/bundle/${folder}`, ...program }));

/** What runs in a sandbox, where it can open no file: whole, with its packages. */
const SANDBOX = { main: 'host/node/sandbox-child.ts', outfile: 'dist/bundle/sandbox/main.cjs' };

/** @type {import('esbuild').BuildOptions} */
const COMMON = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  platform: 'node',
  target: 'node20',
  // The first looks for a file beside itself; the others do what Node does faster, and would be read at every start.
  external: ['@bokuweb/zstd-wasm', 'fflate', 'fzstd', 'prom-client'],
  logLevel: 'silent',
};

/** @returns {import('../lib/stage.mjs').Stage} */
export function bundleStage() {
  return {
    name: 'bundle',
    inputs: ['tsconfig.json', 'package-lock.json', '.tools/build/bundle.mjs', ...sourceFiles(['host'], ['.ts'])],
    outputs: PROGRAMS.flatMap(({ folder, workers }) =>
      ['main.cjs', ...workers.map((name) => `${name}.js`)].map((name) => `${folder}/${name}`),
    ).concat(SANDBOX.outfile),
    async run() {
      for (const program of PROGRAMS) await bundleProgram(program);
      await bundleSandbox();
    },
  };
}

/** @param {typeof PROGRAMS[number]} program */
async function bundleProgram({ folder, main, workers }) {
  rmSync(join(root, folder), { recursive: true, force: true });
  const outfile = join(root, folder, 'main.cjs');
  try {
    await build({
      ...COMMON,
      entryPoints: [join(root, main)],
      outfile,
      format: 'cjs',
      define: { 'import.meta.url': 'moduleUrl' },
      banner: { js: 'const moduleUrl = require("node:url").pathToFileURL(__filename).href;' },
    });
    await build({
      ...COMMON,
      entryPoints: workers.map((name) => join(root, `host/node/${name}.ts`)),
      entryNames: '[name]',
      outdir: join(root, folder),
      format: 'esm',
    });
  } catch (error) {
    throw new StageError(/** @type {Error} */ (error).message);
  }
  chmodSync(outfile, 0o755);
}

async function bundleSandbox() {
  const options = { ...COMMON, entryPoints: [join(root, SANDBOX.main)], external: [] };
  try {
    await build({ ...options, outfile: join(root, SANDBOX.outfile), format: 'cjs' });
  } catch (error) {
    throw new StageError(/** @type {Error} */ (error).message);
  }
}
