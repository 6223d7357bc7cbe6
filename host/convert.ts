/**
 * Copies a virtual disk between images and raw files, several requests at a time.
 *
 * What the source knows to be zeros is not read, what turns out to be zeros is not written, unless the target holds
 * something else there. Writes begin in the order of the disk, so that a new image's clusters lie in that order too.
 */

import type { BlockFile } from './block-file.js';
import { mapChain } from './chain-map.js';
import { cancelled } from './errors.js';
import type { Image } from './image.js';
import { SerialQueue } from './serial-queue.js';

const DEFAULT_REQUESTS = 8;
const DEFAULT_SPARSE_LENGTH = 4096;
/** Bytes that one request reads at most: a whole number of clusters, however large those are. */
const PIECE_LENGTH = 2 * 1024 * 1024;
/** Milliseconds that a limited rate makes a request wait before it looks whether it is cancelled. */
const LONGEST_WAIT = 1000;

/** A stretch of a disk. Numbers are bytes. */
export interface CopyRange {
  readonly offset: number;
  readonly length: number;
  /** Known to read as zeros. */
  readonly zero: boolean;
  /** With `zero`: what the target has there is right already. */
  readonly kept?: boolean;
}

export interface CopySource {
  /** Bytes of the disk. */
  readonly length: number;
  /** What the disk consists of, in order, without gaps. */
  ranges(signal?: AbortSignal): AsyncIterable<CopyRange>;
  read(offset: number, target: Uint8Array): Promise<void>;
}

export interface CopyTarget {
  /** Bytes that are allocated together, a power of two up to 2 MiB: writes cover whole ones. */
  readonly granularity: number;
  write(offset: number, source: Uint8Array): Promise<void>;
  /** Makes a range read as zeros. Called only without `targetIsZero`. */
  writeZeroes(offset: number, length: number): Promise<void>;
}

export interface ConvertOptions {
  /** Everything in the target reads as zeros, as in a new one: zeros need not be written. Default: false. */
  targetIsZero?: boolean;
  /** Least bytes of zeros in a row that are not written, a multiple of 512; 0 writes all. Default: 4096. */
  sparseLength?: number;
  /** Requests at a time, default 8. Each holds 2 MiB, or `sparseLength` when that is more. */
  requests?: number;
  /** Bytes a second at most. */
  bytesPerSecond?: number;
  /** Called when bytes of the disk are done. */
  onProgress?: (done: number, total: number) => void;
  /** Aborting leaves the target half written. */
  signal?: AbortSignal;
}

/**
 * An open image as source, with what lies behind it; with `topOnly` only what it has itself, for a target that has the
 * same behind it. It stays the caller's.
 */
export function imageSource(image: Image, options: { topOnly?: boolean } = {}): CopySource {
  const { topOnly = false } = options;
  return {
    length: image.size,
    async *ranges(signal) {
      for await (const { offset, length, kind, depth } of mapChain(image, { offset: 0, length: image.size, signal })) {
        const kept = topOnly && (depth > 0 || kind === 'unallocated');
        yield { offset, length, zero: kept || kind === 'zero' || kind === 'unallocated', kept };
      }
    },
    read: (offset, target) => image.read(offset, target),
  };
}

/** Several disks, one behind the other. */
export function joinedSource(sources: readonly CopySource[]): CopySource {
  const starts: number[] = [];
  let length = 0;
  for (const source of sources) {
    starts.push(length);
    length += source.length;
  }
  return {
    length,
    async *ranges(signal) {
      for (const [index, source] of sources.entries()) {
        const start = starts[index] as number;
        for await (const range of source.ranges(signal)) yield { ...range, offset: range.offset + start };
      }
    },
    async read(offset, target) {
      for (const [index, source] of sources.entries()) {
        const start = starts[index] as number;
        const from = Math.max(offset, start);
        const to = Math.min(offset + target.length, start + source.length);
        if (from < to) await source.read(from - start, target.subarray(from - offset, to - offset));
      }
    },
  };
}

/** A part of a disk; what lies behind the end of the disk is not part of it. */
export function partOf(source: CopySource, offset: number, length: number): CopySource {
  return {
    length,
    async *ranges(signal) {
      for await (const range of source.ranges(signal)) {
        const from = Math.max(range.offset, offset);
        const to = Math.min(range.offset + range.length, offset + length);
        if (from < to) yield { ...range, offset: from - offset, length: to - from };
      }
    },
    read: (at, target) => source.read(offset + at, target),
  };
}

