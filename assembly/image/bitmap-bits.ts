/** The bits of one bitmap, a slice at a time: setting them, and finding those that are set. */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { moveAll, push } from '../base/wait-list';
import { writeZeroes } from '../block';
import { needSlice, TableKind, TableSlice } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { ALL_ONES_ENTRY, BITMAP_ENTRY_SIZE, bitCount, bitsOffset, isWrongTableEntry } from '../format/bitmap-directory';
import { allocateClusters } from './allocate';
import { Image } from './image';
import { abandonL2Table } from './l2-table';
import { checkTableOverlap } from './overlap';
import { parkOnOperation, Task } from './task';

/**
 * Sets the bits for the guest bytes from `start` on, up to `end` at most: as many as one slice holds. Ok when
 * `image.bitmaps.doneOffset` says how far; Miss and failures change nothing that a second start would do again.
 */
export function setBits(
  image: Image,
  task: Task,
  tableOffset: u64,
  granularityBits: u32,
  start: u64,
  end: u64,
): Status {
  const bitsPerCluster = u64(image.geometry.clusterSize) << 3;
  const first = start >> granularityBits;
  const entryOffset = tableOffset + (first >> (image.geometry.clusterBits + 3)) * BITMAP_ENTRY_SIZE;
  const clusterFirst = first & ~(bitsPerCluster - 1);
  let last = min(((end - 1) >> granularityBits) + 1, clusterFirst + bitsPerCluster);
  const table = needSlice(image.cache, TableKind.BitmapTable, entryOffset, task);
  if (table === null) return task.outcome;
  const entryAt = table.data + usize(entryOffset - table.hostOffset);
  const entry = loadU64(entryAt);
  let status = checkTableEntry(image, entry, entryOffset);
  if (status !== Status.Ok) return status;
  if (image.order.broken) return Status.Broken;

  const nothing = bitsOffset(entry) === 0 && entry !== ALL_ONES_ENTRY;
  if (!nothing && image.tableOwner === task) {
    // While it was making a cluster for them, somebody else set all the bits of the entry.
    if (task.outstanding !== 0) {
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    status = abandonL2Table(image, task);
    if (status !== Status.Ok) return status;
  }
  if (nothing) {
    const clusterEnd = min(clusterFirst + bitsPerCluster, bitCount(image.virtualSize, granularityBits));
    if (first !== clusterFirst || last !== clusterEnd) {
      image.bitmaps.doneOffset = start;
      return makeBits(image, task, entryOffset);
    }
    status = checkTableOverlap(image, table.hostOffset, u64(1) << image.cache.sliceBits);
    if (status !== Status.Ok) return status;
    storeU64(entryAt, ALL_ONES_ENTRY);
    markDirty(image.order, table);
  } else if (entry !== ALL_ONES_ENTRY) {
    const byteOffset = bitsOffset(entry) + ((first - clusterFirst) >> 3);
    const slice = needSlice(image.cache, TableKind.BitmapBits, byteOffset, task);
    if (slice === null) return task.outcome;
    status = checkTableOverlap(image, slice.hostOffset, u64(1) << image.cache.sliceBits);
    if (status !== Status.Ok) return status;
    const sliceFirst = clusterFirst + ((slice.hostOffset - bitsOffset(entry)) << 3);
    last = min(last, sliceFirst + (u64(8) << image.cache.sliceBits));
    fillBits(image, slice, u32(first - sliceFirst), u32(last - sliceFirst));
  }
  image.bitmaps.doneOffset = last << granularityBits;
  return Status.Ok;
}

/**
 * What the guest bytes from `start` on are: `image.bitmaps.dirty`, for all bytes up to `doneOffset`, which is not beyond
 * `end`. Looks at one slice; the next stretch may be of the same kind.
 */
export function findDirty(
  image: Image,
  task: Task,
  tableOffset: u64,
  granularityBits: u32,
  start: u64,
  end: u64,
): Status {
  const state = image.bitmaps;
  const bitsPerCluster = u64(image.geometry.clusterSize) << 3;
  const first = start >> granularityBits;
  const entryOffset = tableOffset + (first >> (image.geometry.clusterBits + 3)) * BITMAP_ENTRY_SIZE;
  const clusterFirst = first & ~(bitsPerCluster - 1);
  let last = min(((end - 1) >> granularityBits) + 1, clusterFirst + bitsPerCluster);
  const table = needSlice(image.cache, TableKind.BitmapTable, entryOffset, task);
  if (table === null) return task.outcome;
  const entry = loadU64(table.data + usize(entryOffset - table.hostOffset));
  const status = checkTableEntry(image, entry, entryOffset);
  if (status !== Status.Ok) return status;

  state.dirty = entry === ALL_ONES_ENTRY;
  const offset = bitsOffset(entry);
  if (offset !== 0) {
    const slice = needSlice(image.cache, TableKind.BitmapBits, offset + ((first - clusterFirst) >> 3), task);
    if (slice === null) return task.outcome;
    const sliceFirst = clusterFirst + ((slice.hostOffset - offset) << 3);
    last = min(last, sliceFirst + (u64(8) << image.cache.sliceBits));
    state.dirty = isSet(slice, u32(first - sliceFirst));
    last = sliceFirst + skipAlike(slice, u32(first - sliceFirst), u32(last - sliceFirst), state.dirty);
  }
  state.doneOffset = min(end, last << granularityBits);
  return Status.Ok;
}

/** Corrupt when a table entry is none, or points outside of the file. */
export function checkTableEntry(image: Image, entry: u64, entryOffset: u64): Status {
  const failure = image.failure;
  const fileLength = image.fileLength;
  if (isWrongTableEntry(entry, image.geometry.clusterSize)) {
    return refuse(failure, Status.Corrupt, Structure.BitmapTable, Field.ReservedBits, entryOffset, entry, 0);
  }
  if (bitsOffset(entry) < fileLength) return Status.Ok;
  return refuse(failure, Status.Corrupt, Structure.BitmapTable, Field.Offset, entryOffset, entry, fileLength);
}

/**
 * A cluster of zero bits for the table entry at `entryOffset`, which has none: zeroed and counted before the entry names
 * it. Ends with Miss, or with Ok and `doneOffset` where the caller began.
 */
function makeBits(image: Image, task: Task, entryOffset: u64): Status {
  const owner = image.tableOwner;
  if (owner !== null && owner !== task) {
    push(image.tableWaiters, task);
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  if (task.tableOffset === 0) {
    // Ownership begins before the allocation: it may park, and nobody else may make the same cluster meanwhile.
    image.tableOwner = task;
    const status = allocateClusters(image, task, 1);
    if (status !== Status.Ok) return status;
    task.tableOffset = image.allocatedOffset;
    writeZeroes(image.operations, changetype<usize>(task), task.tableOffset, image.geometry.clusterSize);
    return parkOnOperation(task);
  }
  if (task.outstanding !== 0) {
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  const table = needSlice(image.cache, TableKind.BitmapTable, entryOffset, task);
  if (table === null) return task.outcome;
  const status = checkTableOverlap(image, table.hostOffset, u64(1) << image.cache.sliceBits);
  if (status !== Status.Ok) return status;
  storeU64(table.data + usize(entryOffset - table.hostOffset), task.tableOffset);
  markDirty(image.order, table);
  task.tableOffset = 0;
  image.tableOwner = null;
  moveAll(image.tableWaiters, image.ready);
  return Status.Ok;
}

/** Sets the bits `first` up to, not including, `end` of a slice; one that changes nothing stays clean. */
function fillBits(image: Image, slice: TableSlice, first: u32, end: u32): void {
  let changed = false;
  let bit = first;
  while (bit < end) {
    const at = slice.data + (bit >> 3);
    const count = min(8 - (bit & 7), end - bit);
    const mask = ((u32(1) << count) - 1) << (bit & 7);
    const old: u32 = load<u8>(at);
    if ((old & mask) !== mask) {
      store<u8>(at, u8(old | mask));
      changed = true;
    }
    bit += count;
  }
  if (changed) markDirty(image.order, slice);
}

function isSet(slice: TableSlice, bit: u32): bool {
  return ((u32(load<u8>(slice.data + (bit >> 3))) >> (bit & 7)) & 1) !== 0;
}

/** The first bit from `first` on that is not `set`; `end` when there is none before. */
function skipAlike(slice: TableSlice, first: u32, end: u32, set: bool): u32 {
  const alike: u8 = set ? 0xff : 0;
  let bit = first;
  while (bit < end) {
    if ((bit & 7) === 0 && end - bit >= 8 && load<u8>(slice.data + (bit >> 3)) === alike) {
      bit += 8;
    } else if (isSet(slice, bit) === set) {
      bit++;
    } else {
      return bit;
    }
  }
  return end;
}
