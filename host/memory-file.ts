/** A file in memory: for tests, and for images that are small enough to be held whole. */

import type { BlockFile } from './block-file.js';
import { CorralError } from './errors.js';

const FIRST_CAPACITY = 65536;

export class MemoryFile implements BlockFile {
  readonly zeroBeyondEnd: boolean = true;
  private bytes: Uint8Array;
  private length: number;

  /** Takes the array over: it belongs to the file from here on. */
  constructor(
    contents: Uint8Array = new Uint8Array(0),
    readonly readOnly = false,
  ) {
    this.bytes = contents;
    this.length = contents.length;
  }

  /** A copy of everything in the file. */
  contents(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }

  async size(): Promise<number> {
    return this.length;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const available = Math.max(0, Math.min(target.length, this.length - offset));
    target.set(this.bytes.subarray(offset, offset + available));
    target.fill(0, available);
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.reserve(offset + length);
    let position = offset;
    for (const piece of pieces) {
      this.bytes.set(piece, position);
      position += piece.length;
    }
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.reserve(offset + length);
    this.bytes.fill(0, offset, offset + length);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.refuseReadOnly();
    this.bytes.fill(0, offset, Math.min(offset + length, this.length));
  }

  async truncate(length: number): Promise<void> {
    this.refuseReadOnly();
    if (length < this.length) this.bytes.fill(0, length, this.length);
    else this.reserve(length);
    this.length = length;
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {}

  /** Makes the file at least this long. */
  private reserve(length: number): void {
    this.refuseReadOnly();
    if (length > this.bytes.length) {
      const larger = new Uint8Array(Math.max(length, this.bytes.length * 2, FIRST_CAPACITY));
      larger.set(this.bytes.subarray(0, this.length));
      this.bytes = larger;
    }
    this.length = Math.max(this.length, length);
  }

  private refuseReadOnly(): void {
    if (this.readOnly) throw new CorralError('ERR_READ_ONLY', { reason: 'The file is open read-only' });
  }
}
