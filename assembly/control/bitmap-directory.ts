/** Another bitmap is made, or one is removed: the directory is written anew elsewhere, and the header switches over. */

import { BitmapFlag, BitmapPage } from '../abi/bitmap';
import { Field } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { storeU16, storeU32, storeU64 } from '../base/bytes';
import { Owner, writeModule, writeZeroes } from '../block';
import { needSlice, TableKind } from '../cache/table-cache';
import { requestFlush } from '../cache/write-order';
import {
  BITMAP_ENTRY_SIZE,
  BITMAP_HEADER_SIZE,
  BITMAP_TYPE_DIRTY,
  BitmapOffset,
  bitCount,
  bitmapEntryLength,
  bitmapTableSize,
  MAXIMUM_BITMAP_DIRECTORY_LENGTH,
  MAXIMUM_BITMAP_LENGTH,
  MAXIMUM_BITMAPS,
  MAXIMUM_GRANULARITY_BITS,
  MINIMUM_GRANULARITY_BITS,
} from '../format/bitmap-directory';
import { moveTracked, track, untrack } from '../image/bitmap-track';
import { Image } from '../image/image';
import { allocateRegion } from '../image/region';
import { parkOnOperation, Task } from '../image/task';
import { dropRegion, freeTable } from './bitmap-free';
import { planHeader, switchHeader } from './bitmap-header';
import {
  BitmapStage,
  BitmapWork,
  beginChanging,
  bitmapCall,
  findBitmap,
  keepEntry,
  needBitmap,
  newEntry,
  refuseCall,
  workOf,
} from './bitmap-work';

/** Adds the bitmap of the call. */
export function stepBitmapAdd(image: Image, task: Task): Status {
  while (true) {
    const status = addStep(image, task, workOf(image));
    if (status !== Status.Ok || task.stage === BitmapStage.Done) return status;
  }
}

/** Removes the bitmap that the call names. */
export function stepBitmapRemove(image: Image, task: Task): Status {
  while (true) {
    const status = removeStep(image, task, workOf(image));
    if (status !== Status.Ok || task.stage === BitmapStage.Done) return status;
  }
}

function addStep(image: Image, task: Task, work: BitmapWork): Status {
  switch (task.stage) {
    case BitmapStage.Begin:
      return beginChanging(image, task);
    case BitmapStage.Find:
      return planBitmap(image, task, work);
    case BitmapStage.PlanHeader: {
      const status = planHeader(image, task, work, true);
      if (status === Status.Ok) task.stage = BitmapStage.AllocateTable;
      return status;
    }
    case BitmapStage.AllocateTable:
    case BitmapStage.ZeroTable:
      return makeTable(image, task, work);
    default:
      return directoryStep(image, task, work);
  }
}

function removeStep(image: Image, task: Task, work: BitmapWork): Status {
  switch (task.stage) {
    case BitmapStage.Begin:
      return beginChanging(image, task);
    case BitmapStage.Find:
      return planRemoval(image, task, work);
    case BitmapStage.PlanHeader: {
      const status = planHeader(image, task, work, false);
      if (status !== Status.Ok) return status;
      task.stage = work.newCount === 0 ? BitmapStage.SwitchHeader : BitmapStage.AllocateDirectory;
      return Status.Ok;
    }
    default:
      return directoryStep(image, task, work);
  }
}

/** What both do from the new directory on. */
function directoryStep(image: Image, task: Task, work: BitmapWork): Status {
  switch (task.stage) {
    case BitmapStage.AllocateDirectory: {
      const status = allocateRegion(image, task, unitsFor(work.newDirectoryLength, image.geometry.clusterBits));
      if (status !== Status.Ok) return status;
      work.newDirectoryOffset = image.allocatedOffset;
      work.cursor = 0;
      task.stage = BitmapStage.WriteDirectory;
      return Status.Ok;
    }
    case BitmapStage.WriteDirectory:
      return writeDirectory(image, task, work);
    case BitmapStage.Flush:
      task.stage = BitmapStage.SwitchHeader;
      requestFlush(image.order, task);
      return Status.Miss;
    case BitmapStage.SwitchHeader: {
      // Half way nobody could say which directory counts.
      task.committed = true;
      const status = switchHeader(image, task, work);
      if (status === Status.Ok) takeDirectory(image, task, work);
      return status;
    }
    case BitmapStage.FreeDirectory: {
      const status = dropRegion(
        image,
        task,
        work.oldDirectoryOffset,
        work.oldDirectoryLength,
        TableKind.BitmapDirectory,
      );
      if (status !== Status.Ok) return status;
      work.index = 0;
      task.stage = BitmapStage.FreeTable;
      return Status.Ok;
    }
    default: {
      const status = freeTable(image, task, work);
      if (status === Status.Ok) task.stage = BitmapStage.Done;
      return status;
    }
  }
}

