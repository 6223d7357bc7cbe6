/** A second thread that notices when a seed never ends: the core may loop for ever within one call. */

import { writeSync } from 'node:fs';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

/** Of processor time: no seed takes nearly as much, and on a busy machine any of them may take as long. */
const PATIENCE_SECONDS = 120;
const LOOK_SECONDS = 5;

/** What the watchdog looks at: the seed that runs, and the counts so far. */
export class Progress {
  readonly shared: SharedArrayBuffer;
  private readonly seeds: Float64Array;

  constructor(shared = new SharedArrayBuffer(24)) {
    this.shared = shared;
    this.seeds = new Float64Array(shared);
  }

  get seed(): number {
    return this.seeds[0] as number;
  }
  set seed(value: number) {
    this.seeds[0] = value;
  }

  get passed(): number {
    return this.seeds[1] as number;
  }
  set passed(value: number) {
    this.seeds[1] = value;
  }

  get failed(): number {
    return this.seeds[2] as number;
  }
  set failed(value: number) {
    this.seeds[2] = value;
  }
}

/** Starts the second thread; it does not keep the process alive. */
export function watch(progress: Progress): void {
  new Worker(new URL(import.meta.url), { workerData: progress.shared }).unref();
}

if (!isMainThread && workerData instanceof SharedArrayBuffer) guard(new Progress(workerData));

function guard(progress: Progress): void {
  let seen = Number.NaN;
  let since = 0;
  setInterval(() => {
    const { seed, passed, failed } = progress;
    const done = passed + failed;
    const { user, system } = process.cpuUsage();
    const seconds = (user + system) / 1e6;
    if (done !== seen) {
      seen = done;
      since = seconds;
    }
    if (seconds - since < PATIENCE_SECONDS) return;
    // The main thread cannot be asked to do anything any more.
    writeSync(1, `seed ${seed} failed: it has not ended after ${PATIENCE_SECONDS} seconds of processor time\n`);
    writeSync(1, `${passed} passed, ${failed + 1} failed\n`);
    process.kill(process.pid, 'SIGKILL');
  }, LOOK_SECONDS * 1000);
}
