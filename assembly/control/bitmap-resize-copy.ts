/** What the new tables of bitmaps consist of when the disk gets another size: see bitmap-resize.ts. */

import { BitmapFlag } from '../abi/bitmap';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { loadU64, storeU32, storeU64 } from '../base/bytes';
import { needSlice, TableKind, TableSlice } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import {
  ALL_ONES_ENTRY,
  BITMAP_ENTRY_SIZE,
  BitmapOffset,
  bitCount,
  bitmapTableSize,
  bitsOffset,
} from '../format/bitmap-directory';
import { checkTableEntry } from '../image/bitmap-bits';
import { needBitmapEntry } from '../image/bitmap-entry';
import { Image } from '../image/image';
import { Task } from '../image/task';

/** Where the change stands. */
export enum ResizeStage {
  Store = 0,
  Look = 1,
  PlanHeader = 2,
  Allocate = 3,
  Zero = 4,
  CopyTable = 5,
  CopyEnd = 6,
  CopyEntry = 7,
  Flush = 8,
  Switch = 9,
  ClearMarks = 10,
  FlushMarks = 11,
  FreeTables = 12,
  FreeDirectory = 13,
  Done = 14,
}

/** Behind the `BitmapWork`, which the header and the freeing need: see resize.ts. */
@unmanaged
export class BitmapResize {
  stage: u32 = 0;
  /** Number of the bitmap, and where its old entry stands. */
  index: u32 = 0;
  entryOffset: u64 = 0;
  /** Bytes of the virtual disk, before and after. */
  oldSize: u64 = 0;
  newSize: u64 = 0;
  /** The region: where it is, its clusters, and where in it the table of this bitmap is. */
  regionOffset: u64 = 0;
  clusters: u64 = 0;
  tableOffset: u64 = 0;
  /** Entries of the table, or bytes of the end or of the directory's entry, that are done. */
  cursor: u64 = 0;
  oldDirectoryOffset: u64 = 0;
}

/** One piece of a bitmap: its table, then the end of its bits, then its entry. */
export function copyBitmap(image: Image, task: Task, state: BitmapResize): Status {
  if (state.index === image.bitmaps.count) {
    state.stage = ResizeStage.Flush;
    return Status.Ok;
  }
  const status = needBitmapEntry(image, task, state.entryOffset);
  if (status !== Status.Ok) return status;
  if (state.stage === ResizeStage.CopyTable) return copyTable(image, task, state);
  if (state.stage === ResizeStage.CopyEnd) return copyEnd(image, task, state);
  return copyEntry(image, task, state);
}

/** The entries that both tables have. The last one names a copy of its bits when some of them lie behind an end. */
function copyTable(image: Image, task: Task, state: BitmapResize): Status {
  const entry = image.bitmaps.entry;
  const kept = min(u64(entry.tableSize), newTableSize(image, state));
  while (state.cursor < kept) {
    const oldOffset = entry.tableOffset + state.cursor * BITMAP_ENTRY_SIZE;
    const old = needSlice(image.cache, TableKind.BitmapTable, oldOffset, task);
    if (old === null) return task.outcome;
    let named = loadU64(old.data + usize(oldOffset - old.hostOffset));
    const status = checkTableEntry(image, named, oldOffset);
    if (status !== Status.Ok) return status;
    if (named !== 0) {
      if (state.cursor === endIndex(image, state)) named = endOffset(image, state);
      const newOffset = state.tableOffset + state.cursor * BITMAP_ENTRY_SIZE;
      const slice = needSlice(image.cache, TableKind.BitmapTable, newOffset, task);
      if (slice === null) return task.outcome;
      storeU64(slice.data + usize(newOffset - slice.hostOffset), named);
      markDirty(image.order, slice);
    }
    state.cursor++;
  }
  state.cursor = 0;
  state.stage = ResizeStage.CopyEnd;
  return Status.Ok;
}

