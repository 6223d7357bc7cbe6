/**
 * An L2 table of the active disk's own: a new one where the L1 table has none, a copy where a snapshot shares it. One
 * task at a time makes one; the others that need one wait.
 *
 * The new table is written before the L1 entry names it, and both become durable in that order by the write-out. A table
 * that was shared loses its reference only when the L1 entry is durable. Its entries are copied as they are: what they
 * say of the refcounts of data clusters was true for the shared table, and stays so.
 */

import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { moveAll, push } from '../base/wait-list';
import { Owner, writeModule, writeZeroes } from '../block';
import { needSlice, TableKind } from '../cache/table-cache';
import { dropClusters, markDirty, needRoom } from '../cache/write-order';
import { l1Index } from '../format/geometry';
import { l2TableOffset, makeL1Entry } from '../format/l1-entry';
import { allocateClusters, releaseClusters } from './allocate';
import { Image } from './image';
import { rememberL1Entry } from './l1-memo';
import { checkTableOverlap } from './overlap';
import { addTable } from './table-map-state';
import { parkOnOperation, Task } from './task';

/** Makes the L2 table for `guestOffset`, whose L1 entry `mapRun` has just checked. Ok when it is linked in the cache. */
export function makeL2Table(image: Image, task: Task, guestOffset: u64): Status {
  const owner = image.tableOwner;
  if (owner !== null && owner !== task) {
    push(image.tableWaiters, task);
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  const entryOffset = image.l1Offset + (l1Index(image.geometry, guestOffset) << 3);
  const slice = needSlice(image.cache, TableKind.L1, entryOffset, task);
  if (slice === null) return task.outcome;
  const shared = l2TableOffset(loadU64(slice.data + usize(entryOffset - slice.hostOffset)));
  if (task.tableOffset === 0) return begin(image, task, shared);
  if (task.outstanding !== 0) {
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  if (shared !== 0) {
    const status = copySlice(image, task, shared);
    if (status !== Status.Ok) return status;
    if (!needRoom(image.order, task)) return Status.Miss;
    dropClusters(image.order, shared >> image.geometry.clusterBits, 1);
  }

  const entry = makeL1Entry(task.tableOffset);
  storeU64(slice.data + usize(entryOffset - slice.hostOffset), entry);
  rememberL1Entry(image, l1Index(image.geometry, guestOffset), entry);
  markDirty(image.order, slice);
  addTable(image.tables, task.tableOffset >> image.geometry.clusterBits);
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

/** Allocates the cluster; a table that copies none is zeros. */
function begin(image: Image, task: Task, shared: u64): Status {
  if (shared !== 0) {
    // Nothing else may be handed out as free, whatever the L1 entry says: an L2 table is all that this can be.
    const place = checkTableOverlap(image, shared, image.geometry.clusterSize);
    if (place !== Status.Ok) return place;
  }
  // Ownership begins before the allocation: it may park, and nobody else may make the same table meanwhile.
  image.tableOwner = task;
  const status = allocateClusters(image, task, 1);
  if (status !== Status.Ok) return status;
  task.tableOffset = image.allocatedOffset;
  image.tableCursor = 0;
  if (shared !== 0) return copySlice(image, task, shared);
  writeZeroes(image.operations, changetype<usize>(task), task.tableOffset, image.geometry.clusterSize);
  return parkOnOperation(task);
}

/** Copies the next slice of the table at `shared`; Ok when there is none left. */
function copySlice(image: Image, task: Task, shared: u64): Status {
  const sliceBits = image.geometry.sliceBits;
  const position = image.tableCursor << sliceBits;
  if (position === u64(image.geometry.clusterSize)) return Status.Ok;
  const slice = needSlice(image.cache, TableKind.L2, shared + position, task);
  if (slice === null) return task.outcome;
  const length = u32(1) << sliceBits;
  memory.copy(image.tableScratch, slice.data, length);
  image.tableCursor++;
  const hostOffset = task.tableOffset + position;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.tableScratch, length);
  return parkOnOperation(task);
}

function releaseOwnership(image: Image): void {
  image.tableOwner = null;
  moveAll(image.tableWaiters, image.ready);
}
