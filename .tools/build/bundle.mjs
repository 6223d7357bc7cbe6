/**
 * Each program in one file, program.cjs, which main.cjs starts: loading many small ones takes longer than most verbs
 * work. The program is CommonJS: in that form what a verb does not use is not run, and not loaded from Node either. It is
 * read, however: `info`, of which scripts start many, is a file with that verb alone. The workers of programs and library are such
 * files, too: an empty one starts in 21 ms as CommonJS and in 25 as a module, that of a block device with all its files in 58.
 * They lie as deep below dist/ as the files that they are made of, so that what these look for beside themselves (the
 * core, the addon, package.json) is found.
 */
import { chmodSync, copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { root, sourceFiles } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

/** Folder of a program, and the verb that has a file of its own. */
const PROGRAMS = [
  { folder: 'dist/bundle/cli', main: 'host/cli/main.ts', alone: 'info' },
  { folder: 'dist/bundle/io', main: 'host/cli/io/main.ts', alone: undefined },
];

/** In host/node/. */
const WORKERS = ['zstd-worker', 'helper-worker', 'ublk-worker', 'ublk-queue-worker'];
const WORKER_FOLDER = 'dist/bundle/workers';

/** What runs in a sandbox, where it can open no file: whole, with its packages. */
const SANDBOX = { main: 'host/node/sandbox-child.ts', outfile: 'dist/bundle/sandbox/main.cjs' };

const START = 'host/cli/start.cjs';

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

/** @type {import('esbuild').BuildOptions} */
const COMMONJS = {
  ...COMMON,
  format: 'cjs',
  // The packages too: no module is behind the text then from which it could be imported.
  supported: { 'dynamic-import': false },
  define: { 'import.meta.url': 'moduleUrl' },
  // What `pathToFileURL` makes of the paths of Linux, without loading it.
  banner: { js: 'const moduleUrl = `file://${encodeURI(__filename).replace(/[?#]/g, encodeURIComponent)}`;' },
};

/** @returns {import('../lib/stage.mjs').Stage} */
export function bundleStage() {
  return {
    name: 'bundle',
    inputs: ['tsconfig.json', 'package-lock.json', '.tools/build/bundle.mjs', START, ...sourceFiles(['host'], ['.ts'])],
    outputs: PROGRAMS.flatMap(({ folder, alone }) =>
      ['main.cjs', ...textsOf(alone)].map((name) => `${folder}/${name}`),
    ).concat(
      WORKERS.map((name) => `${WORKER_FOLDER}/${name}.cjs`),
      SANDBOX.outfile,
    ),
    async run() {
      try {
        for (const program of PROGRAMS) await bundleProgram(program);
        await bundleWorkers();
        await bundleSandbox();
      } catch (error) {
        throw new StageError(/** @type {Error} */ (error).message);
      }
    },
  };
}

/**
 * @param {string | undefined} alone
 * @returns {string[]} files with the text of a program
 */
function textsOf(alone) {
  return ['program.cjs', ...(alone === undefined ? [] : [`${alone}.cjs`])];
}

/** @param {typeof PROGRAMS[number]} program */
async function bundleProgram({ folder, main, alone }) {
  rmSync(join(root, folder), { recursive: true, force: true });
  for (const name of textsOf(alone)) await bundleText(join(root, main), join(root, folder, name));
  const start = join(root, folder, 'main.cjs');
  copyFileSync(join(root, START), start);
  chmodSync(start, 0o755);
}

async function bundleWorkers() {
  rmSync(join(root, WORKER_FOLDER), { recursive: true, force: true });
  await build({
    ...COMMONJS,
    entryPoints: WORKERS.map((name) => join(root, `host/node/${name}.ts`)),
    entryNames: '[name]',
    outdir: join(root, WORKER_FOLDER),
    outExtension: { '.js': '.cjs' },
  });
}

/**
 * @param {string} main
 * @param {string} text the file to write: all verbs, or the one that the file is named after
 */
async function bundleText(main, text) {
  const verb = basename(text, '.cjs');
  await build({
    ...COMMONJS,
    entryPoints: [main],
    outfile: text,
    plugins: verb === 'program' ? [] : [withoutVerbsBut(verb)],
  });
  // It is started by another file, and may stand within a function.
  writeFileSync(text, readFileSync(text, 'utf8').replace(/^#!.*\n/, ''));
}

/**
 * @param {string} verb
 * @returns {import('esbuild').Plugin}
 */
function withoutVerbsBut(verb) {
  return {
    name: 'without-verbs',
    setup({ onResolve }) {
      onResolve({ filter: /^\.\/commands\// }, ({ path, kind }) =>
        kind === 'dynamic-import' && path !== `./commands/${verb}.js` ? { path, external: true } : undefined,
      );
    },
  };
}

async function bundleSandbox() {
  const options = { ...COMMON, entryPoints: [join(root, SANDBOX.main)], external: [] };
  await build({ ...options, outfile: join(root, SANDBOX.outfile), format: 'cjs' });
}
