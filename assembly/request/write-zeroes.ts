/**
 * Write zeroes: whole clusters only change their L2 entries, and keep or lose their host clusters as the host wishes;
 * parts of clusters that hold data are overwritten with zeros. Version 2 has no zero clusters: there, data is
 * overwritten.
 */

import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { writeZeroes } from '../block';
import { requestFlush } from '../cache/write-order';
import { Image } from '../image/image';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { checkOverlap } from '../image/overlap';
import { TASK_OPERATIONS, Task } from '../image/task';
import { Replacement, replaceEntries } from '../image/unmap';

enum Stage {
  Plan = 0,
  Durable = 1,
}

export function stepWriteZeroes(image: Image, task: Task): Status {
  if (task.stage === Stage.Durable) return Status.Ok;
  while (task.cursor < task.guestEnd) {
    if (task.outstanding === TASK_OPERATIONS) return Status.Miss;
    const status = plan(image, task);
    if (status !== Status.Ok) return status;
  }
  if (task.outstanding !== 0) return Status.Miss;
  if ((task.flags & RequestFlag.Durable) === 0) return Status.Ok;
  task.stage = Stage.Durable;
  requestFlush(image.order, task);
  return Status.Miss;
}

/** Zeroes the next stretch: the part of a cluster up to its end, or as many whole clusters as are alike. */
function plan(image: Image, task: Task): Status {
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
  if (whole && image.version >= 3) {
    if (!run.hasTable) return makeL2Table(image, task, task.cursor);
    const unmap = (task.flags & RequestFlag.Unmap) !== 0 || run.kind === ExtentKind.Compressed;
    return replaceEntries(image, task, unmap ? Replacement.ZeroPlain : Replacement.ZeroKept);
  }
  if (run.kind === ExtentKind.Data || run.kind === ExtentKind.Compressed) return overwrite(image, task);
  task.cursor += run.length;
  return Status.Ok;
}

function overwrite(image: Image, task: Task): Status {
  const run = image.run;
  if (!run.copied || run.kind === ExtentKind.Compressed) {
    const field = run.kind === ExtentKind.Compressed ? Field.Compression : Field.Refcount;
    refuse(image.failure, Status.Unsupported, Structure.DataCluster, field, run.hostOffset, 0, 0);
    image.failure.guestOffset = task.cursor;
    return Status.Unsupported;
  }
  const status = checkOverlap(image, run.hostOffset, run.length);
  if (status !== Status.Ok) return status;
  task.cursor += run.length;
  task.outstanding++;
  writeZeroes(image.operations, changetype<usize>(task), run.hostOffset, u32(run.length));
  return Status.Ok;
}
