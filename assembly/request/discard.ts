/**
 * Discard: whole clusters lose their host clusters and read as zeros. Parts of clusters stay as they are, but for the
 * end of the disk. As QEMU: what was allocated becomes a zero cluster in version 3, unallocated in version 2. Over a
 * backing file all of it becomes zero clusters in version 3, and nothing happens in version 2, where what lies behind
 * would come to light again. When the host wants it, zero clusters keep their host clusters.
 *
 * With Unmap the disk's own bytes are to be gone instead: all of it becomes unallocated, and shows what lies behind.
 */

import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { Image } from '../image/image';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { zeroRawData } from '../image/raw-data';
import { TASK_OPERATIONS, Task } from '../image/task';
import { discardedReplacement, Replacement, replaceEntries } from '../image/unmap';

export function stepDiscard(image: Image, task: Task): Status {
  const uncovers = (task.flags & RequestFlag.Unmap) !== 0;
  // There the bytes would be gone ahead of the entry that names them, and a crash would show zeros.
  if (uncovers && image.hasDataFile) {
    return refuse(image.failure, Status.Unsupported, Structure.Header, Field.DataFile, 0, 0, 0);
  }
  if (image.hasBacking && image.version < 3 && !uncovers) return Status.Ok;
  const mask = u64(image.geometry.clusterSize) - 1;
  const end = task.guestEnd === image.virtualSize ? task.guestEnd : task.guestEnd & ~mask;
  while (true) {
    const cursor = (task.cursor + mask) & ~mask;
    if (cursor >= end) return task.outstanding === 0 ? Status.Ok : Status.Miss;
    if (image.order.broken) return Status.Broken;
    task.cursor = cursor;
    const zeroed = zeroRawData(image, task, cursor, end);
    if (zeroed !== Status.Ok) return zeroed;
    if (task.outstanding === TASK_OPERATIONS) return Status.Miss;
    let status = mapRun(image, task, cursor, end - cursor);
    if (status !== Status.Ok) return status;
    const run = image.run;
    const whole = run.length & ~mask;
    if (uncovers) {
      const isBeginning = image.geometry.extended && whole === 0 && run.length < end - cursor;
      if (run.kind === ExtentKind.Unallocated && !isBeginning) {
        task.cursor += whole !== 0 ? whole : run.length;
        continue;
      }
      status = run.tableShared
        ? makeL2Table(image, task, cursor)
        : replaceEntries(image, task, Replacement.Unallocated);
      if (status !== Status.Ok) return status;
      continue;
    }
    const hasNoHost = run.kind === ExtentKind.Unallocated || run.kind === ExtentKind.ZeroPlain;
    if (hasNoHost && !image.hasBacking) {
      // A run that is only the beginning of a cluster: the rest of it has no host cluster either.
      task.cursor += max(whole, min(mask + 1, end - cursor));
      continue;
    }
    if (run.kind === ExtentKind.ZeroPlain) {
      // The rest of a cluster of which the run is only the beginning is to be looked at with it.
      if (whole !== 0 || run.length === end - cursor || !image.geometry.extended) {
        task.cursor += whole !== 0 ? whole : run.length;
        continue;
      }
    }
    if (!run.hasTable || run.tableShared) {
      status = makeL2Table(image, task, cursor);
      if (status !== Status.Ok) return status;
      continue;
    }
    status = replaceEntries(image, task, image.version >= 3 ? discardedReplacement(image) : Replacement.Unallocated);
    if (status !== Status.Ok) return status;
  }
}
