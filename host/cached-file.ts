/** What files have in common that answer slowly and never change: parts of them are kept, and nothing is written. */

import type { BlockFile } from './block-file.js';
import { CorralError } from './errors.js';
import { RangeCache, type RangeCacheOptions } from './range-cache.js';

export interface CachedFileOptions extends Omit<RangeCacheOptions, 'fetchRange'> {
  /** What whoever wants to write is told. */
  readonly refusal: string;
}

export abstract class CachedFile implements BlockFile {
  readonly zeroBeyondEnd = true;
  readonly readOnly = true;
  protected readonly cache: RangeCache;
  private readonly length: number;
  private readonly refusal: string;

  protected constructor({ refusal, ...options }: CachedFileOptions) {
    this.length = options.length;
    this.refusal = refusal;
    this.cache = new RangeCache({ ...options, fetchRange: (offset, length) => this.fetchRange(offset, length) });
  }

  abstract get identity(): string;

  abstract get location(): string | undefined;

  async size(): Promise<number> {
    return this.length;
  }

  /** Rejects with what `fetchRange` rejects with. */
  read(offset: number, target: Uint8Array): Promise<void> {
    return this.cache.read(offset, target);
  }

  write(): Promise<void> {
    return this.refuse();
  }

  writeZeroes(): Promise<void> {
    return this.refuse();
  }

  discard(): Promise<void> {
    return this.refuse();
  }

  truncate(): Promise<void> {
    return this.refuse();
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {}

  /** Exactly this stretch, which lies inside the file. */
  protected abstract fetchRange(offset: number, length: number): Promise<Uint8Array>;

  private async refuse(): Promise<never> {
    throw new CorralError('ERR_READ_ONLY', { reason: this.refusal });
  }
}
