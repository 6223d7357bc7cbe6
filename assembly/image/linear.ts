/**
 * Slices of L2 entries that map one unbroken stretch of the file, as in an image that was written from start to end.
 * Knowing that, a read needs no entry: on a large image the entry itself is what the processor has to wait for.
 *
 * What is found out is kept in the slice and forgotten when the slice changes (`markDirty`) or is loaded anew.
 */

import { loadU64 } from '../base/bytes';
import { TableSlice } from '../cache/table-cache';
import { clusterOffset, isPlainData } from '../format/l2-entry';
import { areAllocated, SUBCLUSTER_COUNT_BITS } from '../format/l2-subclusters';
import { Image } from './image';

/** Values of `TableSlice.linear` below this one count reads since the last change. */
const READS_BEFORE_SCAN: u64 = 64;
const LAST_SUBCLUSTER: u32 = (1 << SUBCLUSTER_COUNT_BITS) - 1;
const NOT_LINEAR: u64 = 0xffffffffffffffff;

/** Host offset of the cluster of the slice's first entry when all its entries follow each other; 0 otherwise. */
export function linearStart(image: Image, slice: TableSlice): u64 {
  const known = slice.linear;
  if (known === NOT_LINEAR) return 0;
  if (known > READS_BEFORE_SCAN) return known;
  // A scan costs as much as a dozen reads: only where there will be more of them than changes.
  slice.linear = known + 1;
  if (known < READS_BEFORE_SCAN) return 0;
  slice.linear = isLinear(image, slice) ? clusterOffset(loadU64(slice.data)) : NOT_LINEAR;
  return slice.linear === NOT_LINEAR ? 0 : slice.linear;
}

/** All entries are plain data, in order, aligned and inside the file. */
function isLinear(image: Image, slice: TableSlice): bool {
  const geometry = image.geometry;
  const clusterSize = u64(geometry.clusterSize);
  const count = u32(1) << (geometry.sliceBits - geometry.l2EntryBits);
  let expected = clusterOffset(loadU64(slice.data));
  if ((expected & (clusterSize - 1)) !== 0 || expected < clusterSize) return false;
  for (let index: u32 = 0; index < count; index++) {
    const address = slice.data + (usize(index) << geometry.l2EntryBits);
    const entry = loadU64(address);
    if (geometry.extended && !areAllocated(loadU64(address + 8), 0, LAST_SUBCLUSTER)) return false;
    if (!isPlainData(entry) || clusterOffset(entry) !== expected || expected >= image.fileLength) return false;
    expected += clusterSize;
  }
  return true;
}
