/** The one file of the library for browsers: what a page imports, and what the worker runs that the client starts. */

import type { MessageEndpoint } from './calls.js';
import { CODEC_WORKER_NAME, serveCodec } from './codec-worker.js';
import { WORKER_NAME } from './protocol.js';
import { serveEngine } from './worker.js';

export * from './index.js';

/** What a worker's global object has. */
const own = globalThis as unknown as MessageEndpoint & { readonly name?: string; readonly WorkerGlobalScope?: unknown };

if (own.WorkerGlobalScope !== undefined) {
  if (own.name === WORKER_NAME) serveEngine(own, { startCodecWorker });
  if (own.name === CODEC_WORKER_NAME) serveCodec(own);
}

function startCodecWorker(): Worker {
  return new Worker(new URL(import.meta.url), { type: 'module', name: CODEC_WORKER_NAME });
}
