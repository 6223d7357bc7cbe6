/** One file of the core as a module of its own, whose exports a test may call. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ASUtil, instantiateSync } from '@assemblyscript/loader';
import asc from 'assemblyscript/asc';

const root = join(import.meta.dirname, '../..');

/** Compiles `path` below assembly/, with assertions. Numbers of 64 bits are bigint, signed. */
export async function assemblyModule<T extends Record<string, unknown>>(path: string): Promise<T> {
  let binary: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [
      `assembly/${path}`,
      '--runtime',
      'stub',
      '--use',
      'abort=',
      '--initialMemory',
      '1',
      '-O1',
      '--outFile',
      'module.wasm',
    ],
    {
      // Not asconfig.json, which has entries of its own.
      readFile: (name) => (name.startsWith('assembly/') ? read(join(root, name)) : null),
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm')) binary = contents as Uint8Array;
      },
      listFiles: () => [],
    },
  );
  if (error !== null || binary === undefined) throw new Error(`${path} does not compile: ${stderr.toString()}`);
  return instantiateSync<T & ASUtil>(new WebAssembly.Module(binary as Uint8Array<ArrayBuffer>), {}).exports;
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
