/** Sizes of the metadata cache, in this library's words and in QEMU's. */

import { describe, expect, test } from 'vitest';
import { cacheFacts, cacheSizeOf } from '../../host/cache-size.js';
import { Image, loadCore, MemoryFile, type OpenOptions } from '../../host/node/index.js';

const KIB = 1024;
const MIB = 1 << 20;
const GIB = 1 << 30;
const core = loadCore();

async function opened(options: Omit<OpenOptions, 'core'>): Promise<Image> {
  const file = new MemoryFile();
  await Image.create(file, { core, virtualSize: MIB });
  return Image.open(file, { core, requestCapacity: 1, ...options });
}

test('one cache holds what QEMU has two for', () => {
  expect(cacheSizeOf({})).toBe(4 * MIB);
  expect(cacheSizeOf({ cacheSize: 3 * MIB })).toBe(3 * MIB);
  expect(cacheSizeOf({ l2CacheSize: 2 * MIB })).toBe(2 * MIB);
  expect(cacheSizeOf({ l2CacheSize: 2 * MIB, refcountCacheSize: MIB })).toBe(3 * MIB);
  expect(cacheSizeOf({ refcountCacheSize: MIB })).toBe(5 * MIB);
  expect(cacheSizeOf({ cacheSize: 3 * MIB, l2CacheSize: MIB })).toBe(3 * MIB);
});

test('the cache is as large as was asked for, and counts', async () => {
  const image = await opened({ l2CacheSize: 8 * MIB, refcountCacheSize: 8 * MIB });

  await image.read(0, new Uint8Array(4096));

  const { cacheSize, cacheMisses } = image.statistics();
  expect(cacheSize).toBeGreaterThan(15 * MIB);
  expect(cacheSize).toBeLessThanOrEqual(16 * MIB);
  expect(cacheMisses).toBeGreaterThan(0);
});

describe('what contradicts itself is refused, in the words of QEMU:', () => {
  const cases: [options: Omit<OpenOptions, 'core'>, reason: string][] = [
    [
      { cacheSize: 4 * MIB, l2CacheSize: MIB, refcountCacheSize: MIB },
      'cache-size, l2-cache-size and refcount-cache-size may not be set at the same time',
    ],
    [{ cacheSize: MIB, l2CacheSize: 2 * MIB }, 'l2-cache-size may not exceed cache-size'],
    [{ cacheSize: MIB, refcountCacheSize: 2 * MIB }, 'refcount-cache-size may not exceed cache-size'],
    [{ l2CacheEntrySize: 3000 }, 'L2 cache entry size must be a power of two between 512 and the cluster size (65536)'],
    [
      { l2CacheEntrySize: 128 * KIB },
      'L2 cache entry size must be a power of two between 512 and the cluster size (65536)',
    ],
    [{ cacheSize: -1 }, '-1 is no size of a cache'],
  ];

  test.each(cases)('%o', async (options, reason) => {
    await expect(opened(options)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining(reason),
    });
  });
});

test('an entry size that QEMU takes is taken', async () => {
  const image = await opened({ l2CacheEntrySize: 4096 });

  expect(image.size).toBe(MIB);
});

test('what a cache covers follows from the clusters', () => {
  const disk = { clusterSize: 65536, extendedL2: false, virtualSize: 1024 * GIB };

  expect(cacheFacts(disk, 4 * MIB)).toEqual({ entrySize: 4096, covers: 32 * GIB, wholeDisk: 128 * MIB });
  expect(cacheFacts({ ...disk, extendedL2: true }, 4 * MIB)).toMatchObject({ covers: 16 * GIB, wholeDisk: 256 * MIB });
  expect(cacheFacts({ ...disk, clusterSize: 512 }, 4096)).toMatchObject({ entrySize: 512, covers: 256 * KIB });
});