/** A file as source, byte by byte; what lies between its end and `length` is zeros. It stays the caller's. */
export function fileSource(file: BlockFile, length: number): CopySource {
  return {
    length,
    async *ranges() {
      if (length > 0) yield { offset: 0, length, zero: false };
    },
    read: (offset, target) => file.read(offset, target),
  };
}

/** An image that is open for writing as target, with `compress` for compressed clusters. It stays the caller's, who flushes it. */
export function imageTarget(image: Image, options: { compress?: boolean } = {}): CopyTarget {
  return {
    granularity: image.info.clusterSize,
    write: (offset, source) => (options.compress ? image.writeCompressed(offset, source) : image.write(offset, source)),
    writeZeroes: (offset, length) => image.writeZeroes(offset, length, { unmap: true }),
  };
}

/** A file that is open for writing as target. It stays the caller's, who gives it its length and flushes it. */
export function fileTarget(file: BlockFile): CopyTarget {
  return {
    granularity: 512,
    write: (offset, source) => file.write(offset, [source]),
    writeZeroes: (offset, length) => file.writeZeroes(offset, length),
  };
}

/**
 * Copies the whole disk. Ends when all writes have ended; flushing the target is the caller's.
 *
 * @throws what a source or target throws first, or CorralError ERR_CANCELLED
 */
export async function convert(source: CopySource, target: CopyTarget, options: ConvertOptions = {}): Promise<void> {
  await new Conversion(source, target, options).run();
}

/** A range that one request copies, and its place in the order of the writes. */
interface Piece extends CopyRange {
  /** Ends when the writes of all earlier pieces have begun. */
  readonly turn: Promise<void>;
  /** Gives the turn to the next piece. */
  readonly pass: () => void;
}

class Conversion {
  private readonly sparseLength: number;
  private readonly pieceLength: number;
  private readonly ranges: AsyncIterator<CopyRange>;
  private readonly queue = new SerialQueue();
  private turn: Promise<void> = Promise.resolve();
  private done = 0;
  private failed = false;
  /** Bytes that were copied, for the limit of the rate. */
  private copied = 0;
  private readonly begun = Date.now();

  constructor(
    private readonly source: CopySource,
    private readonly target: CopyTarget,
    private readonly options: ConvertOptions,
  ) {
    const sparseLength = options.sparseLength ?? DEFAULT_SPARSE_LENGTH;
    this.sparseLength = roundUp(sparseLength, target.granularity);
    this.pieceLength = Math.max(PIECE_LENGTH, this.sparseLength);
    const rounded = wholeUnits(source.ranges(options.signal), target.granularity, source.length);
    this.ranges = inPieces(rounded, this.pieceLength, (range) => this.needsBuffer(range))[Symbol.asyncIterator]();
  }

  /** Zeros that are written as data come out of a buffer too. */
  private needsBuffer(range: CopyRange): boolean {
    return !range.zero || (this.sparseLength === 0 && !range.kept);
  }

  async run(): Promise<void> {
    const count = this.options.requests ?? DEFAULT_REQUESTS;
    const workers = Array.from({ length: count }, () => this.work());
    try {
      await Promise.all(workers);
    } finally {
      // Nothing may be in flight when the caller closes its files.
      await Promise.allSettled(workers);
    }
  }

  private async work(): Promise<void> {
    let buffer: Uint8Array | undefined;
    for (let piece = await this.next(); piece !== undefined; piece = await this.next()) {
      try {
        if (this.needsBuffer(piece)) {
          buffer ??= new Uint8Array(this.pieceLength);
          await this.copy(piece, buffer.subarray(0, piece.length));
          await this.slowDown(piece.length);
        } else if (!this.options.targetIsZero && !piece.kept) {
          await this.target.writeZeroes(piece.offset, piece.length);
        }
      } catch (error) {
        this.failed = true;
        throw error;
      } finally {
        piece.pass();
      }
      this.done += piece.length;
      this.options.onProgress?.(this.done, this.source.length);
    }
  }

