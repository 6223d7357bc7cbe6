/** The compiled core on Node. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const compiled = new Map<string, WebAssembly.Module>();

/** Path of a core in the built package. Sources, as tests run them, find the same file. */
export function corePath(name = 'corral.wasm'): string {
  const here = fileURLToPath(import.meta.url);
  const inDist = !here.endsWith('.ts');
  return fileURLToPath(new URL(inDist ? `../../${name}` : `../../dist/${name}`, import.meta.url));
}

/** Reads and compiles the core once per process. Synchronous: that takes a few milliseconds. */
export function loadCore(): WebAssembly.Module {
  return load('corral.wasm');
}

/** The same core, built for memory that several threads share. */
export function loadSharedCore(): WebAssembly.Module {
  return load('corral.shared.wasm');
}

function load(name: string): WebAssembly.Module {
  const known = compiled.get(name);
  if (known !== undefined) return known;
  const made = new WebAssembly.Module(readFileSync(corePath(name)));
  compiled.set(name, made);
  return made;
}
