/**
 * Write: clusters with a refcount of one are overwritten in place. Others get new host clusters: data and what surrounds
 * it go there in one write, and only when that has ended are the L2 entries changed.
 */

import { ExtentKind } from '../abi/extent';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { writeGuest } from '../block';
import { requestGuestFlush } from '../cache/write-order';
import { Image } from '../image/image';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { needNoTableForData } from '../image/overlap';
import { TASK_OPERATIONS, Task } from '../image/task';
import {
  checkCopy,
  headLength,
  linkNewClusters,
  Stage,
  tailLength,
  takeNewClusters,
  waitForAllocation,
  writeOffset,
  writeUnshared,
} from './new-clusters';
import { stepWriteCompressed } from './write-compressed';

export function stepWrite(image: Image, task: Task): Status {
  while (true) {
    if (task.stage === Stage.Durable) return Status.Ok;
    if ((task.flags & RequestFlag.Compressed) !== 0) {
      const status = stepWriteCompressed(image, task);
      if (status !== Status.Ok) return status;
      // Done, or not smaller: then as any other write.
      task.flags &= ~u32(RequestFlag.Compressed);
    }
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
    if (task.outstanding === TASK_OPERATIONS) return Status.Miss;
    const status = plan(image, task);
    if (status !== Status.Ok) return status;
  }
}

/** Overwrites the next run, gets clusters for it, or finds out what is missing for that. */
function plan(image: Image, task: Task): Status {
  if (image.order.broken) return Status.Broken;
  const status = mapRun(image, task, task.cursor, task.guestEnd - task.cursor);
  if (status !== Status.Ok) return status;
  const run = image.run;
  if (run.kind === ExtentKind.Data && run.copied) return overwrite(image, task);
  const possible = checkCopy(image, task);
  if (possible !== Status.Ok) return possible;
  if (!run.hasTable || run.tableShared) return makeL2Table(image, task, task.cursor);
  if (waitForAllocation(image, task)) return Status.Miss;
  return takeNewClusters(image, task);
}

function overwrite(image: Image, task: Task): Status {
  const run = image.run;
  const status = needNoTableForData(image, task, run.hostOffset, run.length);
  if (status !== Status.Ok) return status;
  const length = u32(run.length);
  const bufferOffset = u32(task.cursor - task.guestOffset);
  task.cursor += run.length;
  task.outstanding++;
  writeGuest(image.operations, changetype<usize>(task), task.slot, run.hostOffset, bufferOffset, length, 0, 0, 0, 0);
  return Status.Ok;
}

/** Writes the guest bytes with head and tail; zeros are left out where the file has nothing yet. */
function handOut(image: Image, task: Task): void {
  if (task.unshares) return writeUnshared(image, task);
  const end = task.newEnd;
  let before = headLength(task);
  // A raw data file ends where the disk does.
  let after =
    image.isDataRaw && task.scratch === 0
      ? u32(min(task.edgeEnd, max(end, image.virtualSize)) - end)
      : tailLength(task);
  let hostOffset = writeOffset(task);
  if (task.virgin && task.scratch === 0) {
    hostOffset += before;
    before = 0;
    after = 0;
  }
  const length = u32(end - task.cursor);
  const bufferOffset = u32(task.cursor - task.guestOffset);
  task.cursor = end;
  task.stage = Stage.Link;
  task.outstanding++;
  writeGuest(
    image.operations,
    changetype<usize>(task),
    task.slot,
    hostOffset,
    bufferOffset,
    length,
    before,
    after,
    task.scratch,
    task.edgeOffset,
  );
}
