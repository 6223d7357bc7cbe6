/** A `File` that somebody chose, or any other `Blob`, as a `BlockFile`: only what is asked for is read. */

import { CachedFile } from '../host/cached-file.js';
import { CorralError } from '../host/errors.js';

export interface BlobFileOptions {
  /** Where the file is, as far as that is known: names in an image begin there. Default: the name of a `File`. */
  location?: string;
  /** Bytes of memory for what has been read; default 4 MiB. */
  cacheSize?: number;
}

const BLOCK_SIZE = 65536;
const DEFAULT_CACHE_SIZE = 4 * 1024 * 1024;
const LONGEST_READ = 4 * 1024 * 1024;
/** A request of a browser costs as much as the bytes of several blocks. */
const READ_AHEAD = 512 * 1024;

/** Numbers of the blobs that have been opened: what tells one from another. */
const numbers = new WeakMap<Blob, number>();
let blobCount = 0;

export class BlobFile extends CachedFile {
  readonly identity: string;
  readonly location: string | undefined;
  private fetched = 0;

  constructor(
    private readonly blob: Blob,
    options: BlobFileOptions = {},
  ) {
    super({
      refusal: 'A chosen file cannot be written',
      length: blob.size,
      blockSize: BLOCK_SIZE,
      cacheSize: options.cacheSize ?? DEFAULT_CACHE_SIZE,
      longestFetch: LONGEST_READ,
      largestGap: BLOCK_SIZE,
      readAhead: READ_AHEAD,
      firstAhead: READ_AHEAD,
    });
    if (!numbers.has(blob)) numbers.set(blob, ++blobCount);
    this.identity = `blob:${numbers.get(blob)}`;
    this.location = options.location ?? (blob as Partial<File>).name;
  }

  /** Bytes that have been read of the blob. */
  get bytesRead(): number {
    return this.fetched;
  }

  /** Rejects with ERR_IO when the file has changed, or is gone, since it was chosen. */
  protected override async fetchRange(offset: number, length: number): Promise<Uint8Array> {
    this.fetched += length;
    let bytes: Uint8Array;
    try {
      bytes = new Uint8Array(await this.blob.slice(offset, offset + length).arrayBuffer());
    } catch (error) {
      const reason = `The file cannot be read, it may have changed since it was chosen: ${(error as Error).message}`;
      throw new CorralError('ERR_IO', { path: this.location, reason, cause: error });
    }
    if (bytes.length === length) return bytes;
    throw new CorralError('ERR_IO', { path: this.location, reason: 'The file is shorter than it was' });
  }
}
