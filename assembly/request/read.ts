/** Read: every run of the range becomes one operation, or a fill with zeros. */

import { ConfigurationFlag } from '../abi/configuration';
import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { BufferSpace } from '../abi/operation';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { decompress, fillGuest, readBacking, readGuest } from '../block';
import { Image } from '../image/image';
import { mapRun } from '../image/mapping';
import { TASK_OPERATIONS, Task } from '../image/task';
import { isAboutVmState } from '../image/vm-state';

export function stepRead(image: Image, task: Task): Status {
  const backed = image.hasBacking && !isAboutVmState(task);
  while (task.cursor < task.guestEnd) {
    if (task.outstanding === TASK_OPERATIONS) return Status.Miss;
    const status = mapRun(image, task, task.cursor, task.guestEnd - task.cursor);
    if (status !== Status.Ok) return status;
    const run = image.run;
    const bufferOffset = u32(task.cursor - task.guestOffset);
    if (run.kind === ExtentKind.Data) {
      task.outstanding++;
      const length = u32(run.length);
      readGuest(image.operations, changetype<usize>(task), task.slot, run.hostOffset, bufferOffset, length);
    } else if (run.kind === ExtentKind.Compressed) {
      const status = readCompressed(image, task);
      if (status !== Status.Ok) return status;
    } else if (backed && (run.kind === ExtentKind.Unallocated || run.kind === ExtentKind.Reserved)) {
      task.outstanding++;
      const length = u32(run.length);
      const owner = changetype<usize>(task);
      readBacking(image.operations, owner, BufferSpace.Guest, task.slot, task.cursor, bufferOffset, length, 0);
    } else {
      fillGuest(task.slot, bufferOffset, u32(run.length));
    }
    task.cursor += run.length;
  }
  return task.outstanding === 0 ? Status.Ok : Status.Miss;
}

function readCompressed(image: Image, task: Task): Status {
  const run = image.run;
  if ((image.configuration.flags & ConfigurationFlag.Decompresses) === 0) {
    refuse(image.failure, Status.Unsupported, Structure.DataCluster, Field.Compression, run.hostOffset, 0, 0);
    image.failure.guestOffset = task.cursor;
    return Status.Unsupported;
  }
  task.outstanding++;
  decompress(
    image.operations,
    changetype<usize>(task),
    BufferSpace.Guest,
    task.slot,
    run.hostOffset,
    run.compressedLength,
    u32(task.cursor) & (image.geometry.clusterSize - 1),
    u32(task.cursor - task.guestOffset),
    u32(run.length),
  );
  return Status.Ok;
}
