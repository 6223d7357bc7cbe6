/** Where the bytes of a file system come from, how much of them may be used, and how its complaints look. */

import { CorralError, cancelled } from '../errors.js';
import { viewOf } from './reader.js';

/** A disk, or a stretch of one. */
export interface FileSystemSource {
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset` on, all within the size. The array is the file system's from then on. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** What a file system that a stranger has made may cost. */
export interface FileSystemLimits {
  /** Entries of one directory. Default 200,000. */
  readonly maxEntries: number;
  /** Bytes to read from the source in all. Default: no limit. */
  readonly maxRead: number;
}

export interface FileSystemOptions {
  signal?: AbortSignal | undefined;
  limits?: Partial<FileSystemLimits> | undefined;
}

const DEFAULT_LIMITS: FileSystemLimits = { maxEntries: 200_000, maxRead: Number.POSITIVE_INFINITY };

/** Tables are read in pages of so many bytes; so many are held. */
const PAGE_SIZE = 16384;
const PAGES = 128;

/** What is wrong with a file system, at a byte of it. ERR_IMAGE_CORRUPT. */
export function damaged(reason: string, offset?: number): CorralError {
  const where = offset === undefined ? '' : ` (at byte ${offset})`;
  return new CorralError('ERR_IMAGE_CORRUPT', { reason: `The file system is damaged: ${reason}${where}` });
}

/** ERR_UNSUPPORTED */
export function unsupported(reason: string): CorralError {
  return new CorralError('ERR_UNSUPPORTED', { reason });
}

/** Reads a source within its bounds and the limits; tables through a small cache. */
export class BoundedReader {
  readonly size: number;
  readonly limits: FileSystemLimits;
  private readonly pages = new Map<number, Uint8Array>();
  private bytesRead = 0;
  private readonly signal: AbortSignal | undefined;

  constructor(
    private readonly source: FileSystemSource,
    { signal, limits }: FileSystemOptions = {},
  ) {
    this.size = source.size;
    this.signal = signal;
    this.limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** Bytes of contents: not worth being held. Rejects when they are not all there. */
  async content(offset: number, length: number): Promise<Uint8Array> {
    if (this.signal?.aborted) throw cancelled(this.signal);
    this.refuseOutside(offset, length);
    this.bytesRead += length;
    if (this.bytesRead > this.limits.maxRead) {
      throw new CorralError('ERR_TOO_LARGE', {
        reason: 'The file system needs more bytes to be read than are allowed',
      });
    }
    return this.source.read(offset, length);
  }

  /** Bytes of tables, as a copy. */
  async bytes(offset: number, length: number): Promise<Uint8Array> {
    this.refuseOutside(offset, length);
    const target = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const page = await this.page(Math.floor(at / PAGE_SIZE));
      const piece = page.subarray(at % PAGE_SIZE, (at % PAGE_SIZE) + length - done);
      target.set(piece, done);
      done += piece.length;
    }
    return target;
  }

  async view(offset: number, length: number): Promise<DataView> {
    return viewOf(await this.bytes(offset, length));
  }

  private async page(index: number): Promise<Uint8Array> {
    const held = this.pages.get(index);
    if (held !== undefined) {
      // The newest stand last.
      this.pages.delete(index);
      this.pages.set(index, held);
      return held;
    }
    const offset = index * PAGE_SIZE;
    const page = await this.content(offset, Math.min(PAGE_SIZE, this.size - offset));
    this.pages.set(index, page);
    const [oldest] = this.pages.keys();
    if (this.pages.size > PAGES && oldest !== undefined) this.pages.delete(oldest);
    return page;
  }

  private refuseOutside(offset: number, length: number): void {
    if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size) return;
    throw damaged('something lies outside of it', offset);
  }
}
