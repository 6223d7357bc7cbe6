/**
 * Snapshot apply: the disk becomes what the snapshot holds, and its size that of then. A copy of the snapshot's L1 table
 * takes the place of the active one by a single write of the header; only then does what the disk was lose its references.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { l1EntriesFor } from '../format/geometry';
import { HeaderOffset } from '../format/header';
import { needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { forgetL1Entries } from '../image/l1-memo';
import { finishRelease } from '../image/release';
import { Task } from '../image/task';
import { judgeFound } from './snapshot-find';
import { SnapshotState, snapshotState } from './snapshot-state';
import { allocateL1, releaseTable, writeL1 } from './snapshot-tables';
import { begin, find, flushAll, Stage, switchHeader, walkOf } from './snapshot-verb';
import { startWalk, stepWalk, WalkMode } from './snapshot-walk';

export function stepSnapshotApply(image: Image, task: Task): Status {
  while (task.stage !== Stage.Done) {
    const status = step(image, task, snapshotState(image));
    if (status !== Status.Ok) return status;
  }
  task.request.result = image.virtualSize;
  return Status.Ok;
}

/** One stage, or a piece of it; Ok when the next one follows at once. */
function step(image: Image, task: Task, state: SnapshotState): Status {
  let status: Status = Status.Ok;
  switch (task.stage) {
    case Stage.Begin:
      return begin(image, task);
    case Stage.Find:
      status = find(image, task);
      if (status === Status.Ok) status = plan(image, task, state);
      break;
    case Stage.Verify:
      status = stepWalk(image, task, walkOf(image));
      if (status !== Status.Ok) break;
      startWalk(walkOf(image), WalkMode.Raise, state.l1Offset, state.l1Size, false);
      task.stage = Stage.Raise;
      break;
    case Stage.Raise:
      status = stepWalk(image, task, walkOf(image));
      if (status === Status.Ok) task.stage = Stage.AllocateL1;
      break;
    case Stage.AllocateL1:
      status = allocateL1(image, task, state);
      if (status === Status.Ok) task.stage = Stage.WriteL1;
      break;
    case Stage.WriteL1:
      status = writeL1(image, task, state);
      if (status === Status.Ok) task.stage = Stage.Flush;
      break;
    case Stage.Flush:
      return flushAll(image, task, Stage.ReadHeader);
    case Stage.ReadHeader:
      status = nameL1(image, task, state);
      if (status === Status.Ok) task.stage = Stage.Switch;
      break;
    case Stage.Switch:
      status = switchHeader(image, task);
      if (status === Status.Ok) task.stage = Stage.Switched;
      break;
    case Stage.Switched:
      takeL1(image, state);
      startWalk(walkOf(image), WalkMode.Release, state.oldL1Offset, state.oldL1Size, false);
      task.stage = Stage.Release;
      break;
    case Stage.Release:
      status = stepWalk(image, task, walkOf(image));
      if (status === Status.Ok) status = releaseTable(image, task, state.oldL1Offset, u64(state.oldL1Size) << 3);
      if (status === Status.Ok) task.stage = Stage.Settle;
      break;
    case Stage.Settle:
      status = finishRelease(image, task);
      if (status !== Status.Ok) break;
      startWalk(walkOf(image), WalkMode.Flags, image.l1Offset, image.l1Size, true);
      task.stage = Stage.Flags;
      break;
    case Stage.Flags:
      status = stepWalk(image, task, walkOf(image));
      if (status === Status.Ok) task.stage = Stage.LastFlush;
      break;
    default:
      return flushAll(image, task, Stage.Done);
  }
  return status;
}

function plan(image: Image, task: Task, state: SnapshotState): Status {
  const status = judgeFound(image, state);
  if (status !== Status.Ok) return status;
  // As QEMU: bitmaps say what was written, and this writes everything; version 2 with snapshots keeps its size.
  if (image.bitmaps.count !== 0) {
    return refuse(image.failure, Status.Unsupported, Structure.Request, Field.Bitmaps, 0, 0, 0);
  }
  if (image.version < 3 && state.diskSize !== image.virtualSize) {
    const size = image.virtualSize;
    return refuse(image.failure, Status.Unsupported, Structure.SnapshotTable, Field.Size, 0, state.diskSize, size);
  }
  state.sourceL1Offset = state.l1Offset;
  state.sourceL1Size = state.l1Size;
  // Beyond the disk lies the guest's saved state, which the active table keeps reachable as QEMU's does.
  state.newL1Size = max(state.l1Size, u32(l1EntriesFor(image.geometry, state.diskSize)));
  // What the disk is now will be released: it is judged while nothing has changed.
  startWalk(walkOf(image), WalkMode.Verify, image.l1Offset, image.l1Size, false);
  task.request.progressTotal = u64(image.l1Size) * 2 + state.l1Size + state.newL1Size;
  task.stage = Stage.Verify;
  return Status.Ok;
}

function nameL1(image: Image, task: Task, state: SnapshotState): Status {
  const status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU64(image.headerSector + HeaderOffset.Size, state.diskSize);
  storeU32(image.headerSector + HeaderOffset.L1Size, state.newL1Size);
  storeU64(image.headerSector + HeaderOffset.L1TableOffset, state.newL1Offset);
  return Status.Ok;
}

/** The header names the new L1 table: so does the image. */
function takeL1(image: Image, state: SnapshotState): void {
  state.oldL1Offset = image.l1Offset;
  state.oldL1Size = image.l1Size;
  image.l1Offset = state.newL1Offset;
  image.l1Size = state.newL1Size;
  image.virtualSize = state.diskSize;
  image.info.l1TableOffset = state.newL1Offset;
  image.info.l1Size = state.newL1Size;
  image.info.virtualSize = state.diskSize;
  forgetL1Entries(image);
}
