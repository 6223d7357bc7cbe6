/**
 * Write zeroes: whole clusters only change their L2 entries, and keep or lose their host clusters as the host wishes. A
 * part of a cluster whose rest reads as zeros counts as the whole of it, as for QEMU; other parts are overwritten with
 * zeros, in place or in new clusters as any write. Version 2 has no zero clusters: there, whole clusters are discarded,
 * and overwritten when a backing file would come to light again.
 */

import { ExtentKind } from '../abi/extent';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { writeScratch, zeroData } from '../block';
import { requestGuestFlush } from '../cache/write-order';
import { Image } from '../image/image';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { needNoTableForData } from '../image/overlap';
import { zeroRawData } from '../image/raw-data';
import { TASK_OPERATIONS, Task } from '../image/task';
import { discardedReplacement, Replacement, replaceEntries, zeroSubclusters } from '../image/unmap';
import {
  checkCopy,
  hasContents,
  headLength,
  linkNewClusters,
  Stage,
  tailLength,
  takeNewClusters,
  waitForAllocation,
  writeOffset,
  writeUnshared,
} from './new-clusters';

export function stepWriteZeroes(image: Image, task: Task): Status {
  while (true) {
    if (task.stage === Stage.Durable) return Status.Ok;
    if (task.stage === Stage.Edges) {
      if (task.scratch !== 0 && task.outstanding !== 0) return Status.Miss;
      handOut(image, task);
    }
    if (task.stage === Stage.Link) {
      if (task.outstanding !== 0) return Status.Miss;
      const status = linkNewClusters(image, task);
      if (status !== Status.Ok) return status;
    }
    if (task.cursor === task.guestEnd) {
      if (task.outstanding !== 0) return Status.Miss;
      if ((task.flags & RequestFlag.Durable) === 0) return Status.Ok;
      task.stage = Stage.Durable;
      requestGuestFlush(image.order, task);
      return Status.Miss;
    }
    const zeroed = zeroRawData(image, task, task.guestOffset, task.guestEnd);
    if (zeroed !== Status.Ok) return zeroed;
    if (task.outstanding === TASK_OPERATIONS) return Status.Miss;
    const status = plan(image, task);
    if (status !== Status.Ok) return status;
  }
}

/** Zeroes the next stretch: the part of a cluster up to its end, or as many whole clusters as are alike. */
function plan(image: Image, task: Task): Status {
  if (image.order.broken) return Status.Broken;
  if (image.geometry.extended) return planSubclusters(image, task);
  const clusterSize = u64(image.geometry.clusterSize);
  const inCluster = task.cursor & (clusterSize - 1);
  // The last cluster of the disk is whole when the disk ends in it.
  const end = task.guestEnd === image.virtualSize ? u64.MAX_VALUE : task.guestEnd & ~(clusterSize - 1);
  const whole = inCluster === 0 && task.cursor < end;
  const wanted = whole
    ? min(task.guestEnd, end) - task.cursor
    : min(clusterSize - inCluster, task.guestEnd - task.cursor);
  const status = mapRun(image, task, task.cursor, wanted);
  if (status !== Status.Ok) return status;
  const run = image.run;
  if (whole || !hasContents(image)) {
    if (image.version >= 3) {
      const unmap = (task.flags & RequestFlag.Unmap) !== 0 || run.kind === ExtentKind.Compressed;
      return markClusters(image, task, unmap ? discardedReplacement(image) : Replacement.ZeroKept);
    }
    if (!image.hasBacking) return markClusters(image, task, Replacement.Unallocated);
  }
  return fillRun(image, task);
}

/**
 * The same by subclusters: only a whole cluster that may be given back, or is compressed, is more than bits of the bitmap.
 */
