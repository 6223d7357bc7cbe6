/** The compiled core on Node. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

let compiled: WebAssembly.Module | undefined;

/** Path of the core in the built package. Sources, as tests run them, find the same file. */
export function corePath(): string {
  const here = fileURLToPath(import.meta.url);
  const inDist = !here.endsWith('.ts');
  return fileURLToPath(new URL(inDist ? '../../corral.wasm' : '../../dist/corral.wasm', import.meta.url));
}

/** Reads and compiles the core once per process. Synchronous: 33 KB compile in a few milliseconds. */
export function loadCore(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readFileSync(corePath()));
  return compiled;
}
