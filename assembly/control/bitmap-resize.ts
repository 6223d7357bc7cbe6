/**
 * The bitmaps of a disk whose size changes: each gets a table for the new size, whose bits are those of before; new ones
 * are not dirty, as in QEMU. Nothing of the old ones is overwritten:
 *
 *   region:   directory, in use │ table │ end of the bits │ table │ end of the bits │ ...
 *
 *   write the region ─▶ flush ─▶ header names it ─▶ (the disk gets its size) ─▶ marks cleared ─▶ flush ─▶ old ones free
 *
 * A power cut before the header names the region leaves the bitmaps as they were, one behind the marks those of the new
 * size. In between they are in use: whatever their tables hold, nobody takes it for the truth.
 */

import { BitmapFlag } from '../abi/bitmap';
import { Field } from '../abi/failure';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { loadU32, storeU32 } from '../base/bytes';
import { writeZeroes } from '../block';
import { needSlice, TableKind } from '../cache/table-cache';
import { markDirty, requestFlush } from '../cache/write-order';
import { BitmapOffset, bitCount, MAXIMUM_BITMAP_LENGTH } from '../format/bitmap-directory';
import { checkUsable, copyName, needBitmapEntry, needBitmapEntryBefore } from '../image/bitmap-entry';
import { storeBitmaps, track } from '../image/bitmap-track';
import { Image } from '../image/image';
import { checkTableOverlap } from '../image/overlap';
import { abandonRegion, allocateRegion } from '../image/region';
import { parkOnOperation, Task } from '../image/task';
import { dropRegion, freeTable } from './bitmap-free';
import { isHeaderUnknown, planHeader, switchHeader } from './bitmap-header';
import {
  BitmapResize,
  copyBitmap,
  endIndex,
  endOffset,
  firstTable,
  needEndEntry,
  ResizeStage,
  tableClusters,
} from './bitmap-resize-copy';
import { refuseCall, workOf } from './bitmap-work';

/** Bytes of the largest region: what is longer is not resized in one piece. */
const MAXIMUM_REGION_LENGTH: u64 = 1 << 30;

/**
 * Ok when every bitmap can have a table for a disk of `newSize` bytes, and none is in use because of us. Changes nothing
 * else. Refuses as QEMU does when one of them is inconsistent.
 */
export function lookAtBitmaps(image: Image, task: Task, state: BitmapResize): Status {
  if (state.stage === ResizeStage.Store) {
    const status = storeBitmaps(image, task);
    if (status !== Status.Ok) return status;
    state.clusters = unitsFor(image.bitmaps.directoryLength, image.geometry.clusterBits);
    startWalk(image, state, ResizeStage.Look);
  }
  while (state.stage === ResizeStage.Look && state.index < image.bitmaps.count) {
    if (image.order.broken) return refuseBroken(image);
    const status = lookAt(image, task, state);
    if (status !== Status.Ok) return status;
  }
  if (state.stage === ResizeStage.Look) state.stage = ResizeStage.PlanHeader;
  return Status.Ok;
}

