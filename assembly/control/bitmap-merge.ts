/**
 * Merge: what is dirty in one bitmap becomes dirty in another one. The bits of both come together in a new table, which the
 * directory then names: whatever breaks the merge off, the bitmap is what it was, or has all of it.
 *
 *   new table ─▶ bits of both ─▶ flush ─▶ directory names it ─▶ flush ─▶ the old table is free
 *
 * Set: so does what the host names. That comes in many parts, each in place: until one is durable, the bitmap is in use.
 */

import { BitmapFlag, BitmapPage, BitmapRange } from '../abi/bitmap';
import { PAGE_LENGTH } from '../abi/configuration';
import { Field } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { loadU32, storeU32, storeU64 } from '../base/bytes';
import { push } from '../base/wait-list';
import { needSlice, TableKind } from '../cache/table-cache';
import { markDirty, requestFlush } from '../cache/write-order';
import { BitmapOffset } from '../format/bitmap-directory';
import { findDirty, setBits } from '../image/bitmap-bits';
import { checkUsable } from '../image/bitmap-entry';
import { retrack } from '../image/bitmap-track';
import { Image } from '../image/image';
import { checkTableOverlap } from '../image/overlap';
import { Task } from '../image/task';
import { makeTable } from './bitmap-change';
import { freeTable } from './bitmap-free';
import {
  BitmapStage,
  BitmapWork,
  beginChanging,
  bitmapCall,
  findBitmap,
  keepEntry,
  needBitmap,
  refuseCall,
  startSearch,
  workOf,
} from './bitmap-work';

/** Slices that are looked at before others have their turn. */
const PIECES_PER_TURN: u32 = 256;

const RANGE_SIZE: u32 = 16;
const MOST_RANGES: u32 = (PAGE_LENGTH - BitmapPage.Answer) / RANGE_SIZE;

/** Goes on with a BitmapMerge or a BitmapSet. */
export function stepBitmapMerge(image: Image, task: Task): Status {
  while (true) {
    const status = step(image, task, workOf(image));
    if (status !== Status.Ok || task.stage === BitmapStage.Done) return status;
  }
}

function step(image: Image, task: Task, work: BitmapWork): Status {
  switch (task.stage) {
    case BitmapStage.Begin:
      return beginChanging(image, task);
    case BitmapStage.Find:
      return findTarget(image, task);
    case BitmapStage.FindSource:
      if (task.kind === RequestKind.BitmapSet) return mark(image, task, work);
      return findSource(image, task, work);
    case BitmapStage.AllocateTable:
      return makeTable(image, task, work);
    case BitmapStage.ZeroTable:
      return beginMerging(image, task, work);
    case BitmapStage.Apply:
      return apply(image, task, work);
    case BitmapStage.Flush:
      task.stage = BitmapStage.FlushApplied;
      requestFlush(image.order, task);
      return Status.Miss;
    case BitmapStage.FlushApplied: {
      const sets = task.kind === RequestKind.BitmapSet;
      const status = sets ? changeMark(image, task, work, false) : switchTable(image, task, work);
      if (status !== Status.Ok) return status;
      task.stage = sets ? BitmapStage.ClearMark : BitmapStage.FreeTable;
      requestFlush(image.order, task);
      return Status.Miss;
    }
    case BitmapStage.FreeTable: {
      const status = freeTable(image, task, work);
      if (status !== Status.Ok) return status;
      task.stage = BitmapStage.Done;
      return Status.Ok;
    }
    default:
      task.stage = BitmapStage.Done;
      return Status.Ok;
  }
}

function findTarget(image: Image, task: Task): Status {
  let status = needBitmap(image, task);
  if (status !== Status.Ok) return status;
  status = checkUsable(image, image.bitmaps.entry, false);
  if (status !== Status.Ok) return status;
  keepEntry(image);
  startSearch(image);
  task.stage = BitmapStage.FindSource;
  return task.kind === RequestKind.BitmapSet ? checkRanges(image) : Status.Ok;
}

/** Every range has bytes, and lies on the disk. */
function checkRanges(image: Image): Status {
  const count = bitmapCall(image).rangeCount;
  if (count > MOST_RANGES) return refuseCall(image, Status.TooLarge, Field.Length, count, MOST_RANGES);
  const size = image.virtualSize;
  for (let index: u32 = 0; index < count; index++) {
    const range = rangeAt(image, index);
    if (range.length === 0 || range.length > size || range.guestOffset > size - range.length) {
      return refuseCall(image, Status.OutOfRange, Field.Offset, range.guestOffset, size);
    }
  }
  return Status.Ok;
}

function rangeAt(image: Image, index: u32): BitmapRange {
  return changetype<BitmapRange>(image.page + BitmapPage.Answer + usize(index * RANGE_SIZE));
}

