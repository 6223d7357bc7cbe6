/** A disk that keeps what it reads from behind itself. */

import type { Preallocation } from '../../preallocate.js';
import { SerialQueue } from '../../serial-queue.js';
import { checkRange, type Disk, type DiskRange } from './disk.js';

/** Bytes that are copied at a time. */
const PIECE = 1 << 20;

export class CopyOnReadDisk implements Disk {
  /** A copy must not overtake a write, or the other way round. */
  private readonly writes = new SerialQueue();

  /**
   * @param disk belongs to this one from here on
   * @param unit what is copied begins and ends at multiples of this
   */
  constructor(
    private readonly disk: Disk,
    private readonly unit: number,
  ) {}

  get readOnly(): boolean {
    return this.disk.readOnly;
  }

  corruption(error: unknown, changing: boolean): string | undefined {
    return this.disk.corruption(error, changing);
  }

  facts(): string {
    return this.disk.facts();
  }

  length(): number {
    return this.disk.length();
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    checkRange(this, offset, target.length);
    if (target.length > 0) await this.writes.run(() => this.keep(offset, target.length));
    await this.disk.read(offset, target);
  }

  write(offset: number, source: Uint8Array, options: { durable: boolean }): Promise<void> {
    return this.writes.run(() => this.disk.write(offset, source, options));
  }

  writeCompressed(offset: number, source: Uint8Array): Promise<void> {
    return this.writes.run(() => this.disk.writeCompressed(offset, source));
  }

  readVmState(offset: number, target: Uint8Array): Promise<void> {
    return this.disk.readVmState(offset, target);
  }

  writeVmState(offset: number, source: Uint8Array): Promise<void> {
    return this.disk.writeVmState(offset, source);
  }

  writeZeroes(offset: number, length: number, options: { unmap: boolean; durable: boolean }): Promise<void> {
    return this.writes.run(() => this.disk.writeZeroes(offset, length, options));
  }

  discard(offset: number, length: number): Promise<void> {
    return this.writes.run(() => this.disk.discard(offset, length));
  }

  flush(): Promise<void> {
    return this.disk.flush();
  }

  truncate(length: number, preallocation: Preallocation): Promise<void> {
    return this.writes.run(() => this.disk.truncate(length, preallocation));
  }

  map(offset: number, length: number): AsyncIterable<DiskRange> {
    return this.disk.map(offset, length);
  }

  close(): Promise<void> {
    return this.disk.close();
  }

  private async keep(offset: number, length: number): Promise<void> {
    const start = Math.floor(offset / this.unit) * this.unit;
    const end = Math.min(Math.ceil((offset + length) / this.unit) * this.unit, this.length());
    const missing: DiskRange[] = [];
    for await (const range of this.disk.map(start, end - start)) if (!range.allocated) missing.push(range);
    for (const range of missing) {
      for (let done = 0; done < range.length; done += PIECE) {
        await this.copy(range.offset + done, Math.min(PIECE, range.length - done));
      }
    }
  }

  private async copy(offset: number, length: number): Promise<void> {
    const bytes = new Uint8Array(length);
    await this.disk.read(offset, bytes);
    if (bytes.every((byte) => byte === 0))
      await this.disk.writeZeroes(offset, length, { unmap: false, durable: false });
    else await this.disk.write(offset, bytes, { durable: false });
  }
}
