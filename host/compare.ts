/** Whether two disks hold the same bytes. */

import { cancelled } from './errors.js';

/** Bytes that are read at once. */
const PIECE_LENGTH = 2 * 1024 * 1024;
const SECTOR = 512;

/** A stretch of a disk. Numbers are bytes. */
export interface ComparedExtent {
  readonly offset: number;
  readonly length: number;
  readonly kind: 'data' | 'zero' | 'unallocated' | 'compressed';
}

/** One of the two. */
export interface ComparedDisk {
  /** Bytes. */
  readonly size: number;
  /** All stretches in order, without gaps. */
  extents(): AsyncIterable<ComparedExtent>;
  read(offset: number, target: Uint8Array): Promise<void>;
}

export interface CompareOptions {
  /** What is allocated must be the same, too. */
  strict?: boolean;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** The first sector that differs: in its bytes, or, with `strict`, in whether there is something. */
export interface Difference {
  readonly what: 'content' | 'allocation';
  readonly offset: number;
}

/**
 * The first difference of two disks; undefined when there is none. What one has behind the end of the other has to be
 * zeros. Reads what neither knows to be zeros.
 */
export async function compareDisks(
  first: ComparedDisk,
  second: ComparedDisk,
  options: CompareOptions = {},
): Promise<Difference | undefined> {
  const { strict = false, onProgress, signal } = options;
  const total = Math.max(first.size, second.size);
  const common = Math.min(first.size, second.size);
  const [one, two] = [new DiskWalk(first), new DiskWalk(second)];
  for (let offset = 0; offset < total; ) {
    if (signal?.aborted) throw cancelled(signal);
    const [left, right] = [await one.at(offset), await two.at(offset)];
    const end = Math.min(left.end, right.end, total);
    if (strict && offset < common && left.kind !== right.kind) return { what: 'allocation', offset };
    if (left.zero && right.zero) {
      offset = end;
    } else {
      const length = Math.min(end - offset, PIECE_LENGTH);
      const [mine, other] = await Promise.all([
        one.bytes(offset, length, left.zero),
        two.bytes(offset, length, right.zero),
      ]);
      const at = differenceOf(mine, other);
      if (at !== undefined) return { what: 'content', offset: offset + Math.floor(at / SECTOR) * SECTOR };
      offset += length;
    }
    onProgress?.(offset, total);
  }
  return undefined;
}

/** One disk, walked from its beginning to its end. */
export class DiskWalk {
  private readonly buffer = new Uint8Array(PIECE_LENGTH);
  private readonly iterator: AsyncIterator<ComparedExtent>;
  private extent: ComparedExtent | undefined;

  constructor(private readonly disk: ComparedDisk) {
    this.iterator = disk.extents()[Symbol.asyncIterator]();
  }

  /** What there is at `offset`, and up to where. Nothing but zeros behind the end. */
  async at(offset: number): Promise<{ end: number; zero: boolean; kind: ComparedExtent['kind'] }> {
    if (offset >= this.disk.size) return { end: Number.POSITIVE_INFINITY, zero: true, kind: 'unallocated' };
    while (this.extent === undefined || this.extent.offset + this.extent.length <= offset) {
      const { value, done } = await this.iterator.next();
      if (done) return { end: this.disk.size, zero: false, kind: 'data' };
      this.extent = value;
    }
    const { kind } = this.extent;
    const end = this.extent.offset + this.extent.length;
    return { end, zero: kind === 'zero' || kind === 'unallocated', kind };
  }

  /** At most 2 MiB, in a buffer that the next call fills anew. */
  async bytes(offset: number, length: number, zero: boolean): Promise<Uint8Array> {
    const target = this.buffer.subarray(0, length);
    if (zero) target.fill(0);
    else await this.disk.read(offset, target);
    return target;
  }
}

/** The first byte that differs, or the first of the four among which it is; both are of one length. */
export function differenceOf(first: Uint8Array, second: Uint8Array): number | undefined {
  const count = first.length >> 2;
  const [left, right] = [first, second].map((bytes) => new Int32Array(bytes.buffer, bytes.byteOffset, count)) as [
    Int32Array,
    Int32Array,
  ];
  for (let index = 0; index < count; index++) if (left[index] !== right[index]) return index * 4;
  for (let index = count * 4; index < first.length; index++) if (first[index] !== second[index]) return index;
  return undefined;
}
