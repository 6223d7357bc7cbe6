/**
 * Write: clusters with a refcount of one are overwritten in place. Others get new host clusters: data and the zeros
 * around it go there in one write, and only when that has ended are the L2 entries changed.
 */

import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { moveAll, push } from '../base/wait-list';
import { writeGuest } from '../block';
import { needSlice, pin, TableKind, TableSlice, undoPin, unpin } from '../cache/table-cache';
import { markDirty, requestFlush } from '../cache/write-order';
import { makeDataEntry } from '../format/l2-entry';
import { abandonOwnership } from '../image/abandon';
import { allocateClusters, releaseClusters } from '../image/allocate';
import { clusterStart, Image } from '../image/image';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { checkOverlap, checkTableOverlap } from '../image/overlap';
import { TASK_OPERATIONS, Task } from '../image/task';

enum Stage {
  Plan = 0,
  /** Data for new clusters is on its way; the entries follow. */
  Link = 1,
  /** Everything is written and linked; a durable write waits for its flush. */
  Durable = 2,
}

export function stepWrite(image: Image, task: Task): Status {
  while (true) {
    if (task.stage === Stage.Durable) return Status.Ok;
    if (task.stage === Stage.Link) {
      if (task.outstanding !== 0) return Status.Miss;
      link(image, task);
    }
    if (task.cursor === task.guestEnd) {
      if (task.outstanding !== 0) return Status.Miss;
      if ((task.flags & RequestFlag.Durable) === 0) return Status.Ok;
      task.stage = Stage.Durable;
      requestFlush(image.order, task);
      return Status.Miss;
    }
    if (task.outstanding === TASK_OPERATIONS) return Status.Miss;
    const status = plan(image, task);
    if (status !== Status.Ok) return status;
  }
}

/** A failed write gives back what it holds. Miss while a refcount is being loaded: call again. */
export function abandonWrite(image: Image, task: Task): Status {
  const status = abandonOwnership(image, task);
  if (status === Status.Miss) return status;
  if (task.stage !== Stage.Link) return Status.Ok;
  if (task.fresh && !task.leak) {
    const status = releaseClusters(image, task, task.hostOffset, task.clusterCount);
    if (status === Status.Miss) return status;
  }
  leaveAllocating(image, task);
  unpin(image.cache, task.slice as TableSlice);
  task.slice = null;
  task.stage = Stage.Plan;
  return Status.Ok;
}

/** Hands out the write of the next run, or finds out what is missing for it. */
function plan(image: Image, task: Task): Status {
  const status = mapRun(image, task, task.cursor, task.guestEnd - task.cursor);
  if (status !== Status.Ok) return status;
  const run = image.run;
  if (run.kind === ExtentKind.Data && run.copied) return overwrite(image, task);
  if (run.kind === ExtentKind.Compressed) return refuseRun(image, task, Field.Compression);
  if (run.kind === ExtentKind.Data || (run.kind === ExtentKind.ZeroAllocated && !run.copied)) {
    return refuseRun(image, task, Field.Refcount);
  }
  if (waitForAllocation(image, task)) return Status.Miss;
  if (!run.hasTable) return makeL2Table(image, task, task.cursor);
  return writeNew(image, task);
}

function overwrite(image: Image, task: Task): Status {
  const run = image.run;
  const status = checkOverlap(image, run.hostOffset, run.length);
  if (status !== Status.Ok) return status;
  const length = u32(run.length);
  const bufferOffset = u32(task.cursor - task.guestOffset);
  task.cursor += run.length;
  task.outstanding++;
  writeGuest(image.operations, changetype<usize>(task), task.slot, run.hostOffset, bufferOffset, length, 0, 0);
  return Status.Ok;
}

/** Another request is filling one of these clusters: it links first, then this one overwrites. */
function waitForAllocation(image: Image, task: Task): bool {
  const start = clusterStart(image, task.cursor);
  const end = task.cursor + image.run.length;
  let other = image.allocating;
  while (other !== null) {
    if (other.allocatingStart < end && start < other.allocatingEnd) {
      image.waits++;
      push(other.followers, task);
      task.outcome = Status.Miss;
      return true;
    }
    other = other.allocatingNext;
  }
  return false;
}

