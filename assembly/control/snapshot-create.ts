/**
 * Snapshot create: everything that the active L1 table refers to gets one reference more, and a copy of that table goes
 * into the snapshot table.
 *
 *   raise refcounts, clear COPIED ─▶ write copy of L1 ─▶ write new table ─▶ flush ─▶ header ─▶ free old table
 *
 * A power cut before the header's write leaves refcounts that are too high: leaks. After it nothing that the snapshot
 * shares has a COPIED flag any more, so the disk goes on elsewhere.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { alignUp } from '../base/align';
import { storeU16, storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { MAXIMUM_SNAPSHOTS } from '../format/header';
import {
  SNAPSHOT_ALIGNMENT,
  SNAPSHOT_HEADER_SIZE,
  SNAPSHOT_KNOWN_SIZE,
  SnapshotExtraOffset,
  SnapshotOffset,
} from '../format/snapshot-table';
import { Image } from '../image/image';
import { finishRelease } from '../image/release';
import { Task } from '../image/task';
import { NEW_ENTRY_LENGTH, newEntryAddress, SnapshotState, snapshotState } from './snapshot-state';
import { allocateL1, allocateTable, releaseTable, writeL1, writeTable } from './snapshot-tables';
import { begin, find, flushAll, nameTable, optionsOf, Stage, switchHeader, takeTable, walkOf } from './snapshot-verb';
import { startWalk, stepWalk, WalkMode } from './snapshot-walk';

const OPTIONS_SIZE: u32 = 32;

export function stepSnapshotCreate(image: Image, task: Task): Status {
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
      if (status === Status.Ok) task.stage = Stage.AllocateTable;
      break;
    case Stage.AllocateTable:
      status = describe(image, state);
      if (status === Status.Ok) status = allocateTable(image, task, state);
      if (status === Status.Ok) task.stage = Stage.WriteTable;
      break;
    case Stage.WriteTable:
      status = writeTable(image, task, state);
      if (status === Status.Ok) task.stage = Stage.Flush;
      break;
    case Stage.Flush:
      return flushAll(image, task, Stage.ReadHeader);
    case Stage.ReadHeader:
      status = nameTable(image, task, state, state.count + 1);
      if (status === Status.Ok) task.stage = Stage.Switch;
      break;
    case Stage.Switch:
      status = switchHeader(image, task);
      if (status === Status.Ok) task.stage = Stage.Switched;
      break;
    case Stage.Switched:
      takeTable(image, state, state.count + 1);
      task.stage = Stage.ReleaseTables;
      break;
    case Stage.ReleaseTables:
      status = releaseTable(image, task, state.oldTableOffset, state.tableLength);
      if (status === Status.Ok) task.stage = Stage.Settle;
      break;
    default:
      status = finishRelease(image, task);
      if (status === Status.Ok) task.stage = Stage.Done;
      break;
  }
  return status;
}

function plan(image: Image, task: Task, state: SnapshotState): Status {
  const options = optionsOf(image);
  if (state.found) {
    return refuse(image.failure, Status.Invalid, Structure.Request, Field.Kind, 0, options.idLength, 0);
  }
  if (state.count >= MAXIMUM_SNAPSHOTS) {
    const structure = Structure.SnapshotTable;
    const limit = MAXIMUM_SNAPSHOTS;
    return refuse(image.failure, Status.TooLarge, structure, Field.SnapshotCount, 0, u64(state.count) + 1, limit);
  }
  state.sourceL1Offset = image.l1Offset;
  state.sourceL1Size = image.l1Size;
  state.newL1Size = image.l1Size;
  state.cutStart = state.tableLength;
  startWalk(walkOf(image), WalkMode.Raise, image.l1Offset, image.l1Size, true);
  task.request.progressTotal = image.l1Size;
  task.stage = Stage.Raise;
  return Status.Ok;
}

/** The new entry, with the extra data that is known. */
function describe(image: Image, state: SnapshotState): Status {
  const options = optionsOf(image);
  const entry = newEntryAddress(image);
  memory.fill(entry, 0, NEW_ENTRY_LENGTH);
  storeU64(entry + SnapshotOffset.L1TableOffset, state.newL1Offset);
  storeU32(entry + SnapshotOffset.L1Size, state.newL1Size);
  storeU32(entry + SnapshotOffset.Seconds, options.seconds);
  storeU32(entry + SnapshotOffset.Nanoseconds, options.nanoseconds);
  storeU64(entry + SnapshotOffset.VmClock, options.vmClock);
  storeU32(entry + SnapshotOffset.ExtraDataLength, SNAPSHOT_KNOWN_SIZE - SNAPSHOT_HEADER_SIZE);
  storeU64(entry + SnapshotExtraOffset.DiskSize, image.virtualSize);
  storeU64(entry + SnapshotExtraOffset.Icount, options.icount);
  const names = entry + SNAPSHOT_KNOWN_SIZE;
  const given = changetype<usize>(options) + OPTIONS_SIZE;
  let idLength = options.idLength;
  if (idLength === 0) idLength = writeNumber(names, state.largestId + 1);
  else memory.copy(names, given, idLength);
  memory.copy(names + idLength, given + options.idLength, options.nameLength);
  storeU16(entry + SnapshotOffset.IdLength, u16(idLength));
  storeU16(entry + SnapshotOffset.NameLength, u16(options.nameLength));
  state.newEntryLength = u32(alignUp(SNAPSHOT_KNOWN_SIZE + idLength + options.nameLength, SNAPSHOT_ALIGNMENT));
  return Status.Ok;
}

/** Writes `value` in decimal digits; how many. */
function writeNumber(target: usize, value: u64): u32 {
  let digits: u32 = 1;
  for (let rest = value / 10; rest !== 0; rest /= 10) digits++;
  let rest = value;
  for (let index = digits; index > 0; index--) {
    store<u8>(target + index - 1, u8(0x30 + (rest % 10)));
    rest /= 10;
  }
  return digits;
}
