/** Clusters of bitmaps that nothing names any more. What does not look as it should is left alone: it leaks. */

import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { loadU64 } from '../base/bytes';
import { dropSlices, findSlice, needSlice, TableKind } from '../cache/table-cache';
import { dropClusters, needRoom } from '../cache/write-order';
import { BITMAP_ENTRY_SIZE, bitsOffset } from '../format/bitmap-directory';
import { checkTableEntry } from '../image/bitmap-bits';
import { Image } from '../image/image';
import { checkOverlap } from '../image/overlap';
import { Task } from '../image/task';
import { BitmapWork } from './bitmap-work';

/** Drops the table of `work`, and the clusters that it names from entry `work.index` on. Nothing when it has none. */
export function freeTable(image: Image, task: Task, work: BitmapWork): Status {
  if (work.tableOffset === 0) return Status.Ok;
  while (work.index < work.tableSize) {
    if (!needRoom(image.order, task)) return Status.Miss;
    const entryOffset = work.tableOffset + u64(work.index) * BITMAP_ENTRY_SIZE;
    const slice = needSlice(image.cache, TableKind.BitmapTable, entryOffset, task);
    if (slice === null) {
      if (task.outcome === Status.Miss) return Status.Miss;
      // It cannot be read: what it names leaks.
      work.index = work.tableSize;
      break;
    }
    const entry = loadU64(slice.data + usize(entryOffset - slice.hostOffset));
    if (bitsOffset(entry) !== 0 && checkTableEntry(image, entry, entryOffset) === Status.Ok) {
      drop(image, bitsOffset(entry), image.geometry.clusterSize, TableKind.BitmapBits);
    }
    work.index++;
  }
  const length = u64(work.tableSize) * BITMAP_ENTRY_SIZE;
  return dropRegion(image, task, work.tableOffset, length, TableKind.BitmapTable);
}

/** Drops the clusters of the `length` bytes from `hostOffset` on, of which `kind` was in the cache. */
export function dropRegion(image: Image, task: Task, hostOffset: u64, length: u64, kind: TableKind): Status {
  if (length === 0) return Status.Ok;
  if (!needRoom(image.order, task)) return Status.Miss;
  drop(image, hostOffset, unitsFor(length, image.geometry.clusterBits) << image.geometry.clusterBits, kind);
  return Status.Ok;
}

function drop(image: Image, hostOffset: u64, length: u64, kind: TableKind): void {
  const sliceSize = u64(1) << image.cache.sliceBits;
  for (let offset = hostOffset; offset < hostOffset + length; offset += sliceSize) {
    const slice = findSlice(image.cache, offset);
    // Some other table claims to lie there: then it must never be handed out as free.
    if (slice !== null && slice.kind !== u8(kind)) return;
  }
  dropSlices(image.cache, hostOffset, length);
  if (checkOverlap(image, hostOffset, length) !== Status.Ok) return;
  dropClusters(image.order, hostOffset >> image.geometry.clusterBits, length >> image.geometry.clusterBits);
}
