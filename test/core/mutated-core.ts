/** The core with one mistake in it, to see who notices. */

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import asc from 'assemblyscript/asc';

const root = join(import.meta.dirname, '../..');

/** One change of the core's sources. */
export interface Mutation {
  /** File below assembly/. */
  readonly file: string;
  /** Text that is there exactly once. */
  readonly find: string;
  readonly replace: string;
}

/** Compiles the core with the changes; what is on disk stays as it is. Without optimising, which takes most of the time. */
export async function compileMutated(...mutations: readonly Mutation[]): Promise<WebAssembly.Module> {
  const sources = new Map(sourcePaths().map((path) => [path, readFileSync(join(root, path), 'utf8')]));
  for (const { file, find, replace } of mutations) {
    const path = `assembly/${file}`;
    const parts = (sources.get(path) ?? '').split(find);
    if (parts.length !== 2) throw new Error(`${path} does not contain this text exactly once: ${find}`);
    sources.set(path, parts.join(replace));
  }

  let binary: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    ['assembly/index.ts', '--runtime', 'stub', '--use', 'abort=', '--noAssert', '--outFile', 'core.wasm'],
    {
      readFile: (name) => sources.get(name.replaceAll('\\', '/')) ?? null,
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm')) binary = contents as Uint8Array;
      },
      listFiles: () => [],
    },
  );
  if (error !== null || binary === undefined)
    throw new Error(`the changed core does not compile: ${stderr.toString()}`);
  return new WebAssembly.Module(binary as Uint8Array<ArrayBuffer>);
}

function sourcePaths(): string[] {
  return readdirSync(join(root, 'assembly'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/'));
}