/** Ok when the header names the tables for the new size, durably; from the allocation on there is no way back. */
export function switchBitmaps(image: Image, task: Task, state: BitmapResize): Status {
  while (state.stage !== ResizeStage.ClearMarks) {
    if (task.outstanding !== 0) {
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    const status = switchStep(image, task, state);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

/** The disk has its new size: Ok when the bitmaps count again, durably, and the old ones are on their way to being free. */
export function finishBitmaps(image: Image, task: Task, state: BitmapResize): Status {
  while (state.stage !== ResizeStage.Done) {
    const status = finishStep(image, task, state);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

/** The task failed. What was written for the new size leaks: the cache may still hold it. */
export function abandonBitmapResize(image: Image, state: BitmapResize): void {
  if (state.stage === ResizeStage.Allocate) abandonRegion(image);
  if (state.stage === ResizeStage.Switch && isHeaderUnknown(workOf(image))) image.order.broken = true;
}

function startWalk(image: Image, state: BitmapResize, stage: ResizeStage): void {
  state.index = 0;
  state.entryOffset = image.bitmaps.directoryOffset;
  state.stage = stage;
}

function lookAt(image: Image, task: Task, state: BitmapResize): Status {
  const entry = image.bitmaps.entry;
  let status = needBitmapEntry(image, task, state.entryOffset);
  if (status !== Status.Ok) return status;
  if ((entry.flags & BitmapFlag.InUse) !== 0) {
    // For the message; what the request said is known by now.
    status = copyName(image, task, image.page);
    if (status !== Status.Ok) return status;
  }
  status = checkUsable(image, entry, false);
  if (status !== Status.Ok) {
    image.failure.nameAddress = u32(image.page);
    image.failure.nameLength = (entry.flags & BitmapFlag.InUse) !== 0 ? entry.nameLength : 0;
    return status;
  }
  const length = unitsFor(bitCount(state.newSize, entry.granularityBits), 3);
  if (length === 0 || length > MAXIMUM_BITMAP_LENGTH) {
    return refuseCall(image, Status.TooLarge, Field.BitmapGranularity, length, MAXIMUM_BITMAP_LENGTH);
  }
  state.clusters += tableClusters(image, state) + 1;
  const limit = MAXIMUM_REGION_LENGTH >> image.geometry.clusterBits;
  if (state.clusters > limit) return refuseCall(image, Status.TooLarge, Field.Length, state.clusters, limit);
  state.entryOffset += entry.length;
  state.index++;
  return Status.Ok;
}

function switchStep(image: Image, task: Task, state: BitmapResize): Status {
  const work = workOf(image);
  // What cannot be written any more would fill the cache.
  if (image.order.broken) return refuseBroken(image);
  switch (state.stage) {
    case ResizeStage.PlanHeader: {
      const status = planHeader(image, task, work, false);
      if (status === Status.Ok) state.stage = ResizeStage.Allocate;
      return status;
    }
    case ResizeStage.Allocate: {
      // What was allocated would be lost, and further on the bitmaps would.
      task.committed = true;
      const status = allocateRegion(image, task, state.clusters);
      if (status !== Status.Ok) return status;
      state.regionOffset = image.allocatedOffset;
      state.stage = ResizeStage.Zero;
      const length = u32(state.clusters << image.geometry.clusterBits);
      writeZeroes(image.operations, changetype<usize>(task), state.regionOffset, length);
      return parkOnOperation(task);
    }
    case ResizeStage.Zero: {
      state.tableOffset = firstTable(image, state);
      state.cursor = 0;
      startWalk(image, state, ResizeStage.CopyTable);
      return Status.Ok;
    }
    case ResizeStage.Flush:
      state.stage = ResizeStage.Switch;
      requestFlush(image.order, task);
      return Status.Miss;
    case ResizeStage.Switch: {
      work.newCount = image.bitmaps.count;
      work.newDirectoryOffset = state.regionOffset;
      work.newDirectoryLength = image.bitmaps.directoryLength;
      const status = switchHeader(image, task, work);
      if (status === Status.Ok) takeDirectory(image, state);
      return status;
    }
    default:
      return copyBitmap(image, task, state);
  }
}

/** The header names the new directory: its bitmaps are in use, and nothing is noted in them. */
function takeDirectory(image: Image, state: BitmapResize): void {
  const bitmaps = image.bitmaps;
  state.oldDirectoryOffset = bitmaps.directoryOffset;
  bitmaps.directoryOffset = state.regionOffset;
  bitmaps.trackedCount = 0;
  startWalk(image, state, ResizeStage.ClearMarks);
}

function finishStep(image: Image, task: Task, state: BitmapResize): Status {
  if (image.order.broken) return refuseBroken(image);
  switch (state.stage) {
    case ResizeStage.ClearMarks:
      return clearMarks(image, task, state);
    case ResizeStage.FlushMarks:
      state.index = 0;
      state.entryOffset = state.oldDirectoryOffset;
      state.tableOffset = firstTable(image, state);
      workOf(image).tableOffset = 0;
      state.stage = ResizeStage.FreeTables;
      requestFlush(image.order, task);
      return Status.Miss;
    case ResizeStage.FreeTables:
      return freeTables(image, task, state);
    default: {
      const length = image.bitmaps.directoryLength;
      const status = dropRegion(image, task, state.oldDirectoryOffset, length, TableKind.BitmapDirectory);
      if (status === Status.Ok) state.stage = ResizeStage.Done;
      return status;
    }
  }
}

/** From here on changes are noted in the enabled ones again, whatever fails. */
function clearMarks(image: Image, task: Task, state: BitmapResize): Status {
  const entry = image.bitmaps.entry;
  while (state.index < image.bitmaps.count) {
    let status = needBitmapEntry(image, task, state.entryOffset);
    if (status !== Status.Ok) return status;
    const field = state.entryOffset + BitmapOffset.Flags;
    const slice = needSlice(image.cache, TableKind.BitmapDirectory, field, task);
    if (slice === null) return task.outcome;
    status = checkTableOverlap(image, slice.hostOffset, u64(1) << image.cache.sliceBits);
    if (status !== Status.Ok) return status;
    const address = slice.data + usize(field - slice.hostOffset);
    storeU32(address, loadU32(address) & ~u32(BitmapFlag.InUse));
    markDirty(image.order, slice);
    if ((entry.flags & BitmapFlag.Auto) !== 0) {
      track(image, entry.hostOffset, entry.tableOffset, entry.granularityBits);
    }
    state.entryOffset += entry.length;
    state.index++;
  }
  state.stage = ResizeStage.FlushMarks;
  return Status.Ok;
}

/** The old tables, and of their bits those that no new one names; and what the region has for nothing. */
function freeTables(image: Image, task: Task, state: BitmapResize): Status {
  const work = workOf(image);
  const entry = image.bitmaps.entry;
  const clusterSize = u64(image.geometry.clusterSize);
  const directoryEnd = state.oldDirectoryOffset + image.bitmaps.directoryLength;
  while (state.index < image.bitmaps.count) {
    let status = needBitmapEntryBefore(image, task, state.entryOffset, directoryEnd);
    if (status !== Status.Ok) return status;
    const nextEntry = state.entryOffset + entry.length;
    const end = endOffset(image, state);
    if (work.tableOffset === 0) {
      const named = needEndEntry(image, task, state);
      if (task.outcome !== Status.Ok) return task.outcome;
      if (named === 0) status = dropRegion(image, task, end, clusterSize, TableKind.BitmapBits);
      if (status !== Status.Ok) return status;
      work.tableOffset = entry.tableOffset;
      work.tableSize = entry.tableSize;
      work.index = u32(min(u64(entry.tableSize), endIndex(image, state)));
    }
    status = freeTable(image, task, work);
    if (status !== Status.Ok) return status;
    work.tableOffset = 0;
    state.tableOffset = end + clusterSize;
    state.entryOffset = nextEntry;
    state.index++;
  }
  state.stage = ResizeStage.FreeDirectory;
  return Status.Ok;
}

function refuseBroken(image: Image): Status {
  return refuseCall(image, Status.Broken, Field.None, 0, 0);
}
