/**
 * What a disk consists of, kept in a few typed arrays so that every later question (a zoomed picture, a place, a row of
 * the list) is a binary search. Grows as far as it is asked; a disk of more pieces than it may hold is walked anew behind
 * its end.
 */

import type { ChainExtent } from '../../../host/chain-map.js';
import { GUEST_KINDS, type GuestExtent, type GuestKind } from '../protocol.js';
import type { GuestDisk } from './disk.js';

/** Extents that are kept: 18 bytes each. */
const MOST_EXTENTS = 2 ** 21;
const FIRST_CAPACITY = 1024;
const NO_HOST = -1;
/** Milliseconds between reports. */
const REPORT_INTERVAL = 100;
/** Extents between looks at the clock. */
const CLOCK_STEP = 512;

export class ExtentIndex {
  private offsets = new Float64Array(FIRST_CAPACITY);
  private hosts = new Float64Array(FIRST_CAPACITY);
  private kinds = new Uint8Array(FIRST_CAPACITY);
  private depths = new Uint8Array(FIRST_CAPACITY);
  private used = 0;
  /** Everything before this offset is in the index. */
  private covered = 0;
  private work: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly disk: GuestDisk,
    private readonly capacity = MOST_EXTENTS,
  ) {}

  /** Extents that are known. */
  get count(): number {
    return this.used;
  }

  /** Up to here the disk is known. */
  get known(): number {
    return this.covered;
  }

  get complete(): boolean {
    return this.covered >= this.disk.size;
  }

  /** There is no room for more. */
  get full(): boolean {
    return this.used >= this.capacity;
  }

  /** Reads on up to `end`, or until there is no room. What was read before a cancellation stays. */
  extendTo(end: number, signal?: AbortSignal, onReport?: () => void): Promise<void> {
    const next = this.work.then(() => this.extend(end, signal, onReport));
    this.work = next.catch(() => {});
    return next;
  }

  private async extend(end: number, signal?: AbortSignal, onReport?: () => void): Promise<void> {
    if (this.covered >= end || this.full) return;
    let reported = performance.now();
    let steps = 0;
    for await (const extent of this.disk.extents(this.covered, this.disk.size, signal)) {
      signal?.throwIfAborted();
      this.append(extent);
      if (this.full || this.covered >= end) return;
      if (++steps % CLOCK_STEP === 0 && performance.now() - reported > REPORT_INTERVAL) {
        reported = performance.now();
        onReport?.();
        // Answers and cancellations of others come in between.
        await new Promise((resolve) => setTimeout(resolve));
      }
    }
  }

  /** The extent with this number. */
  at(index: number): GuestExtent {
    const offset = this.offsets[index] as number;
    const end = index + 1 < this.used ? (this.offsets[index + 1] as number) : this.covered;
    const host = this.hosts[index] as number;
    return {
      offset,
      length: end - offset,
      kind: GUEST_KINDS[this.kinds[index] as number] as GuestKind,
      depth: this.depths[index] as number,
      hostOffset: host === NO_HOST ? undefined : host,
    };
  }

  /** Number of the extent that holds a known offset. */
  find(offset: number): number {
    let low = 0;
    let high = this.used - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.offsets[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The stretches between two offsets; what the index does not hold is read from the disk. */
  async *between(from: number, to: number, signal?: AbortSignal): AsyncGenerator<GuestExtent> {
    yield* this.knownBetween(from, Math.min(to, this.covered));
    if (to > this.covered && this.full) {
      const start = Math.max(from, this.covered);
      for await (const extent of this.disk.extents(start, to, signal)) yield guestExtent(extent);
    }
  }

  /** The same, of what is known. */
  *knownBetween(from: number, to: number): Generator<GuestExtent> {
    if (this.used === 0 || from >= to) return;
    for (let index = this.find(from); index < this.used; index++) {
      const extent = this.at(index);
      if (extent.offset >= to) return;
      yield extent;
    }
  }

  /** The guest bytes whose place in the image file begins before `hostOffset` and ends behind it. */
  ownerOf(hostOffset: number): GuestExtent | undefined {
    for (let index = 0; index < this.used; index++) {
      const host = this.hosts[index] as number;
      if (host === NO_HOST || host > hostOffset || this.depths[index] !== 0) continue;
      const extent = this.at(index);
      if (hostOffset < host + extent.length) return extent;
    }
    return undefined;
  }

  private append(extent: ChainExtent): void {
    const { offset, length, kind, depth, hostOffset } = guestExtent(extent);
    const code = GUEST_KINDS.indexOf(kind);
    const host = hostOffset ?? NO_HOST;
    if (!this.continues(code, depth, host, offset)) {
      this.reserve();
      this.offsets[this.used] = offset;
      this.hosts[this.used] = host;
      this.kinds[this.used] = code;
      this.depths[this.used] = Math.min(depth, 255);
      this.used++;
    }
    this.covered = offset + length;
  }

  /** Compressed clusters stay single: their places say nothing about their neighbours. */
  private continues(code: number, depth: number, host: number, offset: number): boolean {
    const last = this.used - 1;
    if (last < 0 || this.kinds[last] !== code || this.depths[last] !== Math.min(depth, 255)) return false;
    if (GUEST_KINDS[code] === 'compressed') return false;
    const lastHost = this.hosts[last] as number;
    if (host === NO_HOST || lastHost === NO_HOST) return host === lastHost;
    return lastHost + (offset - (this.offsets[last] as number)) === host;
  }

  private reserve(): void {
    if (this.used < this.offsets.length) return;
    const length = Math.min(this.capacity, this.offsets.length * 2);
    this.offsets = grown(this.offsets, new Float64Array(length));
    this.hosts = grown(this.hosts, new Float64Array(length));
    this.kinds = grown(this.kinds, new Uint8Array(length));
    this.depths = grown(this.depths, new Uint8Array(length));
  }
}

function grown<T extends Float64Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** Data of other layers is `backing`, whatever it is there. */
function guestExtent({ offset, length, kind, depth, hostOffset }: ChainExtent): GuestExtent {
  const isData = kind === 'data' || kind === 'compressed';
  return { offset, length, kind: depth > 0 && isData ? 'backing' : kind, depth, hostOffset };
}
