/**
 * Merge: what is dirty in one bitmap becomes dirty in another one. Set: so does what the host names. Until that is durable,
 * the other one is in use.
 */

import { BitmapFlag, BitmapPage, BitmapRange } from '../abi/bitmap';
import { PAGE_LENGTH } from '../abi/configuration';
import { Field } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { loadU32, storeU32 } from '../base/bytes';
import { push } from '../base/wait-list';
import { needSlice, TableKind } from '../cache/table-cache';
import { markDirty, requestFlush } from '../cache/write-order';
import { BitmapOffset } from '../format/bitmap-directory';
import { findDirty, setBits } from '../image/bitmap-bits';
import { checkUsable } from '../image/bitmap-entry';
import { Image } from '../image/image';
import { checkTableOverlap } from '../image/overlap';
import { Task } from '../image/task';
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
      if (task.kind === RequestKind.BitmapSet) return begin(image, task, work);
      return findSource(image, task, work);
    case BitmapStage.Apply:
      return apply(image, task, work);
    case BitmapStage.Flush:
      task.stage = BitmapStage.FlushApplied;
      requestFlush(image.order, task);
      return Status.Miss;
    case BitmapStage.FlushApplied: {
      const status = changeMark(image, task, work, false);
      if (status !== Status.Ok) return status;
      task.stage = BitmapStage.ClearMark;
      requestFlush(image.order, task);
      return Status.Miss;
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
  return begin(image, task, work);
}

/** The bitmap is in use from here on, durably before it changes. */
function begin(image: Image, task: Task, work: BitmapWork): Status {
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

/** Goes through the source: a dirty stretch is set in the target, piece by piece, and then comes the next one. */
function apply(image: Image, task: Task, work: BitmapWork): Status {
  for (let pieces: u32 = 0; pieces < PIECES_PER_TURN; pieces++) {
    let status: Status = Status.Ok;
    if (work.cursor < work.runEnd) {
      status = setBits(image, task, work.tableOffset, work.granularityBits, work.cursor, work.runEnd);
      if (status !== Status.Ok) return status;
      work.cursor = min(work.runEnd, image.bitmaps.doneOffset);
    } else if (isDone(image, task, work)) {
      task.stage = BitmapStage.Flush;
      return Status.Ok;
    } else if (task.kind === RequestKind.BitmapSet) {
      const range = rangeAt(image, work.index++);
      work.cursor = range.guestOffset;
      work.runEnd = range.guestOffset + range.length;
    } else {
      const end = image.virtualSize;
      status = findDirty(image, task, work.sourceTableOffset, work.sourceGranularityBits, work.cursor, end);
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
  return work.cursor === image.virtualSize;
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
