/** What files have in common that answer slowly and never change: parts of them are kept, and nothing is written. */

import { RangeCache, type RangeCacheOptions } from './range-cache.js';
import { ReadOnlyFile } from './read-only-file.js';

export interface CachedFileOptions extends Omit<RangeCacheOptions, 'fetchRange'> {
  /** What whoever wants to write is told. */
  readonly refusal: string;
}

export abstract class CachedFile extends ReadOnlyFile {
  protected readonly cache: RangeCache;
  private readonly length: number;

  protected constructor({ refusal, ...options }: CachedFileOptions) {
    super(refusal);
    this.length = options.length;
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

  /** Exactly this stretch, which lies inside the file. */
  protected abstract fetchRange(offset: number, length: number): Promise<Uint8Array>;
}
