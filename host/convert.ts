/**
 * Copies a virtual disk between images and raw files, several requests at a time.
 *
 * What the source knows to be zeros is not read, what turns out to be zeros is not written, unless the target holds
 * something else there. Writes begin in the order of the disk, so that a new image's clusters lie in that order too.
 */

import type { BlockFile } from './block-file.js';
import type { CopySource } from './convert-source.js';
import { type CopyRange, inPieces, type Place, wholeUnits } from './copy-range.js';
import { cancelled } from './errors.js';
import type { Image } from './image.js';
import { SerialQueue } from './serial-queue.js';

const DEFAULT_REQUESTS = 4;
const DEFAULT_SPARSE_LENGTH = 4096;
/** Bytes that one request reads at most: a whole number of clusters, however large those are. */
const PIECE_LENGTH = 2 * 1024 * 1024;
/** Parts of a cluster that are allocated one by one, where the L2 entries describe them. */
const SUBCLUSTERS = 32;
/** Bytes of a page of WebAssembly, which is some of the processor's. */
const PAGE = 65536;
/** Milliseconds that a limited rate makes a request wait before it looks whether it is cancelled. */
const LONGEST_WAIT = 1000;

export interface CopyTarget {
  /** Bytes that are allocated together, a power of two up to 2 MiB: writes cover whole ones. */
  readonly granularity: number;
  write(offset: number, source: Uint8Array): Promise<void>;
  /** Makes a range read as zeros. Called only without `targetIsZero`. */
  writeZeroes(offset: number, length: number): Promise<void>;
  /** The file whose bytes are the target's, at the same offsets, where there is one. */
  readonly file?: BlockFile;
}

/** What a host does faster than by reads and writes of this thread. */
export interface CopyHelper {
  /**
   * Fills `places` with where stretches of blocks begin that are not all zeros, and where they end, by turns; returns how
   * many places there are.
   */
  findData(bytes: Uint8Array, blockLength: number, places: Int32Array): number;
  /**
   * Copies from one file to another, both of them open and page cached; blocks of zeros, counted from the start, are left
   * out unless `blockLength` is 0. Resolves with false when it could not, or not all of it.
   *
   * @param shares both files may have the same blocks of their file system: it does not look for zeros then
   */
  copy(from: Place, to: Place, length: number, how: { blockLength: number; shares: boolean }): Promise<boolean>;
}

export interface ConvertOptions {
  /** Everything in the target reads as zeros, as in a new one: zeros need not be written. Default: false. */
  targetIsZero?: boolean;
  /** Least bytes of zeros in a row that are not written, a multiple of 512; 0 writes all. Default: 4096. */
  sparseLength?: number;
  /** Writes begin as soon as their bytes are there, in any order. Default: in the order of the disk. */
  anyOrder?: boolean | undefined;
  /** Requests at a time, default 4. Each holds 2 MiB, or `sparseLength` when that is more. */
  requests?: number;
  /** Bytes a second at most. */
  bytesPerSecond?: number;
  /** Called when bytes of the disk are done. */
  onProgress?: (done: number, total: number) => void;
  /** Aborting leaves the target half written. */
  signal?: AbortSignal;
  /** From file to file, the file system copies, and shares blocks where it can. Default: bytes are read and written. */
  offload?: boolean | undefined;
  /** Default: none. */
  helper?: CopyHelper | undefined;
  /** What is copied passes through memory that threads share: then codecs in other threads write there by themselves. */
  sharedMemory?: boolean | undefined;
}

/** An image that is open for writing as target, with `compress` for compressed clusters. It stays the caller's, who flushes it. */
export function imageTarget(image: Image, options: { compress?: boolean } = {}): CopyTarget {
  const { clusterSize, extendedL2 } = image.info;
  return {
    granularity: extendedL2 && !options.compress ? clusterSize / SUBCLUSTERS : clusterSize,
    write: (offset, source) => (options.compress ? image.writeCompressed(offset, source) : image.write(offset, source)),
    writeZeroes: (offset, length) => image.writeZeroes(offset, length, { unmap: true }),
  };
}

