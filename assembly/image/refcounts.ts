/** Where the refcount of a host cluster stands. */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { needSlice, TableKind, TableSlice } from '../cache/table-cache';
import { blockIndex, blockSliceOffset, sliceRefcountBits } from '../format/geometry';
import { hasReservedTableBits, refcountBlockOffset } from '../format/refcount-entry';
import { Image, refcountTableEntries } from './image';
import { Task } from './task';

/**
 * The slice with the refcount of `cluster`; null with `task.outcome` Ok when the table names no block for it, Miss when
 * parked, else the failure.
 */
export function needRefcounts(image: Image, task: Task, cluster: u64): TableSlice | null {
  const geometry = image.geometry;
  const index = blockIndex(geometry, cluster);
  task.outcome = Status.Ok;
  if (index >= refcountTableEntries(image)) return null;
  const entryOffset = image.refcountTableOffset + (index << 3);
  const table = needSlice(image.cache, TableKind.RefcountTable, entryOffset, task);
  if (table === null) return null;
  const blockOffset = loadU64(table.data + usize(entryOffset - table.hostOffset));
  if (blockOffset === 0) {
    task.outcome = Status.Ok;
    return null;
  }
  if (hasReservedTableBits(blockOffset, geometry.clusterSize) || blockOffset >= image.fileLength) {
    const aligned = (refcountBlockOffset(blockOffset) & u64(geometry.clusterSize - 1)) === 0;
    task.outcome = refuse(
      image.failure,
      Status.Corrupt,
      Structure.RefcountTable,
      aligned ? Field.Offset : Field.Alignment,
      entryOffset,
      blockOffset,
      image.fileLength,
    );
    return null;
  }
  return needSlice(image.cache, TableKind.RefcountBlock, blockOffset + blockSliceOffset(geometry, cluster), task);
}

/** Index of a cluster's refcount within its slice. */
export function refcountIndex(image: Image, cluster: u64): u32 {
  return u32(cluster) & ((u32(1) << sliceRefcountBits(image.geometry)) - 1);
}

/** First cluster of the next slice of refcounts. */
export function nextSlice(image: Image, cluster: u64): u64 {
  const bits = sliceRefcountBits(image.geometry);
  return ((cluster >> bits) + 1) << bits;
}
