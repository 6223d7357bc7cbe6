/** How large the metadata cache is, as it is asked for: in this library's words or in QEMU's. */

import { CorralError } from './errors.js';
import type { ImageFacts } from './image-facts.js';

/** Sizes are bytes. */
export interface CacheSizeOptions {
  /** Bytes of the metadata cache, default 4 MiB; raised to what the number of requests needs. */
  cacheSize?: number | undefined;
  /** What QEMU calls so: there is one cache for all tables here, so these parts are added up. Within `cacheSize` if given. */
  l2CacheSize?: number | undefined;
  refcountCacheSize?: number | undefined;
  /** Bytes of one entry of the cache. Checked as by QEMU; entries have 4 KiB here, or a cluster if that is less. */
  l2CacheEntrySize?: number | undefined;
}

/** What the cache of an image can do. All numbers are bytes. */
export interface CacheFacts {
  /** Of one piece of a table. */
  readonly entrySize: number;
  /** Of the disk, that tables in a cache of that size describe at most. */
  readonly covers: number;
  /** Of the cache that could hold the mapping of the whole disk. */
  readonly wholeDisk: number;
}

const DEFAULT_SIZE = 4 * 1024 * 1024;
const LARGEST_ENTRY = 4096;
const SMALLEST_ENTRY = 512;

/** Bytes of the cache. Throws ERR_INVALID_ARGUMENT for what contradicts itself, in QEMU's words. */
export function cacheSizeOf({ cacheSize, l2CacheSize, refcountCacheSize }: CacheSizeOptions): number {
  for (const size of [cacheSize, l2CacheSize, refcountCacheSize]) {
    if (size !== undefined && (!Number.isSafeInteger(size) || size < 0)) throw invalid(`${size} is no size of a cache`);
  }
  if (cacheSize === undefined) {
    if (l2CacheSize === undefined && refcountCacheSize === undefined) return DEFAULT_SIZE;
    return (l2CacheSize ?? DEFAULT_SIZE) + (refcountCacheSize ?? 0);
  }
  if (l2CacheSize !== undefined && refcountCacheSize !== undefined) {
    throw invalid('cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
  }
  if (l2CacheSize !== undefined && l2CacheSize > cacheSize) throw invalid('l2-cache-size may not exceed cache-size');
  if (refcountCacheSize !== undefined && refcountCacheSize > cacheSize) {
    throw invalid('refcount-cache-size may not exceed cache-size');
  }
  return cacheSize;
}

/** Throws ERR_INVALID_ARGUMENT for an entry size that an image with such clusters cannot have. */
export function checkEntrySize(size: number | undefined, clusterSize: number): void {
  if (size === undefined) return;
  if (size >= SMALLEST_ENTRY && size <= clusterSize && Number.isInteger(Math.log2(size))) return;
  throw invalid(
    `L2 cache entry size must be a power of two between ${SMALLEST_ENTRY} and the cluster size (${clusterSize})`,
  );
}

/** What a cache of `cacheSize` bytes means for an image. */
export function cacheFacts(
  { clusterSize, extendedL2, virtualSize }: Pick<ImageFacts, 'clusterSize' | 'extendedL2' | 'virtualSize'>,
  cacheSize: number,
): CacheFacts {
  const entrySize = Math.min(LARGEST_ENTRY, clusterSize);
  const perCluster = extendedL2 ? 16 : 8;
  const covers = (Math.floor(cacheSize / entrySize) * entrySize * clusterSize) / perCluster;
  const mappings = Math.ceil(virtualSize / clusterSize) * perCluster;
  return { entrySize, covers, wholeDisk: Math.ceil(mappings / entrySize) * entrySize };
}

function invalid(reason: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { reason });
}
