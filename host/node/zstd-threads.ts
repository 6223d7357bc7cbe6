/** Compressing zstd where Node cannot: a few threads with the library in WebAssembly, started when they are first needed. */

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { ZstdAnswer, ZstdOrder } from './zstd-worker.js';

const MAXIMUM_THREADS = 4;

interface Job {
  readonly source: Uint8Array;
  readonly level: number;
  resolve(result: Uint8Array): void;
  reject(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  job: Job | undefined;
}

const threads: Thread[] = [];
const queue: Job[] = [];

/** Compresses into one frame. The source is copied at once when a thread is idle, else when one becomes so. */
export function compressInThread(source: Uint8Array, level: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    queue.push({ source, level, resolve, reject });
    assign();
  });
}

function assign(): void {
  while (queue.length > 0) {
    const thread = threads.find(({ job }) => job === undefined) ?? start();
    if (thread === undefined) return;
    const job = queue.shift() as Job;
    thread.job = job;
    // A thread holds the process only while it works.
    thread.worker.ref();
    // Of a view, all of the memory that it is in would be sent.
    thread.worker.postMessage({ source: job.source.slice(), level: job.level } satisfies ZstdOrder);
  }
}

/** One more thread, unless there are enough. */
function start(): Thread | undefined {
  if (threads.length >= Math.min(MAXIMUM_THREADS, availableParallelism())) return undefined;
  const thread: Thread = {
    worker: new Worker(new URL('../../bundle/workers/zstd-worker.cjs', import.meta.url)),
    job: undefined,
  };
  thread.worker.unref();
  thread.worker.on('message', (answer: ZstdAnswer) => {
    const { job } = thread;
    thread.job = undefined;
    thread.worker.unref();
    if ('result' in answer) job?.resolve(answer.result);
    else job?.reject(new Error(answer.error));
    assign();
  });
  thread.worker.on('error', (error) => {
    threads.splice(threads.indexOf(thread), 1);
    thread.job?.reject(error as Error);
    assign();
  });
  threads.push(thread);
  return thread;
}
