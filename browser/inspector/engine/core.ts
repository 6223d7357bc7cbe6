/** The compiled engine. The build puts it into the worker's own text: the page may connect to nothing. */

/** dist/corral.wasm as base64. */
declare const CORE_BASE64: string;

let compiled: Promise<WebAssembly.Module> | undefined;

/** Compiled once a worker. */
export function loadCore(): Promise<WebAssembly.Module> {
  compiled ??= WebAssembly.compile(Uint8Array.from(atob(CORE_BASE64), (character) => character.charCodeAt(0)));
  return compiled;
}
