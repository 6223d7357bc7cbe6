/**
 * Writes that are asked for at about the same time go to another thread together: handing a short one over and hearing of its
 * end costs several times what the kernel needs to take its bytes into the page cache. While that thread has one round of them, the
 * next one lies ready for it: it need not wait until this thread has heard of the first. Who asks for one at a time is better
 * off without another thread, unless the page cache makes it wait.
 */
import { writevSync } from 'node:fs';
import { type Addon, findAddon } from './addon.js';
import { systemErrorOf } from './errno.js';

/** Writes of a round; as many others gather meanwhile, and those who asked for these go on. */
const MOST_WRITES = 16;
/** Bytes of a round, but for one write: who made them has memory waiting for the end of it. */
const MOST_BYTES = 2 << 20;
/** Rounds that are handed over: one that is carried out, and one that is next. */
const MOST_ROUNDS = 2;

/** Rounds of one write, one after the other, until the next one is carried out on the calling thread. */
const LONE_ROUNDS = 16;
/** Bytes of such a write: the page cache takes them in less time than another thread needs to wake. */
const LONGEST_AT_ONCE = 32768;
/** Milliseconds of such a write that are too many: for so many rounds then, none is tried. */
const SLOW = 1;
const SLOW_ROUNDS = 1024;

interface Asked {
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly Uint8Array[];
  resolve(): void;
  reject(error: Error): void;
}

/**
 * The writes of one file, one round of them at a time: the kernel lets one write at a time into a file. Their order
 * is not that of the calls for those who wait for others.
 */
export class GatheredWrites {
  private waiting: Asked[] = [];
  private scheduled = false;
  private roundsUnderWay = 0;
  /** Rounds of one write in a row; below 0 after a slow one. */
  private loneRounds = 0;
  /** A write was carried out in this turn of the event loop. */
  private wroteAtOnce = false;
  private readonly enders: (() => void)[] = [];

  private constructor(
    private readonly addon: Addon,
    private readonly descriptor: number,
    private readonly path: string,
  ) {}

  /** Undefined without the addon. Errors say by their `path` which file they are about. */
  static of(descriptor: number, path: string): GatheredWrites | undefined {
    const addon = findAddon();
    return addon && new GatheredWrites(addon, descriptor, path);
  }

  /**
   * Writes the pieces, `length` bytes, one behind the other; they are left alone until then. Rejects with the system's error.
   */
  async write(offset: number, pieces: readonly Uint8Array[], length: number): Promise<void> {
    if (length <= LONGEST_AT_ONCE && this.isLone() && this.isWrittenAtOnce(offset, pieces, length)) return;
    return new Promise((resolve, reject) => {
      this.waiting.push({ offset, length, pieces, resolve, reject });
      if (this.scheduled || this.roundsUnderWay === MOST_ROUNDS) return;
      this.scheduled = true;
      // What else came with it, from this client and others, goes along.
      setImmediate(() => {
        this.scheduled = false;
        this.startRounds();
      });
    });
  }

  /** Whether writes come one by one, each when the last one has ended: then another thread only costs time. */
  private isLone(): boolean {
    if (this.wroteAtOnce) this.loneRounds = Math.min(this.loneRounds, 0);
    return this.loneRounds >= LONE_ROUNDS && this.waiting.length === 0 && this.roundsUnderWay === 0;
  }

  /** False: it was not written, or not all of it; the other thread finds out why. */
  private isWrittenAtOnce(offset: number, pieces: readonly Uint8Array[], length: number): boolean {
    this.wroteAtOnce = true;
    setImmediate(() => {
      this.wroteAtOnce = false;
    });
    const start = performance.now();
    try {
      return writevSync(this.descriptor, pieces, offset) === length;
    } catch {
      return false;
    } finally {
      if (performance.now() - start > SLOW) this.loneRounds = -SLOW_ROUNDS;
    }
  }

  /** Resolves when no write waits or is under way: until then the descriptor is needed. */
  async ended(): Promise<void> {
    while (this.waiting.length > 0 || this.roundsUnderWay > 0)
      await new Promise<void>((resolve) => this.enders.push(resolve));
  }

  private startRounds(): void {
    while (this.waiting.length > 0 && this.roundsUnderWay < MOST_ROUNDS) this.startRound();
    if (this.roundsUnderWay === 0) for (const resolve of this.enders.splice(0)) resolve();
  }

  private startRound(): void {
    const round = this.waiting.splice(0, this.roundLength());
    if (round.length === 1 && this.waiting.length === 0 && this.roundsUnderWay === 0) this.loneRounds++;
    else this.loneRounds = Math.min(this.loneRounds, 0);
    const places = new Float64Array(2 * round.length);
    round.forEach(({ offset, pieces }, index) => {
      places[2 * index] = offset;
      places[2 * index + 1] = pieces.length;
    });
    this.roundsUnderWay++;
    this.addon.writeGathered(
      this.descriptor,
      round.flatMap(({ pieces }) => pieces),
      places,
      (answers) => this.endRound(round, answers),
    );
  }

  /** Writes that the next round has. */
  private roundLength(): number {
    let count = 1;
    let bytes = this.waiting[0]?.length ?? 0;
    for (; count < Math.min(this.waiting.length, MOST_WRITES); count++) {
      bytes += (this.waiting[count] as Asked).length;
      if (bytes > MOST_BYTES) break;
    }
    return count;
  }

  private endRound(round: readonly Asked[], answers: Int32Array): void {
    this.roundsUnderWay--;
    // The thread goes on while those who are answered ask for more.
    this.startRounds();
    round.forEach(({ resolve, reject }, index) => {
      const errno = answers[index] as number;
      if (errno === 0) resolve();
      else reject(Object.assign(systemErrorOf(errno), { path: this.path }));
    });
  }
}
