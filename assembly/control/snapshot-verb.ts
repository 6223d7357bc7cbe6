/** What the snapshot verbs have in common: how they begin, how the header takes their tables, how they fail. */

import { ConfigurationFlag } from '../abi/configuration';
import { Field, Structure } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { SnapshotOptions } from '../abi/snapshot';
import { Status } from '../abi/status';
import { storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { requestFlush } from '../cache/write-order';
import { HeaderOffset } from '../format/header';
import { abandonOwnership } from '../image/abandon';
import { enterExclusive } from '../image/exclusive';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { abandonRegion } from '../image/region';
import { finishRelease, forgetReleased } from '../image/release';
import { settle } from '../image/settle';
import { Task } from '../image/task';
import { checkOptions, findSnapshot, startFind } from './snapshot-find';
import { openSnapshotState, SnapshotState, snapshotState, walkAddress } from './snapshot-state';
import { releaseTable } from './snapshot-tables';
import { startUndo, stepWalk, TableWalk, WalkMode } from './snapshot-walk';

/** The stages of all verbs; each goes through some of them, in this order. */
export enum Stage {
  Begin = 0,
  Find = 1,
  Verify = 2,
  Raise = 3,
  AllocateL1 = 4,
  WriteL1 = 5,
  AllocateTable = 6,
  WriteTable = 7,
  Flush = 8,
  ReadHeader = 9,
  Switch = 10,
  /** The header names the new tables, durably. */
  Switched = 11,
  Release = 12,
  ReleaseTables = 13,
  Settle = 14,
  Flags = 15,
  LastFlush = 16,
  Done = 17,
}

export function optionsOf(image: Image): SnapshotOptions {
  return changetype<SnapshotOptions>(image.page);
}

export function walkOf(image: Image): TableWalk {
  return changetype<TableWalk>(walkAddress(image));
}

/** Ok when the task is alone with an image that may be written, and nothing is on its way to being free. */
export function begin(image: Image, task: Task): Status {
  const failure = image.failure;
  if (!image.writable) return refuse(failure, Status.ReadOnly, Structure.Request, Field.None, 0, 0, 0);
  // What a snapshot shares can only be written with the host's help.
  if ((image.configuration.flags & ConfigurationFlag.Scratch) === 0) {
    return refuse(failure, Status.Unsupported, Structure.Request, Field.InternalSnapshots, 0, 0, 0);
  }
  // Clusters of a data file cannot be shared: they lie where the guest has them.
  if (image.hasDataFile) {
    return refuse(failure, Status.Unsupported, Structure.Request, Field.SnapshotOfDataFile, 0, 0, 0);
  }
  let status = checkOptions(image, optionsOf(image));
  if (status !== Status.Ok) return status;
  status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  if (image.order.broken) return refuse(failure, Status.Broken, Structure.Request, Field.None, 0, 0, 0);
  status = settle(image, task);
  if (status !== Status.Ok) return status;
  const state = openSnapshotState(image);
  state.idOnly = task.kind === RequestKind.SnapshotCreate;
  startFind(image, state);
  task.stage = Stage.Find;
  return Status.Ok;
}

export function find(image: Image, task: Task): Status {
  return findSnapshot(image, task, snapshotState(image), optionsOf(image));
}

/** Everything that was written becomes durable; `next` is the stage after that. */
export function flushAll(image: Image, task: Task, next: Stage): Status {
  task.stage = next;
  requestFlush(image.order, task);
  return Status.Miss;
}

/** Gets the header sector and puts the new snapshot table of `count` entries into it. */
export function nameTable(image: Image, task: Task, state: SnapshotState, count: u32): Status {
  const status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU32(image.headerSector + HeaderOffset.SnapshotCount, count);
  storeU64(image.headerSector + HeaderOffset.SnapshotsOffset, state.newTableOffset);
  return Status.Ok;
}

/** Writes the header sector. From here on there is no way back: cancelling comes too late. */
export function switchHeader(image: Image, task: Task): Status {
  task.committed = true;
  return commitHeaderSector(image, task);
}

/** The header names the new snapshot table: so does the image, and the old one goes. */
export function takeTable(image: Image, state: SnapshotState, count: u32): void {
  state.oldTableOffset = image.info.snapshotsOffset;
  image.info.snapshotCount = count;
  image.info.snapshotsOffset = state.newTableOffset;
}

/**
 * A snapshot verb failed. Before the switch everything is taken back: refcounts, flags, clusters; what cannot be taken
 * back leaks. Miss: call again.
 */
export function abandonSnapshot(image: Image, task: Task): Status {
  if (image.exclusiveOwner !== task || task.stage === Stage.Begin) return Status.Ok;
  let status = abandonOwnership(image, task);
  if (status === Status.Miss) return status;
  abandonRegion(image);
  if (!task.committed && !task.leak && !image.order.broken) {
    status = takeBack(image, task);
    if (status === Status.Miss) return status;
  }
  forgetReleased(image);
  return Status.Ok;
}

function takeBack(image: Image, task: Task): Status {
  const walk = walkOf(image);
  const state = snapshotState(image);
  if (walk.mode === WalkMode.Raise) startUndo(walk);
  if (walk.mode === WalkMode.Undo) {
    const status = stepWalk(image, task, walk);
    if (status !== Status.Ok) return status;
    walk.mode = WalkMode.Verify;
  }
  let status = releaseTable(image, task, state.newL1Offset, u64(state.newL1Size) << 3);
  if (status !== Status.Ok) return status;
  state.newL1Offset = 0;
  status = releaseTable(image, task, state.newTableOffset, state.newTableLength);
  if (status !== Status.Ok) return status;
  state.newTableOffset = 0;
  return finishRelease(image, task);
}
