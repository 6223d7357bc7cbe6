/**
 * Snapshot delete: its entry leaves the table first, durably; then everything that its L1 table refers to loses a
 * reference, and what only the disk itself still uses may be written in place again. A power cut in between leaks.
 */

import { Status } from '../abi/status';
import { Image } from '../image/image';
import { finishRelease } from '../image/release';
import { Task } from '../image/task';
import { judgeFound } from './snapshot-find';
import { SnapshotState, snapshotState } from './snapshot-state';
import { allocateTable, releaseTable, writeTable } from './snapshot-tables';
import { begin, find, flushAll, nameTable, Stage, switchHeader, takeTable, walkOf } from './snapshot-verb';
import { startWalk, stepWalk, WalkMode } from './snapshot-walk';

export function stepSnapshotDelete(image: Image, task: Task): Status {
  while (task.stage !== Stage.Done) {
    const status = step(image, task, snapshotState(image));
    if (status !== Status.Ok) return status;
  }
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
      if (status === Status.Ok) task.stage = Stage.AllocateTable;
      break;
    case Stage.AllocateTable:
      status = allocateTable(image, task, state);
      if (status === Status.Ok) task.stage = Stage.WriteTable;
      break;
    case Stage.WriteTable:
      status = writeTable(image, task, state);
      if (status === Status.Ok) task.stage = Stage.Flush;
      break;
    case Stage.Flush:
      return flushAll(image, task, Stage.ReadHeader);
    case Stage.ReadHeader:
      status = nameTable(image, task, state, state.count - 1);
      if (status === Status.Ok) task.stage = Stage.Switch;
      break;
    case Stage.Switch:
      status = switchHeader(image, task);
      if (status === Status.Ok) task.stage = Stage.Switched;
      break;
    case Stage.Switched:
      takeTable(image, state, state.count - 1);
      startWalk(walkOf(image), WalkMode.Release, state.l1Offset, state.l1Size, false);
      task.stage = Stage.Release;
      break;
    case Stage.Release:
      status = stepWalk(image, task, walkOf(image));
      if (status === Status.Ok) status = releaseTable(image, task, state.l1Offset, u64(state.l1Size) << 3);
      if (status === Status.Ok) task.stage = Stage.ReleaseTables;
      break;
    case Stage.ReleaseTables:
      status = releaseTable(image, task, state.oldTableOffset, state.tableLength);
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
  state.cutStart = state.entryStart - image.info.snapshotsOffset;
  state.cutLength = state.entryEnd - state.entryStart;
  startWalk(walkOf(image), WalkMode.Verify, state.l1Offset, state.l1Size, false);
  task.request.progressTotal = u64(state.l1Size) * 2 + image.l1Size;
  task.stage = Stage.Verify;
  return Status.Ok;
}