/** A file that is open for writing as target. It stays the caller's, who gives it its length and flushes it. */
export function fileTarget(file: BlockFile): CopyTarget {
  return {
    granularity: 512,
    file,
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
  /** Ranges that have a place are copied by the helper. */
  private readonly copies: boolean;
  private readonly queue = new SerialQueue();
  private turn: Promise<void> = Promise.resolve();
  private readonly requests: number;
  /** Of all requests; made when it is needed. */
  private memory: WebAssembly.Memory | undefined;
  private buffersTaken = 0;
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
    this.requests = options.requests ?? DEFAULT_REQUESTS;
    this.sparseLength = roundUp(sparseLength, target.granularity);
    this.pieceLength = Math.max(PIECE_LENGTH, this.sparseLength);
    const { helper, signal, targetIsZero } = options;
    // What is left out has to be zeros already.
    this.copies = helper !== undefined && target.file !== undefined && targetIsZero === true;
    const units = { unit: target.granularity, length: source.length, keepPlaces: this.copies };
    const rounded = wholeUnits(source.ranges(signal), units);
    this.ranges = inPieces(rounded, this.pieceLength, (range) => this.needsBuffer(range))[Symbol.asyncIterator]();
  }

  /** Zeros that are written as data come out of a buffer too. */
  private needsBuffer(range: CopyRange): boolean {
    return !range.zero || (this.sparseLength === 0 && !range.kept);
  }

  async run(): Promise<void> {
    const workers = Array.from({ length: this.requests }, () => this.work());
    try {
      await Promise.all(workers);
    } finally {
      // Nothing may be in flight when the caller closes its files.
      await Promise.allSettled(workers);
    }
  }

  private async work(): Promise<void> {
    let workspace: Workspace | undefined;
    for (let piece = await this.next(); piece !== undefined; piece = await this.next()) {
      try {
        if (this.needsBuffer(piece)) {
          if (!(await this.copyPlace(piece))) {
            workspace ??= new Workspace(this.takeBuffer(), this.sparseLength, this.options.helper);
            await this.copy(piece, workspace);
          }
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

  /** Memory for one request: whole pages, to and from which kernels copy faster than anywhere else. */
  private takeBuffer(): Uint8Array {
    const stride = roundUp(this.pieceLength, PAGE);
    const pages = (this.requests * stride) / PAGE;
    const shared = this.options.sharedMemory ?? false;
    this.memory ??= new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
    return new Uint8Array(this.memory.buffer, this.buffersTaken++ * stride, this.pieceLength);
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

  /** From file to file, where both are known. When that fails, the other way fails too, and knows more about why. */
  private async copyPlace({ place, offset, length }: Piece): Promise<boolean> {
    const { helper } = this.options;
    const { file } = this.target;
    if (!this.copies || place === undefined || file === undefined || helper === undefined) return false;
    const how = { blockLength: this.sparseLength, shares: this.options.offload ?? false };
    return helper.copy(place, { file, offset }, length, how);
  }

  private async copy(piece: Piece, workspace: Workspace): Promise<void> {
    const buffer = workspace.bytes(piece.length);
    await this.source.read(piece.offset, buffer);
    const runs = workspace.runs(buffer);
    if (!this.options.anyOrder) await piece.turn;
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

interface Run {
  readonly start: number;
  end: number;
  readonly zero: boolean;
}

/** The memory of one request. */
class Workspace {
  private readonly places: Int32Array;

  /** @param sparseLength bytes of a block that is left out when it is zeros; 0 when none is */
  constructor(
    private readonly buffer: Uint8Array,
    private readonly sparseLength: number,
    private readonly helper: CopyHelper | undefined,
  ) {
    const { length } = buffer;
    this.places = new Int32Array(helper === undefined || sparseLength === 0 ? 0 : Math.ceil(length / sparseLength) + 1);
  }

  bytes(length: number): Uint8Array {
    return this.buffer.subarray(0, length);
  }

  /** The bytes as runs of blocks that are all zeros, and of others. */
  runs(bytes: Uint8Array): Run[] {
    if (this.sparseLength === 0) return [{ start: 0, end: bytes.length, zero: false }];
    if (this.helper === undefined) return zeroRuns(bytes, this.sparseLength);
    const { places } = this;
    const count = this.helper.findData(bytes, this.sparseLength, places);
    const runs: Run[] = [];
    let end = 0;
    for (let index = 0; index < count; index += 2) {
      const [start, next] = [places[index] as number, places[index + 1] as number];
      if (start > end) runs.push({ start: end, end: start, zero: true });
      runs.push({ start, end: next, zero: false });
      end = next;
    }
    if (end < bytes.length) runs.push({ start: end, end: bytes.length, zero: true });
    return runs;
  }
}

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
