/** Walks through the snapshot table once: how long it is, which snapshot is meant, which number is free. */

import { Field, Structure } from '../abi/failure';
import { SnapshotOptions } from '../abi/snapshot';
import { Status } from '../abi/status';
import { alignUp, isAligned } from '../base/align';
import { refuse } from '../base/refuse';
import { push } from '../base/wait-list';
import { l1EntriesFor } from '../format/geometry';
import { MAXIMUM_L1_LENGTH } from '../format/header';
import { MAXIMUM_SNAPSHOT_ID, MAXIMUM_SNAPSHOT_NAME, SNAPSHOT_ALIGNMENT } from '../format/snapshot-table';
import { Image } from '../image/image';
import { checkTableOverlap } from '../image/overlap';
import { Task } from '../image/task';
import { EntryCursor, idOffset, needEntry, nextEntry, openEntries, readTable } from './snapshot-entry';
import { cursorAddress, MAXIMUM_COMPARED, namesAddress, SnapshotState } from './snapshot-state';

/** Entries that one step looks at. */
const ENTRIES_PER_STEP: u32 = 256;
const OPTIONS_SIZE: u32 = u32(offsetof<SnapshotOptions>());

/** Judges the lengths of id and name in the options at `options`. */
export function checkOptions(image: Image, options: SnapshotOptions): Status {
  const id = options.idLength;
  const name = options.nameLength;
  if (id > MAXIMUM_SNAPSHOT_ID) return refuseName(image, id, MAXIMUM_SNAPSHOT_ID);
  return name > MAXIMUM_SNAPSHOT_NAME ? refuseName(image, name, MAXIMUM_SNAPSHOT_NAME) : Status.Ok;
}

/** Begins with the first entry. */
export function startFind(image: Image, state: SnapshotState): void {
  state.count = image.info.snapshotCount;
  openEntries(image, cursorOf(image));
}

/**
 * Looks at every entry; Ok when the length of the table is known and `state.found` says whether an entry has the id and
 * the name of the options: the first one that has them both; a length of 0 fits any.
 */
export function findSnapshot(image: Image, task: Task, state: SnapshotState, options: SnapshotOptions): Status {
  const cursor = cursorOf(image);
  for (let entries: u32 = 0; cursor.index < state.count; entries++) {
    if (entries === ENTRIES_PER_STEP) return takeTurn(image, task);
    let status = needEntry(image, task, cursor);
    if (status !== Status.Ok) return status;
    if (cursor.idLength <= MAXIMUM_COMPARED && cursor.nameLength <= MAXIMUM_COMPARED) {
      const length = cursor.idLength + cursor.nameLength;
      status = readTable(image, task, cursor, idOffset(cursor), namesAddress(image), length);
      if (status !== Status.Ok) return status;
      compare(image, state, cursor, options);
    }
    nextEntry(cursor);
  }
  state.tableLength = alignUp(cursor.start, SNAPSHOT_ALIGNMENT) - image.info.snapshotsOffset;
  // It may be released: what is in use as something else must never be.
  return state.tableLength === 0 ? Status.Ok : checkTableOverlap(image, image.info.snapshotsOffset, state.tableLength);
}

/** Begins with the first entry, for `judgeTable`. */
export function startJudging(image: Image): void {
  openEntries(image, cursorOf(image));
}

/** Ok when every entry can be read. */
export function judgeTable(image: Image, task: Task): Status {
  const cursor = cursorOf(image);
  for (let entries: u32 = 0; cursor.index < image.info.snapshotCount; entries++) {
    if (entries === ENTRIES_PER_STEP) return takeTurn(image, task);
    const status = needEntry(image, task, cursor);
    if (status !== Status.Ok) return status;
    nextEntry(cursor);
  }
  return Status.Ok;
}

/** Other requests that go on meanwhile have their turn. */
function takeTurn(image: Image, task: Task): Status {
  task.outcome = Status.Miss;
  push(image.ready, task);
  return Status.Miss;
}

/** Invalid when there is no such snapshot, Corrupt when its L1 table cannot be one. */
export function judgeFound(image: Image, state: SnapshotState): Status {
  if (!state.found) {
    return refuse(image.failure, Status.Invalid, Structure.SnapshotTable, Field.None, 0, 0, 0);
  }
  const geometry = image.geometry;
  const length = u64(state.l1Size) << 3;
  if (length > MAXIMUM_L1_LENGTH) return refuseEntry(image, state, Field.L1Size, state.l1Size, MAXIMUM_L1_LENGTH >> 3);
  const offset = state.l1Offset;
  const inside = offset >= geometry.clusterSize && offset <= image.fileLength && length <= image.fileLength - offset;
  if (length !== 0 && (!inside || !isAligned(offset, geometry.clusterSize))) {
    return refuseEntry(image, state, Field.L1TableOffset, offset, image.fileLength);
  }
  if (length !== 0) {
    const status = checkTableOverlap(image, offset, length);
    if (status !== Status.Ok) return status;
  }
  const covered = u64(state.l1Size) << (geometry.clusterBits + geometry.l2Bits);
  const tooLarge =
    state.diskSize > 0x7fffffffffffffff || l1EntriesFor(geometry, state.diskSize) > MAXIMUM_L1_LENGTH >> 3;
  if (tooLarge || !isAligned(state.diskSize, 512)) {
    return refuseEntry(image, state, Field.Size, state.diskSize, covered);
  }
  return Status.Ok;
}

function cursorOf(image: Image): EntryCursor {
  return changetype<EntryCursor>(cursorAddress(image));
}

function compare(image: Image, state: SnapshotState, cursor: EntryCursor, options: SnapshotOptions): void {
  const names = namesAddress(image);
  state.largestId = max(state.largestId, numberOf(names, cursor.idLength));
  const wantedName = state.idOnly ? 0 : options.nameLength;
  if (state.found || options.idLength + wantedName === 0) return;
  const wanted = changetype<usize>(options) + OPTIONS_SIZE;
  if (!fits(names, cursor.idLength, wanted, options.idLength)) return;
  if (!fits(names + cursor.idLength, cursor.nameLength, wanted + options.idLength, wantedName)) return;
  state.found = true;
  state.entryStart = cursor.start;
  state.entryEnd = alignUp(cursor.end, SNAPSHOT_ALIGNMENT);
  state.l1Offset = cursor.l1Offset;
  state.l1Size = cursor.l1Size;
  state.diskSize = cursor.diskSize;
}

function fits(bytes: usize, length: u32, wanted: usize, wantedLength: u32): bool {
  return wantedLength === 0 || (length === wantedLength && memory.compare(bytes, wanted, length) === 0);
}

/** The digits that an id begins with, as a number; longer ones than QEMU can count are none. */
function numberOf(bytes: usize, length: u32): u64 {
  const MOST_DIGITS: u32 = 18;
  let value: u64 = 0;
  for (let index: u32 = 0; index < length; index++) {
    const digit = u32(load<u8>(bytes + index)) - 0x30;
    if (digit > 9) return value;
    if (index === MOST_DIGITS) return 0;
    value = value * 10 + digit;
  }
  return value;
}

function refuseName(image: Image, found: u64, limit: u64): Status {
  return refuse(image.failure, Status.TooLarge, Structure.SnapshotTable, Field.Length, 0, found, limit);
}

function refuseEntry(image: Image, state: SnapshotState, field: Field, found: u64, limit: u64): Status {
  return refuse(image.failure, Status.Corrupt, Structure.SnapshotTable, field, state.entryStart, found, limit);
}
