/**
 * One core that several serving threads enter, one at a time: the lock around it, and what they tell each other.
 *
 * Every thread has its own instance on the same memory, its own ring, and the request slots of its own queue. Whoever is in
 * the core gets answers and operations for slots of others, too: these go to the mailbox of the slot's owner, who is woken
 * when it sleeps in its ring. Mailboxes are read and written under the lock.
 *
 * Everything here is in one piece of shared memory.
 */
import type { CorralError } from '../errors.js';
import { QUAD } from './addon.js';
import { type ErrorRecord, fromRecord, toRecord } from './error-record.js';

/** Words at the start of the shared memory. */
const LOCK = 0;
/** Not 0: the core has trapped and is not entered any more. */
const BROKEN = 1;
/** Queues that are over, and the first errno with which one ended. */
const STOPPED = 2;
const STOP_ERRNO = 3;
/** Not 0: nothing is to be served any more, and the threads that do not lead end. */
const OVER = 4;
/** Bytes of the error with which a control request ended. */
const ERROR_LENGTH = 5;
/** Never changes. */
const PAUSE = 6;
/** Not 0: requests of the kernel wait in every thread. */
const HELD = 7;
const HEAD_WORDS = 16;

/** Words of each thread: whether it sleeps, entries in its mailbox, the descriptor that wakes it, requests without sense. */
const SLEEPS = 0;
const COUNT = 1;
const WAKE = 2;
const MALFORMED = 3;
const THREAD_WORDS = 16;

const ERROR_BYTES = 16_384;

/** Entries of a mailbox for each slot: its operations at once, the fills between them, its answer; with room to spare. */
const ENTRIES_A_SLOT = 32;

/** Looks at a taken lock before a thread sleeps: passes through the core take microseconds. */
const SPINS = 200;

const FREE = 0;
const TAKEN = 1;
const WAITED_FOR = 2;

/** What the threads of one core share. Can be sent to another thread. */
export interface SharedParts {
  readonly memory: WebAssembly.Memory;
  /** 0 until the first thread has configured the core. */
  readonly layoutAddress: number;
  readonly words: SharedArrayBuffer;
  /** The core's scratch buffers, and the errno with which each operation failed last; undefined until the image is open. */
  readonly scratch: SharedArrayBuffer | undefined;
  readonly errnos: SharedArrayBuffer | undefined;
  /** One byte for each slot and the control request: what becomes of the kernel's request in it, a `SlotState`. */
  readonly slots: SharedArrayBuffer;
  readonly threads: number;
  /** Request slots of each thread: slot s is thread s / depth's. */
  readonly depth: number;
}

/** For so many threads with so many request slots each, and no image yet. */
export function makeSharedParts(threads: number, depth: number): SharedParts {
  const words = HEAD_WORDS + threads * (THREAD_WORDS + mailboxWords(depth));
  return {
    memory: new WebAssembly.Memory({ initial: 1, maximum: 65_536, shared: true }),
    layoutAddress: 0,
    words: new SharedArrayBuffer(words * 4 + ERROR_BYTES),
    scratch: undefined,
    errnos: undefined,
    slots: new SharedArrayBuffer(threads * depth + 1),
    threads,
    depth,
  };
}

function mailboxWords(depth: number): number {
  return depth * ENTRIES_A_SLOT * QUAD;
}

/** One thread's part in it. */
export class CoreSharing {
  private readonly words: Int32Array;
  private readonly errorBytes: Uint8Array;
  private readonly capacity: number;
  /** Threads that sleep and have something new in their mailbox. */
  private readonly toWake: number[] = [];

  /** @param thread number of the thread, from 0; the first one leads: control requests are its own */
  constructor(
    readonly parts: SharedParts,
    readonly thread: number,
  ) {
    this.capacity = parts.depth * ENTRIES_A_SLOT;
    const count = HEAD_WORDS + parts.threads * (THREAD_WORDS + mailboxWords(parts.depth));
    this.words = new Int32Array(parts.words, 0, count);
    this.errorBytes = new Uint8Array(parts.words, count * 4);
  }

  get firstSlot(): number {
    return this.thread * this.parts.depth;
  }

  /** The thread to which a slot belongs; the slots behind all queues are the first one's. */
  ownerOf(slot: number): number {
    const owner = Math.floor(slot / this.parts.depth);
    return owner < this.parts.threads ? owner : 0;
  }

  acquire(): void {
    const { words } = this;
    if (Atomics.compareExchange(words, LOCK, FREE, TAKEN) === FREE) return;
    for (let spin = 0; spin < SPINS; spin++) {
      if (Atomics.load(words, LOCK) === FREE && Atomics.compareExchange(words, LOCK, FREE, TAKEN) === FREE) return;
    }
    while (Atomics.exchange(words, LOCK, WAITED_FOR) !== FREE) Atomics.wait(words, LOCK, WAITED_FOR);
  }

  release(): void {
    if (Atomics.exchange(this.words, LOCK, FREE) === WAITED_FOR) Atomics.notify(this.words, LOCK, 1);
  }