function findSource(image: Image, task: Task, work: BitmapWork): Status {
  let status = findBitmap(image, task, image.page + BitmapPage.Source, bitmapCall(image).sourceLength);
  if (status === Status.NotFound) refuseCall(image, status, Field.BitmapName, 0, 0);
  const entry = image.bitmaps.entry;
  if (status === Status.Ok) status = checkUsable(image, entry, false);
  if (status !== Status.Ok) {
    // Which of the two names it is about.
    image.failure.limit = 1;
    return status;
  }
  if (entry.hostOffset === work.entryOffset) {
    task.stage = BitmapStage.Done;
    return Status.Ok;
  }
  work.sourceTableOffset = entry.tableOffset;
  work.sourceGranularityBits = entry.granularityBits;
  task.stage = BitmapStage.AllocateTable;
  return Status.Ok;
}

/** What was allocated would be lost from here on: the cache may hold it when the merge fails, and then it leaks. */
function beginMerging(image: Image, task: Task, work: BitmapWork): Status {
  const status = makeTable(image, task, work);
  if (status !== Status.Ok) return status;
  task.committed = true;
  work.mergedTableOffset = work.newTableOffset;
  work.newTableOffset = 0;
  work.cursor = 0;
  work.runEnd = 0;
  work.index = 0;
  return Status.Ok;
}

/** The bitmap is in use from here on, durably before it changes. */
function mark(image: Image, task: Task, work: BitmapWork): Status {
  const status = changeMark(image, task, work, true);
  if (status !== Status.Ok) return status;
  work.cursor = 0;
  work.runEnd = 0;
  work.index = 0;
  // Bits too many do no harm; a bitmap that stays in use for ever would.
  task.committed = true;
  task.stage = BitmapStage.Apply;
  requestFlush(image.order, task);
  return Status.Miss;
}

/** Goes through what is to be set: a dirty stretch is set in the target, piece by piece, and then comes the next one. */
function apply(image: Image, task: Task, work: BitmapWork): Status {
  for (let pieces: u32 = 0; pieces < PIECES_PER_TURN; pieces++) {
    let status: Status = Status.Ok;
    if (work.cursor < work.runEnd) {
      const target = work.mergedTableOffset === 0 ? work.tableOffset : work.mergedTableOffset;
      status = setBits(image, task, target, work.granularityBits, work.cursor, work.runEnd);
      if (status !== Status.Ok) return status;
      work.cursor = min(work.runEnd, image.bitmaps.doneOffset);
    } else if (isDone(image, task, work)) {
      task.stage = BitmapStage.Flush;
      return Status.Ok;
    } else if (task.kind === RequestKind.BitmapSet) {
      const range = rangeAt(image, work.index++);
      work.cursor = range.guestOffset;
      work.runEnd = range.guestOffset + range.length;
    } else if (work.cursor === image.virtualSize) {
      // The bitmap's own bits are there: now those of the source.
      work.index = 1;
      work.cursor = 0;
      work.runEnd = 0;
    } else {
      const own = work.index === 0;
      const source = own ? work.tableOffset : work.sourceTableOffset;
      const bits = own ? work.granularityBits : work.sourceGranularityBits;
      status = findDirty(image, task, source, bits, work.cursor, image.virtualSize);
      if (status !== Status.Ok) return status;
      if (image.bitmaps.dirty) work.runEnd = image.bitmaps.doneOffset;
      else work.cursor = image.bitmaps.doneOffset;
    }
  }
  task.outcome = Status.Miss;
  push(image.ready, task);
  return Status.Miss;
}

function isDone(image: Image, task: Task, work: BitmapWork): bool {
  if (task.kind === RequestKind.BitmapSet) return work.index === bitmapCall(image).rangeCount;
  return work.index === 1 && work.cursor === image.virtualSize;
}

/** The directory names the new table; nothing else of the entry changes, so that a power cut leaves the one or the other. */
function switchTable(image: Image, task: Task, work: BitmapWork): Status {
  if (image.order.broken) return refuseCall(image, Status.Broken, Field.None, 0, 0);
  const field = work.entryOffset + BitmapOffset.TableOffset;
  const slice = needSlice(image.cache, TableKind.BitmapDirectory, field, task);
  if (slice === null) return task.outcome;
  const status = checkTableOverlap(image, slice.hostOffset, u64(1) << image.cache.sliceBits);
  if (status !== Status.Ok) return status;
  storeU64(slice.data + usize(field - slice.hostOffset), work.mergedTableOffset);
  markDirty(image.order, slice);
  retrack(image, work.entryOffset, work.mergedTableOffset);
  work.index = 0;
  return Status.Ok;
}

function changeMark(image: Image, task: Task, work: BitmapWork, inUse: bool): Status {
  const field = work.entryOffset + BitmapOffset.Flags;
  const slice = needSlice(image.cache, TableKind.BitmapDirectory, field, task);
  if (slice === null) return task.outcome;
  const status = checkTableOverlap(image, slice.hostOffset, u64(1) << image.cache.sliceBits);
  if (status !== Status.Ok) return status;
  const address = slice.data + usize(field - slice.hostOffset);
  const flags = loadU32(address);
  storeU32(address, inUse ? flags | BitmapFlag.InUse : flags & ~u32(BitmapFlag.InUse));
  markDirty(image.order, slice);
  return Status.Ok;
}
