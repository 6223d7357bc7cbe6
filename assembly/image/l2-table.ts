/** A new L2 table where the L1 table has none. One task at a time makes one; the others that need one wait. */

import { Status } from '../abi/status';
import { storeU64 } from '../base/bytes';
import { moveAll, push } from '../base/wait-list';
import { writeZeroes } from '../block';
import { needSlice, TableKind } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { l1Index } from '../format/geometry';
import { makeL1Entry } from '../format/l1-entry';
import { allocateClusters, releaseClusters } from './allocate';
import { Image } from './image';
import { rememberL1Entry } from './l1-memo';
import { parkOnOperation, Task } from './task';

/**
 * Makes the L2 table for `guestOffset`. Its cluster is zeroed before the L1 entry names it; both become durable in
 * that order by the write-out. Ok when it is linked in the cache.
 */
export function makeL2Table(image: Image, task: Task, guestOffset: u64): Status {
  const owner = image.tableOwner;
  if (owner !== null && owner !== task) {
    push(image.tableWaiters, task);
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  if (task.tableOffset === 0) {
    // Ownership begins before the allocation: it may park, and nobody else may make the same table meanwhile.
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
  const entryOffset = image.l1Offset + (l1Index(image.geometry, guestOffset) << 3);
  const slice = needSlice(image.cache, TableKind.L1, entryOffset, task);
  if (slice === null) return task.outcome;

  const entry = makeL1Entry(task.tableOffset);
  storeU64(slice.data + usize(entryOffset - slice.hostOffset), entry);
  rememberL1Entry(image, l1Index(image.geometry, guestOffset), entry);
  markDirty(image.order, slice);
  task.tableOffset = 0;
  releaseOwnership(image);
  return Status.Ok;
}

/** The owner failed: its cluster goes back, and the next one may try. Miss while the refcount is loaded. */
export function abandonL2Table(image: Image, task: Task): Status {
  if (task.tableOffset !== 0 && !task.leak) {
    const status = releaseClusters(image, task, task.tableOffset, 1);
    if (status === Status.Miss) return status;
  }
  task.tableOffset = 0;
  releaseOwnership(image);
  return Status.Ok;
}

function releaseOwnership(image: Image): void {
  image.tableOwner = null;
  moveAll(image.tableWaiters, image.ready);
}
