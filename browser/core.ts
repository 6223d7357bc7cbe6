/** The compiled core in a browser. */

import { CorralError } from '../host/errors.js';

let compiled: Promise<WebAssembly.Module> | undefined;

/** Fetches and compiles `corral.wasm`, which lies beside this file, once. Rejects with ERR_IO. */
export function loadCore(): Promise<WebAssembly.Module> {
  compiled ??= compile(new URL('./corral.wasm', import.meta.url)).catch((error: unknown) => {
    compiled = undefined;
    throw error;
  });
  return compiled;
}

async function compile(url: URL): Promise<WebAssembly.Module> {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    // Not by streaming: that fails on servers that do not know the media type, and the file is small.
    return await WebAssembly.compile(await response.arrayBuffer());
  } catch (error) {
    const reason = `The engine cannot be loaded: ${(error as Error).message}`;
    throw new CorralError('ERR_IO', { path: url.href, reason, cause: error });
  }
}