function planSubclusters(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const clusterSize = u64(geometry.clusterSize);
  const subclusterSize = u64(1) << geometry.subclusterBits;
  const toEnd = task.guestEnd === image.virtualSize;
  const clusterEnd = (task.cursor & ~(clusterSize - 1)) + clusterSize;
  const inSubcluster = task.cursor & (subclusterSize - 1);
  const end = toEnd ? task.guestEnd : task.guestEnd & ~(subclusterSize - 1);
  const whole = inSubcluster === 0 && task.cursor < end;
  // A whole cluster that may be given back begins a stretch of its own.
  const last = (task.flags & RequestFlag.Unmap) !== 0 ? min(end, clusterEnd) : end;
  const wanted = whole ? last - task.cursor : min(subclusterSize - inSubcluster, task.guestEnd - task.cursor);
  const status = mapRun(image, task, task.cursor, wanted);
  if (status !== Status.Ok) return status;
  const run = image.run;
  const compressed = run.kind === ExtentKind.Compressed;
  const isCluster = task.cursor === clusterEnd - clusterSize && (task.guestEnd >= clusterEnd || toEnd);
  const gives = compressed || ((task.flags & RequestFlag.Unmap) !== 0 && run.hasTable);
  if (isCluster && gives) return markClusters(image, task, discardedReplacement(image));
  if (compressed || !(whole || !hasContents(image))) return fillRun(image, task);
  if (!run.hasTable || run.tableShared) return makeL2Table(image, task, task.cursor);
  if (waitForAllocation(image, task)) return Status.Miss;
  return zeroSubclusters(image, task);
}

/** Writes zeros over the run, in place or in new clusters. */
function fillRun(image: Image, task: Task): Status {
  const run = image.run;
  if (run.kind === ExtentKind.Data && run.copied) return overwrite(image, task);
  const possible = checkCopy(image, task);
  if (possible !== Status.Ok) return possible;
  if (!run.hasTable || run.tableShared) return makeL2Table(image, task, task.cursor);
  if (waitForAllocation(image, task)) return Status.Miss;
  return takeNewClusters(image, task);
}

/** The run's clusters, also one of which only a part is meant, become zeros by their entries. */
function markClusters(image: Image, task: Task, replacement: Replacement): Status {
  const run = image.run;
  if (replacement === Replacement.Unallocated && run.kind === ExtentKind.Unallocated) {
    task.cursor += run.length;
    return Status.Ok;
  }
  if (!run.hasTable || run.tableShared) return makeL2Table(image, task, task.cursor);
  // A write to another part of the same cluster may be about to replace what its entry names.
  if (waitForAllocation(image, task)) return Status.Miss;
  return replaceEntries(image, task, replacement);
}

function overwrite(image: Image, task: Task): Status {
  const run = image.run;
  const status = needNoTableForData(image, task, run.hostOffset, run.length);
  if (status !== Status.Ok) return status;
  task.cursor += run.length;
  if (image.isDataRaw) return Status.Ok;
  task.outstanding++;
  zeroData(image.operations, changetype<usize>(task), run.hostOffset, u32(run.length));
  return Status.Ok;
}

/** Fills the new clusters: head, zeros, tail. Nothing else of the task is in flight when there is a head or a tail. */
function handOut(image: Image, task: Task): void {
  if (task.unshares) return writeUnshared(image, task);
  const operations = image.operations;
  const owner = changetype<usize>(task);
  const hostOffset = writeOffset(task);
  const head = headLength(task);
  const tail = tailLength(task);
  const end = task.newEnd;
  const length = u32(end - task.cursor);
  const scratch = task.scratch - 1;
  task.cursor = end;
  task.stage = Stage.Link;
  task.outstanding += 1 + u32(head !== 0) + u32(tail !== 0);
  if (head !== 0) writeScratch(operations, owner, scratch, hostOffset, task.edgeOffset, head);
  zeroData(operations, owner, hostOffset + head, length);
  if (tail === 0) return;
  const tailOffset = image.geometry.clusterSize * 2 - tail;
  writeScratch(operations, owner, scratch, hostOffset + head + length, tailOffset, tail);
}
