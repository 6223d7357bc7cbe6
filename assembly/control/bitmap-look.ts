/** Which bitmaps there are, and what is dirty in one: answers in the page. */

import { BitmapFlag, BitmapItem, BitmapPage, BitmapRange } from '../abi/bitmap';
import { PAGE_LENGTH } from '../abi/configuration';
import { Field } from '../abi/failure';
import { Status } from '../abi/status';
import { findDirty } from '../image/bitmap-bits';
import { checkUsable, copyName, needBitmapEntry } from '../image/bitmap-entry';
import { isOurs } from '../image/bitmap-state';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { BitmapStage, BitmapWork, beginLooking, keepEntry, needBitmap, refuseCall, workOf } from './bitmap-work';

const ITEM_SIZE: u32 = 16;
const RANGE_SIZE: u32 = 16;
const ANSWER_END: u32 = PAGE_LENGTH;
/** Slices that one answer looks at, at most: bounds the work between two chances to cancel. */
const PIECES_PER_ANSWER: u32 = 4096;

/** Goes on with a BitmapList. */
export function stepBitmapList(image: Image, task: Task): Status {
  if (task.stage === BitmapStage.Begin) {
    const status = beginLooking(image, task);
    if (status !== Status.Ok) return status;
    const length = image.bitmaps.directoryLength;
    if (task.guestOffset > length || (task.guestOffset & 7) !== 0) {
      return refuseCall(image, Status.Invalid, Field.Offset, task.guestOffset, length);
    }
    task.request.result = 0;
    task.request.progressTotal = length;
  }
  return list(image, task, workOf(image));
}

/** `work.cursor` is where in the page the next answer goes. */
function list(image: Image, task: Task, work: BitmapWork): Status {
  const state = image.bitmaps;
  const entry = state.entry;
  if (task.stage === BitmapStage.Find) {
    work.cursor = BitmapPage.Answer;
    task.stage = BitmapStage.Apply;
  }
  while (task.cursor < state.directoryLength) {
    let status = needBitmapEntry(image, task, state.directoryOffset + task.cursor);
    if (status !== Status.Ok) return status;
    const at = u32(work.cursor);
    if (ANSWER_END - at < ITEM_SIZE + entry.nameLength) break;
    status = copyName(image, task, image.page + at + ITEM_SIZE);
    if (status !== Status.Ok) return status;
    const ours = isOurs(state, entry.hostOffset);
    const item = changetype<BitmapItem>(image.page + at);
    item.flags = ours ? entry.flags & ~u32(BitmapFlag.InUse) : entry.flags;
    item.granularityBits = entry.granularityBits;
    item.nameLength = entry.nameLength;
    item.extraDataLength = entry.extraDataLength;
    work.cursor += (ITEM_SIZE + entry.nameLength + 7) & ~7;
    task.cursor += entry.length;
    task.request.result++;
  }
  task.request.progress = task.cursor;
  return Status.Ok;
}

/** Goes on with a BitmapRanges. */
export function stepBitmapRanges(image: Image, task: Task): Status {
  const work = workOf(image);
  if (task.stage === BitmapStage.Begin) {
    const length = task.request.length;
    if (length > image.virtualSize || task.guestOffset > image.virtualSize - length) {
      return refuseCall(image, Status.OutOfRange, Field.Offset, length, image.virtualSize);
    }
    const status = beginLooking(image, task);
    if (status !== Status.Ok) return status;
  }
  if (task.stage === BitmapStage.Find) {
    let status = needBitmap(image, task);
    if (status !== Status.Ok) return status;
    const entry = image.bitmaps.entry;
    status = checkUsable(image, entry, isOurs(image.bitmaps, entry.hostOffset));
    if (status !== Status.Ok) return status;
    keepEntry(image);
    work.index = 0;
    task.request.result = 0;
    task.stage = BitmapStage.Apply;
  }
  return listRanges(image, task, work);
}

function listRanges(image: Image, task: Task, work: BitmapWork): Status {
  while (task.cursor < task.guestEnd && work.index < PIECES_PER_ANSWER) {
    const bits = work.granularityBits;
    const status = findDirty(image, task, work.tableOffset, bits, task.cursor, task.guestEnd);
    if (status !== Status.Ok) return status;
    if (image.bitmaps.dirty && !append(image, task)) break;
    task.cursor = image.bitmaps.doneOffset;
    work.index++;
  }
  task.request.progress = task.cursor;
  return Status.Ok;
}

/** Adds the stretch up to `doneOffset` to the last range when it continues it, else as a new one; false when the page is full. */
function append(image: Image, task: Task): bool {
  const request = task.request;
  const count = u32(request.result);
  const length = image.bitmaps.doneOffset - task.cursor;
  if (count > 0) {
    const last = rangeAt(image, count - 1);
    if (last.guestOffset + last.length === task.cursor) {
      last.length += length;
      return true;
    }
  }
  if (u32(BitmapPage.Answer) + (count + 1) * RANGE_SIZE > ANSWER_END) return false;
  const range = rangeAt(image, count);
  range.guestOffset = task.cursor;
  range.length = length;
  request.result = u64(count) + 1;
  return true;
}

function rangeAt(image: Image, index: u32): BitmapRange {
  return changetype<BitmapRange>(image.page + BitmapPage.Answer + usize(index * RANGE_SIZE));
}