/** The name must be new, and the bitmap within QEMU's limits. */
function planBitmap(image: Image, task: Task, work: BitmapWork): Status {
  const call = bitmapCall(image);
  const state = image.bitmaps;
  const status = findBitmap(image, task, image.page + BitmapPage.Name, call.nameLength);
  if (status === Status.Ok) return refuseCall(image, Status.Exists, Field.BitmapName, 0, 0);
  if (status !== Status.NotFound) return status;
  const bits = call.granularityBits;
  if (image.version < 3) return refuseCall(image, Status.Unsupported, Field.BitmapName, image.version, 3);
  if (bits < MINIMUM_GRANULARITY_BITS || bits > MAXIMUM_GRANULARITY_BITS) {
    return refuseCall(image, Status.Invalid, Field.BitmapGranularity, bits, MAXIMUM_GRANULARITY_BITS);
  }
  const length = unitsFor(bitCount(image.virtualSize, bits), 3);
  if (length === 0 || length > MAXIMUM_BITMAP_LENGTH) {
    return refuseCall(image, Status.TooLarge, Field.BitmapGranularity, length, MAXIMUM_BITMAP_LENGTH);
  }
  if (state.count === MAXIMUM_BITMAPS) {
    return refuseCall(image, Status.TooLarge, Field.BitmapCount, state.count, MAXIMUM_BITMAPS);
  }
  if ((call.flags & BitmapFlag.Auto) !== 0 && state.trackedCount === state.capacity) {
    return refuseCall(image, Status.TooLarge, Field.BitmapCount, state.capacity + 1, state.capacity);
  }
  work.newCount = state.count + 1;
  work.newDirectoryLength = state.directoryLength + bitmapEntryLength(0, call.nameLength);
  if (work.newDirectoryLength > MAXIMUM_BITMAP_DIRECTORY_LENGTH) {
    const limit = MAXIMUM_BITMAP_DIRECTORY_LENGTH;
    return refuseCall(image, Status.TooLarge, Field.Length, work.newDirectoryLength, limit);
  }
  // Nothing is cut out of the old directory; nothing of a bitmap is freed.
  work.entryOffset = state.directoryOffset + state.directoryLength;
  work.entryLength = 0;
  work.granularityBits = bits;
  task.stage = BitmapStage.PlanHeader;
  return Status.Ok;
}

function planRemoval(image: Image, task: Task, work: BitmapWork): Status {
  const status = needBitmap(image, task);
  if (status !== Status.Ok) return status;
  keepEntry(image);
  work.newCount = image.bitmaps.count - 1;
  work.newDirectoryLength = image.bitmaps.directoryLength - work.entryLength;
  task.stage = BitmapStage.PlanHeader;
  return Status.Ok;
}

/** A table without bits: zeros. */
function makeTable(image: Image, task: Task, work: BitmapWork): Status {
  const clusterBits = image.geometry.clusterBits;
  const size = bitmapTableSize(image.virtualSize, work.granularityBits, clusterBits);
  const clusters = unitsFor(size * BITMAP_ENTRY_SIZE, clusterBits);
  if (task.stage === BitmapStage.AllocateTable) {
    const status = allocateRegion(image, task, clusters);
    if (status !== Status.Ok) return status;
    work.newTableOffset = image.allocatedOffset;
    task.stage = BitmapStage.ZeroTable;
    const length = u32(clusters << clusterBits);
    writeZeroes(image.operations, changetype<usize>(task), work.newTableOffset, length);
    return parkOnOperation(task);
  }
  makeEntry(image, work, u32(size));
  task.stage = BitmapStage.AllocateDirectory;
  return Status.Ok;
}

