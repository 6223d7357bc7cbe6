/** A `File` or `Blob` of the page as a file of the engine; counts what is read of it. */

import type { BlockFile } from '../../../host/block-file.js';
import { CorralError } from '../../../host/errors.js';

/** Bytes that were read of all files together. */
export class ReadMeter {
  private counted = 0;
  private readonly others: (() => number)[] = [];

  get bytes(): number {
    return this.others.reduce((sum, count) => sum + count(), this.counted);
  }

  add(bytes: number): void {
    this.counted += bytes;
  }

  /** A file that counts by itself. */
  watch(count: () => number): void {
    this.others.push(count);
  }
}

export class BlobBlockFile implements BlockFile {
  readonly zeroBeyondEnd = true;
  readonly readOnly = true;
  readonly identity: string;
  readonly location: string;

  constructor(
    private readonly blob: Blob,
    name: string,
    private readonly meter: ReadMeter,
  ) {
    this.identity = name;
    this.location = name;
  }

  async size(): Promise<number> {
    return this.blob.size;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const end = Math.min(offset + target.length, this.blob.size);
    if (offset >= end) {
      target.fill(0);
      return;
    }
    const bytes = new Uint8Array(await this.blob.slice(offset, end).arrayBuffer());
    this.meter.add(bytes.length);
    target.set(bytes);
    target.fill(0, bytes.length);
  }

  write(): Promise<void> {
    return refused();
  }

  writeZeroes(): Promise<void> {
    return refused();
  }

  discard(): Promise<void> {
    return refused();
  }

  truncate(): Promise<void> {
    return refused();
  }

  async flush(): Promise<void> {}

  /** The blob stays the page's. */
  async close(): Promise<void> {}
}

async function refused(): Promise<void> {
  throw new CorralError('ERR_READ_ONLY', { reason: 'The inspector changes nothing' });
}