/** The bits of the last entry that both have, up to where the shorter disk ends. */
function copyEnd(image: Image, task: Task, state: BitmapResize): Status {
  const bits = keptBits(image, state) - endIndex(image, state) * bitsPerCluster(image);
  const length = unitsFor(bits, 3);
  while (state.cursor < length) {
    const named = needEndEntry(image, task, state);
    if (task.outcome !== Status.Ok) return task.outcome;
    if (named === 0) break;
    let source: TableSlice | null = null;
    if (named !== ALL_ONES_ENTRY) {
      source = needSlice(image.cache, TableKind.BitmapBits, bitsOffset(named) + state.cursor, task);
      if (source === null) return task.outcome;
    }
    const target = needSlice(image.cache, TableKind.BitmapBits, endOffset(image, state) + state.cursor, task);
    if (target === null) return task.outcome;
    const count = min(length - state.cursor, u64(1) << image.cache.sliceBits);
    if (source === null) memory.fill(target.data, 0xff, usize(count));
    else memory.copy(target.data, source.data, usize(count));
    state.cursor += count;
    if (state.cursor === length && (bits & 7) !== 0) {
      const last = target.data + usize(count) - 1;
      store<u8>(last, u8(u32(load<u8>(last)) & ((u32(1) << u32(bits & 7)) - 1)));
    }
    markDirty(image.order, target);
  }
  state.cursor = 0;
  state.stage = ResizeStage.CopyEntry;
  return Status.Ok;
}

/** The entry with another table, in use; a word of 8 bytes at a time. */
function copyEntry(image: Image, task: Task, state: BitmapResize): Status {
  const entry = image.bitmaps.entry;
  while (state.cursor < entry.length) {
    const oldOffset = entry.hostOffset + state.cursor;
    const old = needSlice(image.cache, TableKind.BitmapDirectory, oldOffset, task);
    if (old === null) return task.outcome;
    const word = loadU64(old.data + usize(oldOffset - old.hostOffset));
    const newOffset = oldOffset - image.bitmaps.directoryOffset + state.regionOffset;
    const slice = needSlice(image.cache, TableKind.BitmapDirectory, newOffset, task);
    if (slice === null) return task.outcome;
    const address = slice.data + usize(newOffset - slice.hostOffset);
    if (state.cursor === u64(BitmapOffset.TableOffset)) {
      storeU64(address, state.tableOffset);
    } else if (state.cursor === u64(BitmapOffset.TableSize)) {
      storeU32(address, u32(newTableSize(image, state)));
      storeU32(address + 4, entry.flags | BitmapFlag.InUse);
    } else {
      storeU64(address, word);
    }
    markDirty(image.order, slice);
    state.cursor += 8;
  }
  state.tableOffset = endOffset(image, state) + u64(image.geometry.clusterSize);
  state.cursor = 0;
  state.entryOffset += entry.length;
  state.index++;
  state.stage = ResizeStage.CopyTable;
  return Status.Ok;
}

/** The old table's entry in the middle of whose bits the shorter disk ends; 0 when there is none, or no bits. */
export function needEndEntry(image: Image, task: Task, state: BitmapResize): u64 {
  const index = endIndex(image, state);
  if (keptBits(image, state) === index * bitsPerCluster(image)) return 0;
  const offset = image.bitmaps.entry.tableOffset + index * BITMAP_ENTRY_SIZE;
  const table = needSlice(image.cache, TableKind.BitmapTable, offset, task);
  return table === null ? 0 : loadU64(table.data + usize(offset - table.hostOffset));
}

/** Where in the region the table of the first bitmap is. */
export function firstTable(image: Image, state: BitmapResize): u64 {
  const clusterBits = image.geometry.clusterBits;
  return state.regionOffset + (unitsFor(image.bitmaps.directoryLength, clusterBits) << clusterBits);
}

export function newTableSize(image: Image, state: BitmapResize): u64 {
  return bitmapTableSize(state.newSize, image.bitmaps.entry.granularityBits, image.geometry.clusterBits);
}

export function tableClusters(image: Image, state: BitmapResize): u64 {
  return unitsFor(newTableSize(image, state) * BITMAP_ENTRY_SIZE, image.geometry.clusterBits);
}

export function bitsPerCluster(image: Image): u64 {
  return u64(image.geometry.clusterSize) << 3;
}

/** Bits that the bitmap has for both sizes of the disk. */
export function keptBits(image: Image, state: BitmapResize): u64 {
  return bitCount(min(state.oldSize, state.newSize), image.bitmaps.entry.granularityBits);
}

/** The table entry in the middle of whose bits the shorter disk ends, or the first one behind it. */
export function endIndex(image: Image, state: BitmapResize): u64 {
  return keptBits(image, state) / bitsPerCluster(image);
}

/** Where in the region the bits of that entry are. */
export function endOffset(image: Image, state: BitmapResize): u64 {
  return state.tableOffset + (tableClusters(image, state) << image.geometry.clusterBits);
}
