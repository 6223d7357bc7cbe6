/** What the metadata cache would do for an image: for `info --statistics`. */

import { cacheFacts } from '../cache-size.js';
import { openFile, openImageIn } from './open.js';
import type { Json } from './output.js';

/**
 * Reads the whole mapping of the disk once, by a cache of the usual size: what it can hold, what the disk would need, and
 * what the cache has counted meanwhile. Numbers are bytes or counts. Throws `CommandError`.
 */
export async function cacheReport(
  path: string,
  { forceShare }: { forceShare: boolean },
): Promise<Record<string, Json>> {
  const file = await openFile(path, { forceShare });
  await using image = await openImageIn(file, path, { tablesOnly: true, requestCapacity: 1, forceShare });
  for await (const _ of image.map());
  const { cacheSize, cacheHits, cacheMisses, cacheEvictions } = image.statistics();
  const { entrySize, covers, wholeDisk } = cacheFacts(image.info, cacheSize);
  return {
    size: cacheSize,
    'entry-size': entrySize,
    'covers-disk-size': covers,
    'size-for-whole-disk': wholeDisk,
    hits: cacheHits,
    misses: cacheMisses,
    evictions: cacheEvictions,
  };
}
