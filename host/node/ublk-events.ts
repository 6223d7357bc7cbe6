/** What happens to a device, as an async iterator: nobody has to ask whether it is in trouble. */
import type { CorralError } from '../errors.js';

export type UblkEvent =
  /** `/dev/ublkbN` is there. */
  | { readonly type: 'started'; readonly node: string }
  /** The kernel got an error for a request; `missed` more came too fast to be told. */
  | { readonly type: 'ioError'; readonly error: CorralError; readonly missed: number }
  /** The engine itself has failed, by a fault of ours: every request gets an error from now on. */
  | { readonly type: 'engineFailure'; readonly error: CorralError }
  /** The last event: the device is stopped and the image closed; `error` is what went wrong on the way. */
  | { readonly type: 'stopped'; readonly error: CorralError | undefined };

/** Events that one reader may be behind; beyond that, errors of I/O are only counted. */
const CAPACITY = 256;

export class UblkEvents {
  private readonly readers = new Set<Reader>();

  emit(event: UblkEvent): void {
    for (const reader of this.readers) reader.take(event);
    if (event.type === 'stopped') this.readers.clear();
  }

  /** Everything from now on, up to the event `stopped`. */
  iterate(): AsyncIterableIterator<UblkEvent> {
    const reader = new Reader(() => this.readers.delete(reader));
    this.readers.add(reader);
    return reader;
  }
}

class Reader implements AsyncIterableIterator<UblkEvent> {
  private readonly waiting: UblkEvent[] = [];
  private readonly asked: ((result: IteratorResult<UblkEvent>) => void)[] = [];
  private missed = 0;
  private ended = false;

  constructor(private readonly leave: () => void) {}

  take(event: UblkEvent): void {
    if (this.ended) return;
    let told = event;
    if (event.type === 'ioError') {
      if (this.waiting.length >= CAPACITY) {
        this.missed += 1 + event.missed;
        return;
      }
      told = { ...event, missed: event.missed + this.missed };
      this.missed = 0;
    }
    const ask = this.asked.shift();
    if (ask === undefined) this.waiting.push(told);
    else ask({ done: false, value: told });
    if (event.type === 'stopped') this.end();
  }

  next(): Promise<IteratorResult<UblkEvent>> {
    const value = this.waiting.shift();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (this.ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.asked.push(resolve));
  }

  return(): Promise<IteratorResult<UblkEvent>> {
    this.waiting.length = 0;
    this.leave();
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  private end(): void {
    this.ended = true;
    for (const ask of this.asked.splice(0)) ask({ done: true, value: undefined });
  }
}
