/**
 * Preallocate: every cluster of a guest range that has no host cluster gets one, and reads as zeros as before. Alone with
 * the image, so that nobody writes where zeros are still on their way.
 *
 * A piece at a time: clusters are taken, made zeros where they may hold something, and linked; the file is never shorter
 * than what its tables name. Stopped at any time it leaves some of the range mapped. Compressed clusters stay as they are.
 * Of extended L2 entries only the place of the cluster changes, as QEMU does it: the subclusters stay unallocated, and
 * what lies behind the image still shows.
 */

import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { PreallocateMode, PreallocateOptions } from '../abi/preallocate-options';
import { Status } from '../abi/status';
import { alignUp } from '../base/align';
import { refuse } from '../base/refuse';
import { truncateData, writeZeroData, zeroData } from '../block';
import { requestFlush } from '../cache/write-order';
import { enterExclusive } from '../image/exclusive';
import { clusterStart, dataLength, Image } from '../image/image';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { Task } from '../image/task';
import { linkNewClusters, Stage, takeNewClusters } from './new-clusters';

/** Most bytes of one piece, or else one cluster: how long it takes until a request that was cancelled ends. */
const LONGEST_PIECE: u64 = 0x4000000;

/** In `image.exclusiveMemory`. */
@unmanaged
class Preallocation {
  mode: u32 = 0;
}

export function stepPreallocate(image: Image, task: Task): Status {
  if (!task.entered) {
    const status = begin(image, task);
    if (status !== Status.Ok) return status;
  }
  while (true) {
    if (task.stage === Stage.Durable) {
      task.committed = true;
      return Status.Ok;
    }
    if (task.stage === Stage.Edges) handOut(image, task);
    if (task.stage === Stage.Link) {
      if (task.outstanding !== 0) return Status.Miss;
      const status = linkNewClusters(image, task);
      if (status !== Status.Ok) return status;
    }
    task.request.progress = task.cursor - clusterStart(image, task.guestOffset);
    if (task.cursor === task.guestEnd) {
      task.stage = Stage.Durable;
      requestFlush(image.order, task);
      return Status.Miss;
    }
    const status = plan(image, task);
    if (status !== Status.Ok) return status;
  }
}

function begin(image: Image, task: Task): Status {
  const status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  const mode = changetype<PreallocateOptions>(image.page).mode;
  const length = task.request.length;
  if (!image.writable) return refuseRequest(image, Status.ReadOnly, Field.Kind, mode, 0);
  if (image.order.broken) return refuseRequest(image, Status.Broken, Field.Kind, mode, 0);
  if (mode < u32(PreallocateMode.Metadata) || mode > u32(PreallocateMode.Written)) {
    return refuseRequest(image, Status.Invalid, Field.Kind, mode, PreallocateMode.Written);
  }
  if (length > image.virtualSize || task.guestOffset > image.virtualSize - length) {
    return refuseRequest(image, Status.OutOfRange, Field.Offset, length, image.virtualSize);
  }
  task.entered = true;
  task.reserves = true;
  task.cursor = clusterStart(image, task.guestOffset);
  task.guestEnd = alignUp(task.guestOffset + length, image.geometry.clusterSize);
  if (length === 0) task.guestEnd = task.cursor;
  task.request.progressTotal = task.guestEnd - task.cursor;
  changetype<Preallocation>(image.exclusiveMemory).mode = mode;
  return Status.Ok;
}

/** Takes clusters for the next stretch that has none, or passes over what has some. */
function plan(image: Image, task: Task): Status {
  if (image.order.broken) return Status.Broken;
  const clusterSize = u64(image.geometry.clusterSize);
  const length = min(task.guestEnd - task.cursor, max(LONGEST_PIECE, clusterSize));
  const status = mapRun(image, task, task.cursor, length);
  if (status !== Status.Ok) return status;
  const run = image.run;
  // Of what is not allocated behind an image, a plain cluster would have to be a copy.
  const shines = run.kind === ExtentKind.Unallocated && image.hasBacking && !image.geometry.extended;
  if (shines && task.cursor >= task.guestOffset) {
    return refuse(image.failure, Status.Unsupported, Structure.Header, Field.BackingFile, 0, 0, 0);
  }
  if ((run.kind !== ExtentKind.Unallocated && run.kind !== ExtentKind.ZeroPlain) || shines) {
    // Subclusters of one cluster have a host cluster together, or none. The cluster that the range begins in may be
    // the end of what was there before.
    const passed = shines ? clusterSize : run.length;
    task.cursor = alignUp(task.cursor + passed, image.geometry.clusterSize);
    return Status.Ok;
  }
  if (!run.hasTable || run.tableShared) return makeL2Table(image, task, task.cursor);
  // As QEMU: what only is a place stays marked as zeros, what has been made zeros need not be.
  const isPlace = changetype<Preallocation>(image.exclusiveMemory).mode === PreallocateMode.Metadata;
  task.keepsZero = run.kind === ExtentKind.ZeroPlain && isPlace && !image.geometry.extended;
  return takeNewClusters(image, task);
}

/** Makes the new clusters zeros. What lies behind the old end of the file is: then the file only has to reach that far. */
function handOut(image: Image, task: Task): void {
  const mode = changetype<Preallocation>(image.exclusiveMemory).mode;
  const address = changetype<usize>(task);
  const hostOffset = task.hostOffset;
  let end = hostOffset + (task.allocatingEnd - task.allocatingStart);
  let virgin = task.virgin;
  if (image.hasDataFile) {
    // A data file need not be longer than the disk.
    end = min(end, image.virtualSize);
    virgin = hostOffset >= image.dataFileLength;
  }
  task.cursor = task.allocatingEnd;
  task.stage = Stage.Link;
  if (mode === PreallocateMode.Written) {
    task.outstanding++;
    writeZeroData(image.operations, address, hostOffset, u32(end - hostOffset));
  } else if (mode === PreallocateMode.Allocated || !virgin) {
    task.outstanding++;
    zeroData(image.operations, address, hostOffset, u32(end - hostOffset));
  } else if (end > dataLength(image)) {
    // Nothing lies behind that: new clusters come from the end of all that was ever allocated.
    task.outstanding++;
    truncateData(image.operations, address, end);
  }
}

function refuseRequest(image: Image, status: Status, field: Field, found: u64, limit: u64): Status {
  return refuse(image.failure, status, Structure.Request, field, 0, found, limit);
}