function makeEntry(image: Image, work: BitmapWork, tableSize: u32): void {
  const call = bitmapCall(image);
  const entry = newEntry(image);
  memory.fill(entry, 0, usize(bitmapEntryLength(0, call.nameLength)));
  storeU64(entry + BitmapOffset.TableOffset, work.newTableOffset);
  storeU32(entry + BitmapOffset.TableSize, tableSize);
  storeU32(entry + BitmapOffset.Flags, call.flags & BitmapFlag.Auto);
  store<u8>(entry + BitmapOffset.Type, u8(BITMAP_TYPE_DIRTY));
  store<u8>(entry + BitmapOffset.GranularityBits, u8(work.granularityBits));
  storeU16(entry + BitmapOffset.NameLength, u16(call.nameLength));
  memory.copy(entry + BITMAP_HEADER_SIZE, image.page + BitmapPage.Name, call.nameLength);
}

/** Writes the next slice of the new directory: the old one without what is cut out, then the new entry, then zeros. */
function writeDirectory(image: Image, task: Task, work: BitmapWork): Status {
  if (work.cursor >= work.newDirectoryLength) {
    task.stage = BitmapStage.Flush;
    return Status.Ok;
  }
  const sliceSize = u64(1) << image.geometry.sliceBits;
  const end = min(work.cursor + sliceSize, work.newDirectoryLength);
  memory.fill(image.scratch, 0, usize(sliceSize));
  for (let position = work.cursor; position < end; ) {
    const count = copyPiece(image, task, work, position, end - position);
    if (count === 0) return task.outcome;
    position += count;
  }
  const hostOffset = work.newDirectoryOffset + work.cursor;
  work.cursor += sliceSize;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.scratch, u32(sliceSize));
  return parkOnOperation(task);
}

/** Copies up to `limit` bytes of the new directory from `position` on to their place in the scratch; 0 when parked. */
function copyPiece(image: Image, task: Task, work: BitmapWork, position: u64, limit: u64): u64 {
  const state = image.bitmaps;
  const target = image.scratch + usize(position - work.cursor);
  const kept = state.directoryLength - work.entryLength;
  if (position >= kept) {
    memory.copy(target, newEntry(image) + usize(position - kept), usize(limit));
    return limit;
  }
  const cut = work.entryOffset - state.directoryOffset;
  const source = state.directoryOffset + (position < cut ? position : position + work.entryLength);
  const slice = needSlice(image.cache, TableKind.BitmapDirectory, source, task);
  if (slice === null) return 0;
  const inSlice = source - slice.hostOffset;
  const run = (position < cut ? cut : kept) - position;
  const count = min(min(limit, run), (u64(1) << image.cache.sliceBits) - inSlice);
  memory.copy(target, slice.data + usize(inSlice), usize(count));
  return count;
}

/** The header names the new directory, durably. */
function takeDirectory(image: Image, task: Task, work: BitmapWork): void {
  const state = image.bitmaps;
  work.oldDirectoryOffset = state.directoryOffset;
  work.oldDirectoryLength = state.directoryLength;
  state.count = work.newCount;
  state.directoryOffset = work.newDirectoryOffset;
  state.directoryLength = work.newDirectoryLength;
  untrack(image, work.entryOffset);
  moveTracked(image, work.oldDirectoryOffset, state.directoryOffset, work.entryOffset, work.entryLength);
  if (task.kind === RequestKind.BitmapAdd && (bitmapCall(image).flags & BitmapFlag.Auto) !== 0) {
    const entryOffset = state.directoryOffset + work.oldDirectoryLength;
    track(image, entryOffset, work.newTableOffset, work.granularityBits);
  }
  work.newTableOffset = 0;
  work.newDirectoryOffset = 0;
  image.info.hasBitmaps = u32(state.count !== 0);
  task.stage = BitmapStage.FreeDirectory;
}
