/**
 * Reads of a file that answers slowly and never changes: blocks are kept, near ones are fetched together, and readers that
 * go forward find the next ones there. All numbers are bytes unless they are called blocks.
 */

/** Fetches exactly this stretch, which lies inside the file. */
export type FetchRange = (offset: number, length: number) => Promise<Uint8Array>;

export interface RangeCacheOptions {
  /** Of the file. */
  readonly length: number;
  readonly fetchRange: FetchRange;
  /** What is fetched and kept together, a power of two. */
  readonly blockSize: number;
  /** Memory for blocks; at least one is kept. */
  readonly cacheSize: number;
  /** Most that is fetched at once. */
  readonly longestFetch: number;
  /** Bytes nobody asked for that one fetch may take along, rather than being two fetches. */
  readonly largestGap: number;
  /** Most that is fetched ahead of each reader that goes forward. */
  readonly readAhead: number;
  /** What that begins with; it doubles from there. Default: one block. */
  readonly firstAhead?: number | undefined;
}

/** Readers that may go forward at the same time: a disk is copied by several requests. */
const MOST_READERS = 8;

/** Somebody who reads one block after the other. */
interface Reader {
  /** Where it would go on. */
  nextBlock: number;
  /** Blocks that were fetched ahead of it the last time. */
  aheadBlocks: number;
}

export class RangeCache {
  /** By number; the one that was used last comes last. */
  private readonly blocks = new Map<number, Uint8Array>();
  private readonly capacity: number;
  /** Blocks on their way, and those that will be. */
  private readonly coming = new Map<number, Coming>();
  /** Blocks to be fetched once everybody who is about to read has said what. */
  private wanted: number[] = [];
  /** The one that has read last comes first. */
  private readers: Reader[] = [];

  constructor(private readonly options: RangeCacheOptions) {
    this.capacity = Math.max(1, Math.floor(options.cacheSize / options.blockSize));
  }

  /** Fills the target; behind the end of the file are zeros. Rejects with what a fetch rejects with. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    const { length, cacheSize } = this.options;
    const inside = Math.max(0, Math.min(target.length, length - offset));
    target.fill(0, inside);
    if (inside === 0) return;
    const bytes = target.subarray(0, inside);
    // It would push out everything else, and be gone itself before it is read again.
    if (inside > cacheSize / 4) await this.readPast(offset, bytes);
    else await this.readBlocks(offset, bytes);
  }

  /** Keeps the first block, which somebody has read already: the whole of it, or nothing. */
  put(first: Uint8Array): void {
    const { blockSize, length } = this.options;
    if (first.length > 0 && first.length === Math.min(blockSize, length)) this.keep(0, first);
  }

  private async readPast(offset: number, target: Uint8Array): Promise<void> {
    const { longestFetch, fetchRange } = this.options;
    const pieces: Promise<void>[] = [];
    for (let done = 0; done < target.length; done += longestFetch) {
      const piece = target.subarray(done, done + longestFetch);
      pieces.push(fetchRange(offset + done, piece.length).then((bytes) => piece.set(bytes)));
    }
    // Nobody may write to the target once this has ended.
    await Promise.allSettled(pieces);
    await Promise.all(pieces);
  }

  private async readBlocks(offset: number, target: Uint8Array): Promise<void> {
    const { blockSize } = this.options;
    const first = Math.floor(offset / blockSize);
    const last = Math.floor((offset + target.length - 1) / blockSize);
    const found: (Uint8Array | Promise<Uint8Array>)[] = [];
    let misses = false;
    for (let block = first; block <= last; block++) {
      misses ||= !this.blocks.has(block) && !this.coming.has(block);
      found.push(this.use(block) ?? this.want(block));
    }
    this.lookAhead(first, last, misses);
    for (const [index, entry] of found.entries()) {
      const bytes = entry instanceof Uint8Array ? entry : await entry;
      const start = (first + index) * blockSize;
      const from = Math.max(offset, start);
      const to = Math.min(offset + target.length, start + bytes.length);
      target.set(bytes.subarray(from - start, to - start), from - offset);
    }
  }

