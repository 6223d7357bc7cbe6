#!/usr/bin/env node
/**
 * Generates what TypeScript and C++ know of the core's boundary from assembly/abi/*.ts.
 *
 *   node .tools/generate-abi.mjs [--check] [--quiet] [--root FOLDER]
 *
 * `--check` writes nothing and exits with 1, naming each stale file.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { emitCpp } from './abi/emit-cpp.mjs';
import { emitAssemblyHash, emitTypeScript } from './abi/emit-typescript.mjs';
import { AbiError, parseFolder } from './abi/parse.mjs';

const { values: options } = parseArgs({
  options: { check: { type: 'boolean' }, quiet: { type: 'boolean' }, root: { type: 'string' } },
});
const root = resolve(options.root ?? join(import.meta.dirname, '..'));

try {
  const files = parseFolder(join(root, 'assembly/abi'));
  const recordCount = files.reduce((sum, { records }) => sum + records.length, 0);
  if (recordCount === 0) throw new AbiError('assembly/abi/ declares no record');

  const outputs = {
    'host/abi.ts': emitTypeScript(files),
    'native/abi.hpp': emitCpp(files),
    'assembly/abi-hash.ts': emitAssemblyHash(files),
  };
  const stale = Object.entries(outputs).filter(([path, text]) => readIfThere(join(root, path)) !== text);
  if (options.check === true) {
    for (const [path] of stale) console.error(`${path} is stale: run \`npm run abi\` and commit it`);
    process.exitCode = stale.length === 0 ? 0 : 1;
  } else {
    // An unchanged file keeps its time, so that nothing is built again for it.
    for (const [path, text] of stale) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
  }
  if (options.quiet !== true && process.exitCode !== 1) {
    console.log(
      `ABI: ${recordCount} records in ${files.length} files, ${stale.length} outputs ${options.check ? 'stale' : 'written'}`,
    );
  }
} catch (error) {
  if (!(error instanceof AbiError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

/** @param {string} path */
function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}