/** Host clusters for the run, reserved ones or new ones, and the one write that fills them. */
function writeNew(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const run = image.run;
  const clusterSize = u64(geometry.clusterSize);
  const start = clusterStart(image, task.cursor);
  const place = checkTableOverlap(image, run.sliceOffset, u64(1) << geometry.sliceBits);
  if (place !== Status.Ok) return place;
  const slice = needSlice(image.cache, TableKind.L2, run.sliceOffset, task);
  if (slice === null) return task.outcome;
  const sliceIndex = run.sliceIndex;
  const fresh = run.kind !== ExtentKind.ZeroAllocated;
  let count = u32((task.cursor + run.length - start + clusterSize - 1) >> geometry.clusterBits);
  let hostOffset = run.hostOffset - (task.cursor - start);
  if (fresh) {
    // The slice must survive what the allocation loads.
    pin(slice);
    const status = allocateClusters(image, task, count);
    undoPin(slice);
    if (status !== Status.Ok) return status;
    hostOffset = image.allocatedOffset;
    count = image.allocatedCount;
  } else {
    const status = checkOverlap(image, hostOffset, u64(count) << geometry.clusterBits);
    if (status !== Status.Ok) return status;
  }

  pin(slice);
  task.slice = slice;
  task.sliceIndex = sliceIndex;
  task.clusterCount = count;
  task.hostOffset = hostOffset;
  task.fresh = fresh;
  task.virgin = fresh && image.allocatedVirgin;
  task.stage = Stage.Link;
  task.allocatingStart = start;
  task.allocatingEnd = start + (u64(count) << geometry.clusterBits);
  task.allocatingNext = image.allocating;
  image.allocating = task;
  handOut(image, task, min(task.guestEnd, task.allocatingEnd));
  return Status.Ok;
}

/** Writes the guest bytes up to `end`, and zeros around them unless the file has nothing there yet. */
function handOut(image: Image, task: Task, end: u64): void {
  const length = u32(end - task.cursor);
  const bufferOffset = u32(task.cursor - task.guestOffset);
  let zeroBefore = u32(task.cursor - task.allocatingStart);
  let zeroAfter = u32(task.allocatingEnd - end);
  let hostOffset = task.hostOffset;
  if (task.virgin) {
    hostOffset += zeroBefore;
    zeroBefore = 0;
    zeroAfter = 0;
  }
  task.cursor = end;
  task.outstanding++;
  writeGuest(
    image.operations,
    changetype<usize>(task),
    task.slot,
    hostOffset,
    bufferOffset,
    length,
    zeroBefore,
    zeroAfter,
  );
}

/** The data is written: the entries make it visible. They become durable after it, by the write-out. */
function link(image: Image, task: Task): void {
  const slice = task.slice as TableSlice;
  for (let index: u32 = 0; index < task.clusterCount; index++) {
    const address = slice.data + (usize(task.sliceIndex + index) << image.geometry.l2EntryBits);
    storeU64(address, makeDataEntry(task.hostOffset + (u64(index) << image.geometry.clusterBits)));
  }
  markDirty(image.order, slice);
  unpin(image.cache, slice);
  task.slice = null;
  task.stage = Stage.Plan;
  leaveAllocating(image, task);
}

function leaveAllocating(image: Image, task: Task): void {
  if (image.allocating === task) {
    image.allocating = task.allocatingNext;
  } else {
    let other = image.allocating as Task;
    while (other.allocatingNext !== task) other = other.allocatingNext as Task;
    other.allocatingNext = task.allocatingNext;
  }
  task.allocatingNext = null;
  moveAll(task.followers, image.ready);
}

function refuseRun(image: Image, task: Task, field: Field): Status {
  refuse(image.failure, Status.Unsupported, Structure.DataCluster, field, image.run.hostOffset, 0, 0);
  image.failure.guestOffset = task.cursor;
  return Status.Unsupported;
}