  /** A reader that goes forward, and has just had to wait, gets twice as much as last time. */
  private lookAhead(first: number, last: number, misses: boolean): void {
    const { blockSize, readAhead, firstAhead = blockSize, length } = this.options;
    const known = this.readers.find(({ nextBlock }) => first === nextBlock || first === nextBlock - 1);
    const reader = known ?? { nextBlock: 0, aheadBlocks: 0 };
    reader.nextBlock = last + 1;
    this.readers = [reader, ...this.readers.filter((other) => other !== reader)].slice(0, MOST_READERS);
    if (known === undefined || !misses) return;
    // More than half of the memory would push out what the readers have not come to.
    const forward = this.readers.filter(({ aheadBlocks }) => aheadBlocks > 0).length;
    const most = Math.min(Math.floor(readAhead / blockSize), Math.floor(this.capacity / 2 / Math.max(1, forward)));
    reader.aheadBlocks = Math.min(most, Math.max(firstAhead / blockSize, reader.aheadBlocks * 2));
    const end = Math.min(last + 1 + reader.aheadBlocks, Math.ceil(length / blockSize));
    for (let block = last + 1; block < end; block++) if (!this.blocks.has(block)) this.want(block);
  }

  /** A block that is there; it becomes the one that was used last. */
  private use(block: number): Uint8Array | undefined {
    const bytes = this.blocks.get(block);
    if (bytes === undefined) return undefined;
    this.blocks.delete(block);
    this.blocks.set(block, bytes);
    return bytes;
  }

  private want(block: number): Promise<Uint8Array> {
    const known = this.coming.get(block);
    if (known !== undefined) return known.bytes;
    const coming = new Coming();
    this.coming.set(block, coming);
    if (this.wanted.length === 0) queueMicrotask(() => this.fetchWanted());
    this.wanted.push(block);
    return coming.bytes;
  }

  private fetchWanted(): void {
    const { blockSize, longestFetch, largestGap } = this.options;
    const wanted = this.wanted.sort((a, b) => a - b);
    this.wanted = [];
    const mostBlocks = Math.max(1, Math.floor(longestFetch / blockSize));
    const mostBetween = Math.floor(largestGap / blockSize);
    for (let index = 0; index < wanted.length; ) {
      const first = wanted[index] as number;
      let last = first;
      while (++index < wanted.length) {
        const next = wanted[index] as number;
        if (next - last - 1 > mostBetween || next - first >= mostBlocks) break;
        last = next;
      }
      void this.fetchBlocks(first, last);
    }
  }

  /** All blocks from the first to the last: those between them that nobody wants are kept, too. */
  private async fetchBlocks(first: number, last: number): Promise<void> {
    const { blockSize, length, fetchRange } = this.options;
    const start = first * blockSize;
    try {
      const bytes = await fetchRange(start, Math.min((last + 1) * blockSize, length) - start);
      for (let block = first; block <= last; block++) {
        // A copy of its own: a part would keep the whole in memory.
        const own = bytes.slice((block - first) * blockSize, (block - first + 1) * blockSize);
        this.keep(block, own);
        this.coming.get(block)?.resolve(own);
        this.coming.delete(block);
      }
    } catch (error) {
      for (let block = first; block <= last; block++) {
        this.coming.get(block)?.reject(error);
        this.coming.delete(block);
      }
    }
  }

  private keep(block: number, bytes: Uint8Array): void {
    this.blocks.delete(block);
    this.blocks.set(block, bytes);
    for (const oldest of this.blocks.keys()) {
      if (this.blocks.size <= this.capacity) return;
      this.blocks.delete(oldest);
    }
  }
}

/** A block on its way. */
class Coming {
  resolve!: (bytes: Uint8Array) => void;
  reject!: (error: unknown) => void;
  readonly bytes = new Promise<Uint8Array>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });

  constructor() {
    // It may have been fetched ahead, for nobody yet.
    this.bytes.catch(() => undefined);
  }
}
