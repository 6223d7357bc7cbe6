/** What every kind of file implements: bytes at offsets, and when they are durable. All numbers are bytes. */

/** A stretch of a file, up to `end`. A hole reads as zeros. */
export interface FileExtent {
  readonly end: number;
  readonly hole: boolean;
}

/**
 * One open file. Calls may overlap in time; the engine never has two overlapping writes to the same bytes in flight.
 * A method that fails rejects; an error whose `code` is `ENOSPC` means that the storage is full.
 */
export interface BlockFile {
  /** What lies beyond the end of the file reads as zeros once it grows: true for a regular file, false for a device. */
  readonly zeroBeyondEnd: boolean;
  readonly readOnly: boolean;
  /** The same for two open files when they are one, and different when they are not; for finding loops. */
  readonly identity?: string;
  /** Where the file is: names that an image in it has for other files are relative to that. */
  readonly location?: string;
  /** Length of the file now. */
  size(): Promise<number>;
  /** Fills the whole target; what lies beyond the end of the file is zeros. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Writes all pieces, one behind the other, as one write; the file grows as needed. The pieces stay the caller's. */
  write(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Makes a range read as zeros; its space stays allocated, and the file grows to hold it. */
  writeZeroes(offset: number, length: number): Promise<void>;
  /** The range is not needed any more: it reads as zeros or as before. The file keeps its length. */
  discard(offset: number, length: number): Promise<void>;
  /** Makes the file exactly this long. */
  truncate(length: number): Promise<void>;
  /** Everything that was written by calls that ended before this one began is durable when it ends. */
  flush(): Promise<void>;
  /**
   * The hole, or the stretch of bytes that may be anything, that `offset` is in. Undefined where nothing is known, and
   * behind the end of the file. A file may have no such method at all.
   */
  extentAt?(offset: number): FileExtent | undefined;
  /** Releases the file. Nothing else may be called afterwards. */
  close(): Promise<void>;
}

/** Zeros, to be written from: nobody may change them. */
export const ZEROES = new Uint8Array(65536);

/** `length` zeros as pieces of the one shared buffer, appended to `pieces`. */
export function appendZeroes(pieces: Uint8Array[], length: number): void {
  for (let left = length; left > 0; left -= ZEROES.length)
    pieces.push(ZEROES.subarray(0, Math.min(left, ZEROES.length)));
}

/** A stretch of a file from `offset` on. */
export interface FileStretch {
  readonly offset: number;
  readonly length: number;
  readonly hole: boolean;
}

/** What the file consists of from `offset` on, in order and without gaps; what lies behind its end counts as a hole. */
export function* stretchesOf(
  file: Pick<BlockFile, 'extentAt'>,
  { offset, length, fileLength }: { offset: number; length: number; fileLength: number },
): Generator<FileStretch> {
  const wanted = offset + length;
  const whole = Math.min(wanted, Math.max(offset, fileLength));
  for (let start = offset; start < whole; ) {
    const extent = file.extentAt?.(start) ?? { end: whole, hole: false };
    const end = Math.min(Math.max(extent.end, start + 1), whole);
    yield { offset: start, length: end - start, hole: extent.hole };
    start = end;
  }
  if (whole < wanted) yield { offset: whole, length: wanted - whole, hole: true };
}
