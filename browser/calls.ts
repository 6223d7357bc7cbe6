/** Calls from one thread to another by messages: with progress, cancelling, and errors that stay `CorralError`s. */

import { CorralError, type CorralErrorCode, cancelled } from '../host/errors.js';

/** A worker, the inside of one, or a port. */
export interface MessageEndpoint {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void;
}

/** What a handler is given beside its arguments. */
export interface CallContext {
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** Answers calls. What a handler wants to give away, instead of copying it, it wraps in a `Transfer`. */
export type Handlers = Readonly<Record<string, (args: never, context: CallContext) => Promise<unknown>>>;

/** A result whose memory goes to the other side. */
export class Transfer {
  constructor(
    readonly value: unknown,
    readonly objects: Transferable[],
  ) {}
}

interface CallOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
  /** Memory of the arguments that goes to the other side. */
  transfer?: Transferable[];
}

interface PlainError {
  readonly code: CorralErrorCode;
  readonly details: Readonly<Record<string, unknown>>;
}

type ToServer =
  | { readonly type: 'call'; readonly id: number; readonly name: string; readonly args: unknown }
  | { readonly type: 'cancel'; readonly id: number };
type ToClient =
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'progress'; readonly id: number; readonly done: number; readonly total: number };

/** Milliseconds between two reports of progress of one call. */
const PROGRESS_PAUSE = 50;

/** Answers every call that comes over the endpoint. */
export function answerCalls(endpoint: MessageEndpoint, handlers: Handlers): void {
  const running = new Map<number, AbortController>();
  const answer = async ({ id, name, args }: Extract<ToServer, { type: 'call' }>): Promise<void> => {
    const ending = new AbortController();
    running.set(id, ending);
    const post = (message: ToClient, transfer: Transferable[] = []): void => endpoint.postMessage(message, transfer);
    const onProgress = atTimes((done, total) => post({ type: 'progress', id, done, total }));
    try {
      const handler = handlers[name];
      if (handler === undefined) throw new CorralError('ERR_INTERNAL', { reason: `There is no call '${name}'` });
      const result = await handler(args as never, { signal: ending.signal, onProgress });
      if (result instanceof Transfer) post({ type: 'result', id, value: result.value }, result.objects);
      else post({ type: 'result', id, value: result });
    } catch (error) {
      post({ type: 'error', id, error: plainError(error) });
    } finally {
      running.delete(id);
    }
  };
  endpoint.addEventListener('message', ({ data }) => {
    const message = data as ToServer;
    if (message.type === 'call') void answer(message);
    else running.get(message.id)?.abort();
  });
}

interface Pending extends CallOptions {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** The calling side. */
export class Caller {
  private readonly pending = new Map<number, Pending>();
  private lastId = 0;
  private ended: CorralError | undefined;

  constructor(private readonly endpoint: MessageEndpoint) {
    endpoint.addEventListener('message', ({ data }) => this.receive(data as ToClient));
  }

  /** Rejects with what the handler rejects with, and with ERR_CANCELLED as soon as the signal says so. */
  call<T>(name: string, args: unknown, options: CallOptions = {}): Promise<T> {
    const { signal, transfer = [] } = options;
    if (this.ended !== undefined) return Promise.reject(this.ended);
    if (signal?.aborted) return Promise.reject(cancelled(signal));
    const id = ++this.lastId;
    const cancel = (): void => this.endpoint.postMessage({ type: 'cancel', id } satisfies ToServer, []);
    const result = new Promise<unknown>((resolve, reject) => {
      this.pending.set(id, { ...options, resolve, reject });
      this.endpoint.postMessage({ type: 'call', id, name, args } satisfies ToServer, transfer);
      signal?.addEventListener('abort', cancel, { once: true });
    });
    return result.finally(() => signal?.removeEventListener('abort', cancel)) as Promise<T>;
  }

  /** The other side is gone: everything that waits for it rejects, and all that would come. */
  end(error: CorralError): void {
    this.ended = error;
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }

  private receive(message: ToClient): void {
    const pending = this.pending.get(message.id);
    if (pending === undefined) return;
    if (message.type === 'progress') {
      pending.onProgress?.(message.done, message.total);
      return;
    }
    this.pending.delete(message.id);
    if (message.type === 'result') pending.resolve(message.value);
    else pending.reject(new CorralError(message.error.code, message.error.details));
  }
}

/** What of an error can be sent. */
function plainError(error: unknown): PlainError {
  if (!(error instanceof CorralError)) {
    return { code: 'ERR_INTERNAL', details: { reason: error instanceof Error ? error.message : String(error) } };
  }
  const kept = Object.entries(error.details).filter(([, value]) =>
    ['string', 'number', 'bigint', 'boolean'].includes(typeof value),
  );
  return { code: error.code, details: Object.fromEntries(kept) };
}

/** Leaves out reports that come soon after another, but not the last one. */
function atTimes(report: (done: number, total: number) => void): (done: number, total: number) => void {
  let next = 0;
  return (done, total) => {
    const now = performance.now();
    if (now < next && done < total) return;
    next = now + PROGRESS_PAUSE;
    report(done, total);
  };
}
