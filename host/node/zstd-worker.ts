/** One of the threads of `zstd-threads.ts`. */

import { parentPort } from 'node:worker_threads';
import { compress, init } from '@bokuweb/zstd-wasm';

export interface ZstdOrder {
  readonly source: Uint8Array;
  readonly level: number;
}

export type ZstdAnswer = { readonly result: Uint8Array } | { readonly error: string };

const ready = init();

parentPort?.on('message', async ({ source, level }: ZstdOrder) => {
  let answer: ZstdAnswer;
  try {
    await ready;
    // A copy of its own: what the library returns may be a view of its memory.
    answer = { result: compress(source, level).slice() };
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(answer);
});
