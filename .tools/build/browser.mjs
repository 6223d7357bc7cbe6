/**
 * The library for browsers: one file that a page and its workers load, and the core beside it. What it weighs is printed
 * and bounded.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { root, sourceFiles } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

const FOLDER = 'dist/bundle/browser';
const LIBRARY = `${FOLDER}/corral.js`;
const CORE = `${FOLDER}/corral.wasm`;
/** Bytes of both, compressed as servers do it. */
const LARGEST = 150 * 1024;

/** Needs the core. @returns {import('../lib/stage.mjs').Stage} */
export function browserStage() {
  return {
    name: 'browser',
    inputs: [
      'tsconfig.json',
      'package-lock.json',
      '.tools/build/browser.mjs',
      ...sourceFiles(['host', 'browser', 'assembly'], ['.ts']),
    ],
    outputs: [LIBRARY, CORE],
    async run() {
      rmSync(join(root, FOLDER), { recursive: true, force: true });
      mkdirSync(join(root, FOLDER), { recursive: true });
      try {
        writeFileSync(join(root, LIBRARY), await bundleLibrary());
      } catch (error) {
        throw new StageError(/** @type {Error} */ (error).message);
      }
      copyFileSync(join(root, 'dist/corral.wasm'), join(root, CORE));
    },
  };
}

async function bundleLibrary() {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: [join(root, 'browser/main.ts')],
    outfile: join(root, LIBRARY),
    bundle: true,
    minify: true,
    write: false,
    platform: 'browser',
    format: 'esm',
    target: ['chrome109', 'firefox115', 'safari16.4'],
    logLevel: 'silent',
  });
  return /** @type {import('esbuild').OutputFile} */ (outputFiles[0]).contents;
}

/** Says what the library of the sources weighs, with the core that was built last. Rejects when that is too much. */
export async function weighLibrary() {
  const library = gzipSync(await bundleLibrary()).length;
  const core = gzipSync(readFileSync(join(root, 'dist/corral.wasm'))).length;
  const said = `corral.js ${kib(library)} and corral.wasm ${kib(core)} KiB with gzip`;
  if (library + core > LARGEST) throw new Error(`${said}: more than ${kib(LARGEST)} KiB`);
  return said;
}

/** @param {number} bytes */
function kib(bytes) {
  return (bytes / 1024).toFixed(1);
}
