/** A file in memory that can lose power: of what no flush has covered, any sector may be lost. */

import { MemoryFile } from '../../host/index.js';

const SECTOR = 512;

/** A file that knows which of its bytes are durable. */
export class CuttableFile extends MemoryFile {
  private durable: Uint8Array;
  private pending: { offset: number; bytes: Uint8Array }[] = [];

  constructor(
    bytes: Uint8Array,
    private readonly flushes = true,
  ) {
    super(bytes);
    this.durable = bytes.slice();
  }

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.note(offset, Buffer.concat(pieces));
    return super.write(offset, pieces);
  }

  override async writeZeroes(offset: number, length: number): Promise<void> {
    this.note(offset, new Uint8Array(length));
    return super.writeZeroes(offset, length);
  }

  /** What is discarded may stay as it was. */
  override async discard(offset: number, length: number): Promise<void> {
    this.note(offset, new Uint8Array(Math.max(0, Math.min(length, (await this.size()) - offset))));
    return super.discard(offset, length);
  }

  override async flush(): Promise<void> {
    if (!this.flushes) return;
    this.durable = this.survivors(() => 1);
    this.pending = [];
  }

  /** Each sector that was written since the last flush is there, or it is not. */
  survivors(random: () => number, keeps = 0.5): Uint8Array {
    const end = Math.max(this.durable.length, ...this.pending.map(({ offset, bytes }) => offset + bytes.length));
    const bytes = new Uint8Array(end);
    bytes.set(this.durable);
    for (const write of this.pending) {
      const whole = random() < 0.3;
      for (let at = 0; at < write.bytes.length; at += SECTOR) {
        if (whole || random() >= keeps) bytes.set(write.bytes.subarray(at, at + SECTOR), write.offset + at);
      }
    }
    return bytes;
  }

  /** Called after every change. */
  protected note(offset: number, bytes: Uint8Array): void {
    this.pending.push({ offset, bytes });
  }
}
