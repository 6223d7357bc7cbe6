/** A file on an HTTP server as a `BlockFile`: read in ranges, as far as it is needed. */

import { CachedFile } from './cached-file.js';
import { type HttpOptions, HttpRanges } from './http-ranges.js';

export interface HttpFileOptions extends HttpOptions {
  /** Bytes of memory for what has been read; default 16 MiB. */
  cacheSize?: number;
  /** Bytes that are fetched ahead of a reader that goes forward, at most; default 1 MiB, or 0 with `maximumBytes`. */
  readAhead?: number;
}

const MIB = 1024 * 1024;
const BLOCK_SIZE = 65536;
const DEFAULT_CACHE_SIZE = 16 * MIB;
const DEFAULT_READ_AHEAD = MIB;
const LONGEST_FETCH = 4 * MIB;
/** A round trip takes as long as this many bytes on most lines. */
const LARGEST_GAP = 2 * BLOCK_SIZE;

export class HttpFile extends CachedFile {
  private constructor(
    private readonly ranges: HttpRanges,
    options: HttpFileOptions,
  ) {
    super({
      refusal: 'A file on a server cannot be written',
      length: ranges.length,
      blockSize: BLOCK_SIZE,
      cacheSize: options.cacheSize ?? DEFAULT_CACHE_SIZE,
      longestFetch: LONGEST_FETCH,
      largestGap: LARGEST_GAP,
      readAhead: options.readAhead ?? (options.maximumBytes === undefined ? DEFAULT_READ_AHEAD : 0),
    });
    this.cache.put(ranges.firstBytes);
  }

  /**
   * Opens the file at an http or https URL; in a page also a relative one. A redirect is followed once, and never from
   * https to http. A server without ranges makes this download the whole file, up to `maximumDownload`. Rejects with
   * ERR_INVALID_ARGUMENT, ERR_NOT_FOUND, ERR_PERMISSION, ERR_TOO_LARGE, ERR_UNSUPPORTED, ERR_CANCELLED or ERR_IO. A file
   * that changes on the server while it is open can be read no more: ERR_IO.
   */
  static async open(url: string, options: HttpFileOptions = {}): Promise<HttpFile> {
    return new HttpFile(await HttpRanges.open(url, BLOCK_SIZE, options), options);
  }

  get identity(): string {
    return this.ranges.url;
  }

  get location(): string {
    return this.ranges.url;
  }

  /** Bytes that have been received, of the file and in all. */
  get bytesReceived(): number {
    return this.ranges.bytesReceived;
  }

  override async close(): Promise<void> {
    this.ranges.close();
  }

  protected override fetchRange(offset: number, length: number): Promise<Uint8Array> {
    return this.ranges.range(offset, length);
  }
}