  /** Waits until so many bytes may have been copied. */
  private async slowDown(length: number): Promise<void> {
    const { bytesPerSecond } = this.options;
    if (bytesPerSecond === undefined || bytesPerSecond === 0) return;
    this.copied += length;
    const due = this.begun + (this.copied / bytesPerSecond) * 1000;
    while (Date.now() < due && !this.options.signal?.aborted) {
      const wait = Math.min(due - Date.now(), LONGEST_WAIT);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** The next piece of work; undefined when there is none, or no sense in it. */
  private next(): Promise<Piece | undefined> {
    return this.queue.run(async () => {
      if (this.failed) return undefined;
      const { signal } = this.options;
      if (signal?.aborted) throw cancelled(signal);
      const { value, done } = await this.ranges.next();
      if (done) return undefined;
      const turn = this.turn;
      let pass = (): void => {};
      this.turn = new Promise((resolve) => {
        pass = resolve;
      });
      return { ...value, turn, pass };
    });
  }

  private async copy(piece: Piece, buffer: Uint8Array): Promise<void> {
    await this.source.read(piece.offset, buffer);
    const whole = [{ start: 0, end: buffer.length, zero: false }];
    const runs = this.sparseLength === 0 ? whole : zeroRuns(buffer, this.sparseLength);
    await piece.turn;
    const writes: Promise<void>[] = [];
    for (const { start, end, zero } of runs) {
      const offset = piece.offset + start;
      if (!zero) writes.push(this.target.write(offset, buffer.subarray(start, end)));
      else if (!this.options.targetIsZero) writes.push(this.target.writeZeroes(offset, end - start));
    }
    piece.pass();
    const results = await Promise.allSettled(writes);
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
  }
}

/** Stretches without data that are kept in memory until it is known how far the data behind them reaches back. */
const MAXIMUM_GAPS = 1024;

/** The ranges with data widened to whole units of the target; what is left of the others between them. */
async function* wholeUnits(ranges: AsyncIterable<CopyRange>, unit: number, length: number): AsyncGenerator<CopyRange> {
  let gaps: CopyRange[] = [];
  /** Where the next range begins. */
  let position = 0;
  let held: { offset: number; end: number } | undefined;
  const upTo = function* (end: number): Generator<CopyRange> {
    if (held !== undefined) {
      yield { offset: held.offset, length: held.end - held.offset, zero: false };
      position = held.end;
      held = undefined;
    }
    for (const gap of gaps) {
      const from = Math.max(gap.offset, position);
      const to = Math.min(gap.offset + gap.length, end);
      if (from < to) yield { ...gap, offset: from, length: to - from };
    }
    position = Math.max(position, end);
  };
  for await (const range of ranges) {
    if (range.zero) {
      gaps.push(range);
      if (gaps.length < MAXIMUM_GAPS) continue;
      yield* upTo(Math.floor(range.offset / unit) * unit);
      gaps = [range];
      continue;
    }
    const offset = Math.max(position, Math.floor(range.offset / unit) * unit);
    const end = Math.min(roundUp(range.offset + range.length, unit), length);
    if (held !== undefined && offset <= held.end) {
      held.end = Math.max(held.end, end);
    } else {
      yield* upTo(offset);
      held = { offset, end };
    }
    gaps = [];
  }
  yield* upTo(length);
}

/** The ranges cut at multiples of `pieceLength`: those that need a buffer. */
async function* inPieces(
  ranges: AsyncIterable<CopyRange>,
  pieceLength: number,
  needsBuffer: (range: CopyRange) => boolean,
): AsyncGenerator<CopyRange> {
  for await (const range of ranges) {
    if (!needsBuffer(range)) {
      yield range;
      continue;
    }
    const end = range.offset + range.length;
    for (let offset = range.offset; offset < end; ) {
      const next = Math.min(end, (Math.floor(offset / pieceLength) + 1) * pieceLength);
      yield { offset, length: next - offset, zero: range.zero };
      offset = next;
    }
  }
}

interface Run {
  readonly start: number;
  end: number;
  readonly zero: boolean;
}

/** The bytes as runs of blocks that are all zeros, and of others. */
function zeroRuns(bytes: Uint8Array, blockLength: number): Run[] {
  const runs: Run[] = [];
  for (let start = 0; start < bytes.length; start += blockLength) {
    const end = Math.min(start + blockLength, bytes.length);
    const zero = isZero(bytes, start, end);
    const last = runs.at(-1);
    if (last?.zero === zero) last.end = end;
    else runs.push({ start, end, zero });
  }
  return runs;
}

/** Nothing but zeros between two places. Looks at four bytes at a time. */
export function isZero(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + start, (end - start) >> 2);
  for (let index = 0; index < words.length; index++) if (words[index] !== 0) return false;
  for (let index = end - ((end - start) & 3); index < end; index++) if (bytes[index] !== 0) return false;
  return true;
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
