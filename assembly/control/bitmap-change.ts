/** A bitmap is enabled, disabled or cleared: one field of its entry changes, which a power cut leaves old or new. */

import { BitmapFlag } from '../abi/bitmap';
import { Field } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { loadU32, storeU32, storeU64 } from '../base/bytes';
import { writeZeroes } from '../block';
import { needSlice, TableKind } from '../cache/table-cache';
import { markDirty, requestFlush } from '../cache/write-order';
import { BITMAP_ENTRY_SIZE, BitmapOffset } from '../format/bitmap-directory';
import { checkUsable } from '../image/bitmap-entry';
import { retrack, track, untrack } from '../image/bitmap-track';
import { Image } from '../image/image';
import { checkTableOverlap } from '../image/overlap';
import { allocateRegion } from '../image/region';
import { parkOnOperation, Task } from '../image/task';
import { freeTable } from './bitmap-free';
import {
  BitmapStage,
  BitmapWork,
  beginChanging,
  isEnabled,
  keepEntry,
  needBitmap,
  refuseCall,
  workOf,
} from './bitmap-work';

/** Goes on with a BitmapEnable, BitmapDisable or BitmapClear. */
export function stepBitmapChange(image: Image, task: Task): Status {
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
      return plan(image, task);
    case BitmapStage.AllocateTable:
    case BitmapStage.ZeroTable:
      return makeTable(image, task, work);
    case BitmapStage.Apply:
      return apply(image, task, work);
    case BitmapStage.FlushApplied:
      task.stage = BitmapStage.FreeTable;
      requestFlush(image.order, task);
      return Status.Miss;
    default: {
      if (task.kind === RequestKind.BitmapClear) {
        const status = freeTable(image, task, work);
        if (status !== Status.Ok) return status;
      }
      // Not before the file says so: there it would be a bitmap that is enabled, not in use, and misses changes.
      if (task.kind === RequestKind.BitmapDisable) untrack(image, work.entryOffset);
      task.stage = BitmapStage.Done;
      return Status.Ok;
    }
  }
}

function plan(image: Image, task: Task): Status {
  let status = needBitmap(image, task);
  if (status !== Status.Ok) return status;
  const entry = image.bitmaps.entry;
  status = checkUsable(image, entry, false);
  if (status !== Status.Ok) return status;
  const another = task.kind === RequestKind.BitmapEnable && !isEnabled(entry.flags);
  if (another && image.bitmaps.trackedCount === image.bitmaps.capacity) {
    const most = image.bitmaps.capacity;
    return refuseCall(image, Status.TooLarge, Field.BitmapCount, most + 1, most);
  }
  keepEntry(image);
  workOf(image).index = 0;
  task.stage = task.kind === RequestKind.BitmapClear ? BitmapStage.AllocateTable : BitmapStage.Apply;
  return Status.Ok;
}

/** A bitmap that is cleared or merged into gets another table, which has no bits at first. Ok with the stage Apply at the end. */
export function makeTable(image: Image, task: Task, work: BitmapWork): Status {
  if (task.stage === BitmapStage.AllocateTable) {
    const clusterBits = image.geometry.clusterBits;
    const clusters = unitsFor(u64(work.tableSize) * BITMAP_ENTRY_SIZE, clusterBits);
    const status = allocateRegion(image, task, clusters);
    if (status !== Status.Ok) return status;
    work.newTableOffset = image.allocatedOffset;
    task.stage = BitmapStage.ZeroTable;
    writeZeroes(image.operations, changetype<usize>(task), work.newTableOffset, u32(clusters << clusterBits));
    return parkOnOperation(task);
  }
  task.stage = BitmapStage.Apply;
  return Status.Ok;
}

/** Changes the field in the cache, and what is tracked with it, whatever fails from here on; disabling tracks on. */
function apply(image: Image, task: Task, work: BitmapWork): Status {
  const cleared = task.kind === RequestKind.BitmapClear;
  if (image.order.broken) return refuseCall(image, Status.Broken, Field.None, 0, 0);
  const field = work.entryOffset + (cleared ? BitmapOffset.TableOffset : BitmapOffset.Flags);
  const slice = needSlice(image.cache, TableKind.BitmapDirectory, field, task);
  if (slice === null) return task.outcome;
  const status = checkTableOverlap(image, slice.hostOffset, u64(1) << image.cache.sliceBits);
  if (status !== Status.Ok) return status;
  const address = slice.data + usize(field - slice.hostOffset);
  if (cleared) {
    storeU64(address, work.newTableOffset);
    retrack(image, work.entryOffset, work.newTableOffset);
    work.newTableOffset = 0;
  } else {
    const enables = task.kind === RequestKind.BitmapEnable;
    const others = loadU32(address) & ~u32(BitmapFlag.Auto);
    storeU32(address, enables ? others | BitmapFlag.Auto : others);
    if (enables) {
      untrack(image, work.entryOffset);
      track(image, work.entryOffset, work.tableOffset, work.granularityBits);
    }
  }
  markDirty(image.order, slice);
  task.committed = true;
  task.stage = BitmapStage.FlushApplied;
  return Status.Ok;
}