  /**
   * Puts an entry into the mailbox of another thread. Under the lock.
   *
   * @returns false when there is no room, which no sound core asks for
   */
  post(owner: number, type: number, a: number, b: number, c: number): boolean {
    const { words } = this;
    const head = this.headOf(owner);
    const count = words[head + COUNT];
    if (count === this.capacity) return false;
    const position = this.mailboxOf(owner) + count * QUAD;
    words[position] = type;
    words[position + 1] = a;
    words[position + 2] = b;
    words[position + 3] = c;
    words[head + COUNT] = count + 1;
    if (words[head + SLEEPS] !== 0) {
      words[head + SLEEPS] = 0;
      this.toWake.push(owner);
    }
    return true;
  }

  /** Empties this thread's own mailbox. Under the lock. */
  drain(take: (type: number, a: number, b: number, c: number) => void): void {
    const { words } = this;
    const count = this.headOf(this.thread) + COUNT;
    const start = this.mailboxOf(this.thread);
    const end = start + words[count] * QUAD;
    for (let position = start; position < end; position += QUAD) {
      take(words[position], words[position + 1], words[position + 2], words[position + 3]);
    }
    words[count] = 0;
  }

  /** Whether others have to wake this thread for what they post from now on. Under the lock, with an empty mailbox. */
  set sleeps(sleeps: boolean) {
    this.words[this.headOf(this.thread) + SLEEPS] = sleeps ? 1 : 0;
  }

  /** No other thread has anything in its mailbox. */
  get settled(): boolean {
    for (let thread = 0; thread < this.parts.threads; thread++) {
      if (thread !== this.thread && Atomics.load(this.words, this.headOf(thread) + COUNT) !== 0) return false;
    }
    return true;
  }

  /** A millisecond. */
  pause(): void {
    Atomics.wait(this.words, PAUSE, 0, 1);
  }

  /** Takes the threads that are to be woken: once the lock is free. */
  takeSleepers(): number | undefined {
    return this.toWake.pop();
  }

  /** For wakers of other threads; 0 while that thread has no ring. */
  wakeDescriptorOf(thread: number): number {
    return Atomics.load(this.words, this.headOf(thread) + WAKE);
  }

  set wakeDescriptor(descriptor: number) {
    Atomics.store(this.words, this.headOf(this.thread) + WAKE, descriptor);
  }

  /** The kernel has sent a request to this thread's queue that made no sense. */
  noteMalformed(): void {
    Atomics.add(this.words, this.headOf(this.thread) + MALFORMED, 1);
  }

  /** How many of these all threads have got. */
  get malformed(): number {
    let sum = 0;
    for (let thread = 0; thread < this.parts.threads; thread++)
      sum += Atomics.load(this.words, this.headOf(thread) + MALFORMED) >>> 0;
    return sum;
  }

  /** Whether requests of the kernel wait, in every thread. Under the lock. */
  get held(): boolean {
    return this.words[HELD] !== 0;
  }

  set held(held: boolean) {
    this.words[HELD] = held ? 1 : 0;
  }

  get broken(): boolean {
    return this.words[BROKEN] !== 0;
  }

  breakDown(): void {
    Atomics.store(this.words, BROKEN, 1);
  }

  get over(): boolean {
    return Atomics.load(this.words, OVER) !== 0;
  }

  end(): void {
    Atomics.store(this.words, OVER, 1);
  }

  /** A queue is over. */
  noteStopped(errno: number): void {
    Atomics.compareExchange(this.words, STOP_ERRNO, 0, errno);
    Atomics.add(this.words, STOPPED, 1);
  }

  /** The first errno with which a queue ended, or 0; undefined while one of them serves. */
  get stopped(): number | undefined {
    if (Atomics.load(this.words, STOPPED) < this.parts.threads) return undefined;
    return Atomics.load(this.words, STOP_ERRNO);
  }

  /** Keeps the error of a control request for the thread that waits for it. Under the lock. */
  leaveError(error: CorralError): void {
    const text = JSON.stringify(toRecord(error), (_, value) => {
      if (value instanceof Error) return value.message;
      return typeof value === 'bigint' ? `${value}n` : value;
    });
    const bytes = new TextEncoder().encode(text);
    const length = bytes.length <= this.errorBytes.length ? bytes.length : 0;
    this.errorBytes.set(bytes.subarray(0, length));
    this.words[ERROR_LENGTH] = length;
  }

  /** Takes that error; undefined when it was too long. */
  takeError(): CorralError | undefined {
    const bytes = this.errorBytes.slice(0, this.words[ERROR_LENGTH]);
    if (bytes.length === 0) return undefined;
    const read = (_: string, value: unknown): unknown =>
      typeof value === 'string' && /^-?\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value;
    return fromRecord(JSON.parse(new TextDecoder().decode(bytes), read) as ErrorRecord);
  }

  private headOf(thread: number): number {
    return HEAD_WORDS + thread * THREAD_WORDS;
  }

  private mailboxOf(thread: number): number {
    const { threads, depth } = this.parts;
    return HEAD_WORDS + threads * THREAD_WORDS + thread * mailboxWords(depth);
  }
}
