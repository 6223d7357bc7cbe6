/** An image file in memory that notices what no image may make the engine do. */

import { MemoryFile } from '../../host/memory-file.js';

export interface FileLimits {
  /** The file may be written. */
  readonly write: boolean;
  /** Bytes that the storage has; a larger file is an error of the storage. */
  readonly capacity: number;
  /** No write may even ask for bytes behind this. */
  readonly length: number;
  /** The last cluster may be cut short, and a compressed cluster that begins inside the file may claim two more. */
  readonly clusterSize: number;
  /** Calls in all. */
  readonly calls: number;
}

/** Every call is counted and its place judged; the first offence is kept, and that call fails. */
export class WatchedFile extends MemoryFile {
  /** What the engine did that it must never do. */
  offence: string | undefined;
  calls = 0;
  /** Length of the file now; `size` without a promise. */
  end: number;

  constructor(
    contents: Uint8Array,
    private limits: FileLimits,
  ) {
    super(contents);
    this.end = contents.length;
  }

  /** From here on other limits hold; calls count from zero. */
  restart(limits: FileLimits): void {
    this.limits = limits;
    this.calls = 0;
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.count(`read ${target.length} at ${offset}`);
    const { clusterSize } = this.limits;
    const end = Math.ceil(this.end / clusterSize) * clusterSize;
    const inside = offset < end && offset + target.length <= end + 2 * clusterSize;
    if (offset !== 0 && !inside) this.refuse(`read of ${target.length} bytes at ${offset} in a file of ${this.end}`);
    return super.read(offset, target);
  }

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.change('write', offset, length);
    return super.write(offset, pieces);
  }

  override async writeZeroes(offset: number, length: number): Promise<void> {
    this.change('writeZeroes', offset, length);
    return super.writeZeroes(offset, length);
  }

  override async discard(offset: number, length: number): Promise<void> {
    this.count(`discard ${length} at ${offset}`);
    if (!this.limits.write) this.refuse(`discard of ${length} bytes at ${offset} in a file open for reading`);
    return super.discard(offset, length);
  }

  override async truncate(length: number): Promise<void> {
    this.change('truncate', length, 0);
    await super.truncate(length);
    this.end = length;
  }

  override async flush(): Promise<void> {
    this.count('flush');
  }

  private change(what: string, offset: number, length: number): void {
    this.count(`${what} ${length} at ${offset}`);
    if (!this.limits.write) this.refuse(`${what} of ${length} bytes at ${offset} in a file open for reading`);
    if (!(offset >= 0 && offset + length <= this.limits.length)) {
      this.refuse(`${what} of ${length} bytes at ${offset}, in a file of ${this.end} bytes`);
    }
    if (offset + length > this.limits.capacity) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    this.end = Math.max(this.end, offset + length);
  }

  private count(call: string): void {
    if (++this.calls > this.limits.calls) this.refuse(`more than ${this.limits.calls} calls, the last: ${call}`);
  }

  private refuse(offence: string): never {
    this.offence ??= offence;
    throw new Error(offence);
  }
}
