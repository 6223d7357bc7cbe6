/** Helper threads: one for all images that continue from the same file, and one for each other that needs any. */
import { dirname, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { BackingData, HelperData, HelperThreadOrder, HelperThreadReport } from './helper-messages.js';

/** Told why a helper serves no more, also when it ended in order. */
type OnLost = (reason: string) => void;

/** By the path of what lies behind their images. */
const threads = new Map<string, HelperThread>();

/**
 * Has an image served by a helper thread, with the port that `data` holds, until the other end of the port is closed.
 *
 * @param onLost called when that has ended, with why; also when it ended in order. Needs the event loop of this thread.
 */
export function startHelperThread(data: HelperData, onLost: OnLost): void {
  const path = data.backing && pathBehind(data.backing);
  const running = path === undefined ? undefined : threads.get(path);
  (running ?? new HelperThread(path)).serve(data, onLost);
}

/** Nothing is looked up, as a file system may be stuck; what has two names is opened twice. */
function pathBehind({ path, facts }: BackingData): string | undefined {
  return facts.backingFile === undefined ? undefined : resolve(dirname(path), facts.backingFile);
}

class HelperThread {
  private readonly worker = new Worker(new URL('../../bundle/workers/helper-worker.cjs', import.meta.url));
  private readonly served = new Map<number, OnLost>();
  private last = 0;

  constructor(private readonly path: string | undefined) {
    if (path !== undefined) threads.set(path, this);
    this.worker.on('message', ({ ended }: HelperThreadReport) => this.end(ended));
    this.worker.on('error', (error) => this.lose(`The helper thread failed: ${error.message}`));
    this.worker.on('exit', () => this.lose('The helper thread ended'));
  }

  serve(data: HelperData, onLost: OnLost): void {
    const number = ++this.last;
    const order: HelperThreadOrder = { type: 'serve', number, data };
    this.worker.postMessage(order, [data.port]);
    this.served.set(number, onLost);
  }

  private end(number: number): void {
    const onLost = this.served.get(number);
    this.served.delete(number);
    if (this.served.size === 0) {
      this.forget();
      const order: HelperThreadOrder = { type: 'end' };
      this.worker.postMessage(order);
    }
    onLost?.('The helper thread ended');
  }

  private lose(reason: string): void {
    this.forget();
    for (const onLost of this.served.values()) onLost(reason);
    this.served.clear();
  }

  /** Whoever comes from now on gets another one. */
  private forget(): void {
    if (this.path !== undefined && threads.get(this.path) === this) threads.delete(this.path);
  }
}
