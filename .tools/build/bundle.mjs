/**
 * Each program in one file, program.cjs, which main.cjs starts, with one more for each kind of worker: loading many small ones takes longer than most verbs
 * work. The program is CommonJS: in that form what a verb does not use is not run, and not loaded from Node either. It is
 * read, however: `info`, of which scripts start many, is a file with that verb alone. They
 * lie as deep below dist/ as the files that they are made of, so that what these look for beside themselves (the
 * core, the addon, package.json) is found.
 */
import { chmodSync, copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { root, sourceFiles } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

/** Folder of a program below dist/bundle/, the verb that has a file of its own, and what it starts as workers, by their names. */
const PROGRAMS = [
  {
    folder: 'cli',
    main: 'host/cli/main.ts',
    alone: 'info',
    workers: ['zstd-worker', 'helper-worker', 'ublk-worker', 'ublk-queue-worker'],
  },
  { folder: 'io', main: 'host/cli/io/main.ts', alone: undefined, workers: ['zstd-worker'] },
].map(({ folder, ...program }) => ({ folder: `dist/bundle/${folder}`, ...program }));

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

/** @returns {import('../lib/stage.mjs').Stage} */
export function bundleStage() {
  return {
    name: 'bundle',
    inputs: ['tsconfig.json', 'package-lock.json', '.tools/build/bundle.mjs', START, ...sourceFiles(['host'], ['.ts'])],
    outputs: PROGRAMS.flatMap(({ folder, alone, workers }) =>
      ['main.cjs', ...textsOf(alone), ...workers.map((name) => `${name}.js`)].map((name) => `${folder}/${name}`),
    ).concat(SANDBOX.outfile),
    async run() {
      for (const program of PROGRAMS) await bundleProgram(program);
      await bundleSandbox();
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
async function bundleProgram({ folder, main, alone, workers }) {
  rmSync(join(root, folder), { recursive: true, force: true });
  const start = join(root, folder, 'main.cjs');
  try {
    for (const name of textsOf(alone)) await bundleText(join(root, main), join(root, folder, name));
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
  copyFileSync(join(root, START), start);
  chmodSync(start, 0o755);
}

/**
 * @param {string} main
 * @param {string} text the file to write: all verbs, or the one that the file is named after
 */
async function bundleText(main, text) {
  const verb = basename(text, '.cjs');
  await build({
    ...COMMON,
    entryPoints: [main],
    outfile: text,
    format: 'cjs',
    // The packages too: no module is behind the text then from which it could be imported.
    supported: { 'dynamic-import': false },
    define: { 'import.meta.url': 'moduleUrl' },
    // What `pathToFileURL` makes of the paths of Linux, without loading it.
    banner: { js: 'const moduleUrl = `file://${encodeURI(__filename).replace(/[?#]/g, encodeURIComponent)}`;' },
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
  try {
    await build({ ...options, outfile: join(root, SANDBOX.outfile), format: 'cjs' });
  } catch (error) {
    throw new StageError(/** @type {Error} */ (error).message);
  }
}
