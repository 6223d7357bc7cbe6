/** The one file of the library for browsers: what a page imports, and what the worker runs that the client starts. */

import type { MessageEndpoint } from './calls.js';
import { WORKER_NAME } from './protocol.js';
import { serveEngine } from './worker.js';

export * from './index.js';

/** What a worker's global object has. */
const own = globalThis as unknown as MessageEndpoint & { readonly name?: string; readonly WorkerGlobalScope?: unknown };

if (own.WorkerGlobalScope !== undefined && own.name === WORKER_NAME) serveEngine(own);
