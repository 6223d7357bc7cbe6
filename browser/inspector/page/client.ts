/** The page's side of the messages. The worker is a `blob:` one: it obeys the page's Content-Security-Policy. */

import type { Answer, Argument, MethodName, Problem, Progress, Request, Response } from '../protocol.js';

/** The bundled worker, as text. */
declare const WORKER_SOURCE: string;

/** A call that failed: the message is for people. */
export class CallError extends Error {
  override readonly name = 'CallError';

  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  readonly onProgress: CallOptions['onProgress'];
  release(): void;
}

export class Client {
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;

  /** `onBytesRead` is told how many bytes of files the worker has read. */
  constructor(private readonly onBytesRead: (bytes: number) => void = () => {}) {
    const url = URL.createObjectURL(new Blob([WORKER_SOURCE], { type: 'text/javascript' }));
    this.worker = new Worker(url, { name: 'engine' });
    URL.revokeObjectURL(url);
    this.worker.onmessage = ({ data }: MessageEvent<Response>) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.fail({
        code: 'ERR_INTERNAL',
        message: `The engine stopped: ${event.message}`,
        advice: 'Open the image again. The file was not changed. Please report this.',
      });
    };
  }

  /** Rejects with a `CallError`, also when the signal ends it. */
  call<M extends MethodName>(method: M, argument: Argument<M>, options: CallOptions = {}): Promise<Answer<M>> {
    const { signal, onProgress } = options;
    const id = this.nextId++;
    return new Promise<unknown>((resolve, reject) => {
      if (signal?.aborted) {
        reject(cancelled());
        return;
      }
      // At once: the worker ends when what it waits for has come.
      const onAbort = (): void => {
        this.worker.postMessage({ cancel: id } satisfies Request);
        if (this.pending.delete(id)) reject(cancelled());
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      const release = (): void => signal?.removeEventListener('abort', onAbort);
      this.pending.set(id, { resolve, reject, onProgress, release });
      this.worker.postMessage({ id, method, argument } satisfies Request);
    }) as Promise<Answer<M>>;
  }

  /** Ends the worker, with all that it holds. */
  close(): void {
    this.worker.terminate();
    this.fail({ code: 'ERR_CANCELLED', message: 'Another image was opened', advice: undefined });
  }

  private receive(message: Response): void {
    this.onBytesRead(message.bytesRead);
    const pending = this.pending.get(message.id);
    if (pending === undefined) return;
    if ('progress' in message) {
      pending.onProgress?.(message.progress);
      return;
    }
    this.pending.delete(message.id);
    pending.release();
    if ('problem' in message) pending.reject(new CallError(message.problem));
    else pending.resolve(message.answer);
  }

  private fail(problem: Problem): void {
    const all = [...this.pending.values()];
    this.pending.clear();
    for (const { reject, release } of all) {
      release();
      reject(new CallError(problem));
    }
  }
}

function cancelled(): CallError {
  return new CallError({ code: 'ERR_CANCELLED', message: 'Cancelled', advice: undefined });
}

/** Somebody wanted it to end. */
export function isCancelled(error: unknown): boolean {
  return error instanceof CallError && error.problem.code === 'ERR_CANCELLED';
}
