/** The L1 tables, active and of every snapshot: their entries are judged and counted, the L2 tables get their weights. */

import { Field, Structure } from '../abi/failure';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { alignUp, isAligned } from '../base/align';
import { loadU16, loadU32, loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { TableKind, TableSlice, viewSlice } from '../cache/table-cache';
import { HeaderOffset, MAXIMUM_L1_LENGTH } from '../format/header';
import { hasReservedL1Bits, isL1Copied, L1_ENTRY_SIZE, l2TableOffset } from '../format/l1-entry';
import {
  MAXIMUM_EXTRA_DATA_LENGTH,
  MAXIMUM_SNAPSHOT_TABLE_LENGTH,
  repairedExtraData,
  requiredExtraData,
  SNAPSHOT_ALIGNMENT,
  SNAPSHOT_HEADER_SIZE,
  SnapshotOffset,
} from '../format/snapshot-table';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { needCopiedWrong } from './compare';
import { fixCopied } from './fix';
import { countReferences } from './references';
import { reportCorruption } from './report';
import { CheckState, isFirstTableWindow, isFirstWindow, Pass } from './state';
import { addTable } from './table-weights';

/** Begins with the active table. */
export function startL1Walk(image: Image, state: CheckState): void {
  state.active = true;
  state.snapshotIndex = 0;
  state.snapshotOffset = image.info.snapshotsOffset;
  state.newSnapshotsLength = 0;
  state.snapshotL1Length = 0;
  enterL1(state, HeaderOffset.L1TableOffset, image.l1Offset, image.l1Size);
}

export function isL1WalkDone(image: Image, state: CheckState): bool {
  return state.l1Cursor >= state.l1End && state.snapshotIndex === image.info.snapshotCount;
}

/** One slice of an L1 table, or one entry of the snapshot table. */
export function stepL1Walk(image: Image, task: Task, state: CheckState): Status {
  if (state.l1Cursor >= state.l1End) return nextSnapshot(image, task, state);
  const slice = viewSlice(image.cache, TableKind.L1, state.l1Cursor, task);
  if (slice === null) return task.outcome;
  const end = min(state.l1End, slice.hostOffset + (u64(1) << image.cache.sliceBits));
  while (state.l1Cursor < end) {
    const entry = loadU64(slice.data + usize(state.l1Cursor - slice.hostOffset));
    if (entry !== 0 && !walkEntry(image, task, state, slice, entry)) return task.outcome;
    state.l1Cursor += L1_ENTRY_SIZE;
  }
  return Status.Ok;
}

/** `named` is where in the file the table's offset stands. */
function enterL1(state: CheckState, named: u64, offset: u64, entries: u32): void {
  const length = u64(entries) * L1_ENTRY_SIZE;
  if (isFirstTableWindow(state) && !countReferences(state, offset, length, 1) && isFirstWindow(state)) {
    state.incomplete = true;
    reportCorruption(state, 1, Structure.L1Table, Field.L1TableOffset, named, offset, state.fileLength);
  }
  // What lies beyond the end of the file is zeros: no tables.
  const end = alignUp(state.fileLength, L1_ENTRY_SIZE);
  state.l1Cursor = offset;
  state.l1End = offset < end ? offset + min(length, end - offset) : offset;
}

/** Judges and counts the entry at the cursor. False, and nothing has changed: the step must stop. */
function walkEntry(image: Image, task: Task, state: CheckState, slice: TableSlice, entry: u64): bool {
  const entryOffset = state.l1Cursor;
  const judge = isFirstTableWindow(state) && isFirstWindow(state);
  const tableOffset = l2TableOffset(entry);
  if (tableOffset === 0) {
    // QEMU follows the entry and reads the header as an L2 table. Its flags are wrong; there is nothing to follow.
    state.incomplete = true;
    if (judge) reportCorruption(state, 1, Structure.L1Table, Field.ReservedBits, entryOffset, entry, 0);
    return true;
  }
  const cluster = tableOffset >> state.clusterBits;
  if (isFirstTableWindow(state)) {
    if (state.active) {
      const wrong = needCopiedWrong(image, task, state, cluster, isL1Copied(entry));
      if (task.outcome !== Status.Ok) return false;
      if (wrong) {
        reportCorruption(state, 1, Structure.L1Table, Field.Copied, entryOffset, entry, 0);
        if (state.pass === Pass.Flags) fixCopied(image, state, slice, TableKind.L1, entryOffset, entry);
      }
    }
    if (!countReferences(state, tableOffset, state.clusterSize, 1) && judge) {
      state.incomplete = true;
      reportCorruption(state, 1, Structure.L1Table, Field.Offset, entryOffset, entry, state.fileLength);
    }
  }
  if (judge && hasReservedL1Bits(entry)) {
    state.incomplete = true;
    reportCorruption(state, 1, Structure.L1Table, Field.ReservedBits, entryOffset, entry, 0);
  }
  // Only an aligned table is followed: any other is read by nobody, and its entries would be made up.
  const aligned = isAligned(tableOffset, state.clusterSize);
  if (judge && !aligned) {
    state.incomplete = true;
    reportCorruption(state, 1, Structure.L1Table, Field.Alignment, entryOffset, entry, state.clusterSize);
  }
  if (aligned && tableOffset < state.fileLength) addTable(state, cluster, state.active);
  return true;
}

function nextSnapshot(image: Image, task: Task, state: CheckState): Status {
  // An entry may lie in two slices: each field is read before the next one is asked for.
  const entry = alignUp(state.snapshotOffset, SNAPSHOT_ALIGNMENT);
  if (entry + SNAPSHOT_HEADER_SIZE > state.fileLength) {
    const structure = Structure.SnapshotTable;
    return refuse(
      image.failure,
      Status.Corrupt,
      structure,
      Field.Truncated,
      entry,
      state.fileLength,
      entry + SNAPSHOT_HEADER_SIZE,
    );
  }
  const offsetAt = needField(image, task, entry + SnapshotOffset.L1TableOffset);
  if (offsetAt === 0) return task.outcome;
  const l1Offset = loadU64(offsetAt);
  const sizeAt = needField(image, task, entry + SnapshotOffset.L1Size);
  if (sizeAt === 0) return task.outcome;
  const l1Size = loadU32(sizeAt);
  const id = loadU16(sizeAt + SnapshotOffset.IdLength - SnapshotOffset.L1Size);
  const name = loadU16(sizeAt + SnapshotOffset.NameLength - SnapshotOffset.L1Size);
  const extraOffset = entry + SnapshotOffset.ExtraDataLength;
  const extraAt = needField(image, task, extraOffset);
  if (extraAt === 0) return task.outcome;
  const extra = loadU32(extraAt);

  const end = entry + SNAPSHOT_HEADER_SIZE + extra + u32(id) + u32(name);
  const tableLength = end - image.info.snapshotsOffset;
  // Who does not repair it does not know what it means. As QEMU: the check cannot go on.
  if (extra > MAXIMUM_EXTRA_DATA_LENGTH && (task.flags & RequestFlag.RepairAll) === 0) {
    const index = state.snapshotIndex;
    return refuseExtra(image, extraOffset, Field.SnapshotExtraData, index, MAXIMUM_EXTRA_DATA_LENGTH);
  }
  if (extra > MAXIMUM_EXTRA_DATA_LENGTH && end > state.fileLength) {
    return refuseExtra(image, extraOffset, Field.Truncated, state.fileLength, end);
  }
  if (tableLength > MAXIMUM_SNAPSHOT_TABLE_LENGTH) {
    if ((task.flags & RequestFlag.RepairAll) !== 0) return dropOverhanging(image, state, entry, extra);
    return refuse(
      image.failure,
      Status.Corrupt,
      Structure.SnapshotTable,
      Field.Length,
      entry,
      tableLength,
      MAXIMUM_SNAPSHOT_TABLE_LENGTH,
    );
  }

  const repaired = repairedExtraData(image.version, extra);
  state.newSnapshotsLength += alignUp(end - entry - extra + repaired, SNAPSHOT_ALIGNMENT);
  if (extra !== repaired) state.snapshotsDamaged = true;
  state.snapshotOffset = end;
  state.snapshotIndex++;
  enterSnapshot(image, state, entry, l1Offset, l1Size, extra);
  return Status.Ok;
}

/** As QEMU: this snapshot and those behind it are given up; the header says so before anything of theirs is freed. */
function dropOverhanging(image: Image, state: CheckState, entry: u64, extra: u32): Status {
  const info = image.info;
  const limit = MAXIMUM_EXTRA_DATA_LENGTH;
  if (extra > limit) reportCorruption(state, 1, Structure.SnapshotTable, Field.SnapshotExtraData, entry, extra, limit);
  const dropped = info.snapshotCount - state.snapshotIndex;
  const field = Field.SnapshotCount;
  reportCorruption(state, dropped, Structure.SnapshotTable, field, entry, info.snapshotCount, state.snapshotIndex);
  image.overhangingSnapshots += dropped;
  info.snapshotCount = state.snapshotIndex;
  return Status.Ok;
}

/** Address of what stands at `hostOffset` and up to the next multiple of 8; 0 when the step must stop. */
function needField(image: Image, task: Task, hostOffset: u64): usize {
  const slice = viewSlice(image.cache, TableKind.SnapshotTable, hostOffset, task);
  return slice === null ? 0 : slice.data + usize(hostOffset - slice.hostOffset);
}

function enterSnapshot(image: Image, state: CheckState, entry: u64, l1Offset: u64, l1Size: u32, extra: u32): void {
  state.active = false;
  const judge = isFirstTableWindow(state) && isFirstWindow(state);
  const required = requiredExtraData(image.version);
  if (judge && extra < required) {
    reportCorruption(state, 1, Structure.SnapshotTable, Field.Length, entry, extra, required);
  }
  if (judge && extra > MAXIMUM_EXTRA_DATA_LENGTH) {
    const limit = MAXIMUM_EXTRA_DATA_LENGTH;
    reportCorruption(state, 1, Structure.SnapshotTable, Field.SnapshotExtraData, entry, extra, limit);
  }
  if (!isAligned(l1Offset, state.clusterSize)) {
    state.incomplete = true;
    if (judge) reportCorruption(state, 1, Structure.SnapshotTable, Field.L1TableOffset, entry, l1Offset, 0);
    return;
  }
  const length = u64(l1Size) * L1_ENTRY_SIZE;
  if (length > MAXIMUM_L1_LENGTH) {
    state.incomplete = true;
    if (judge) reportCorruption(state, 1, Structure.SnapshotTable, Field.L1Size, entry, l1Size, MAXIMUM_L1_LENGTH >> 3);
    return;
  }
  // Snapshots have an L1 table each. When they do not fit the file they overlap, and following them all could take
  // for ever: a table of 40 bytes a snapshot can name 32 MiB of L1 entries 65536 times.
  state.snapshotL1Length += length;
  if (state.snapshotL1Length > state.fileLength + MAXIMUM_L1_LENGTH) {
    state.incomplete = true;
    if (judge) {
      state.result.checkErrors++;
      reportCorruption(state, 1, Structure.SnapshotTable, Field.Overlap, entry, l1Offset, 0);
    }
    return;
  }
  enterL1(state, entry, l1Offset, l1Size);
}

function refuseExtra(image: Image, hostOffset: u64, field: Field, found: u64, limit: u64): Status {
  return refuse(image.failure, Status.Corrupt, Structure.SnapshotTable, field, hostOffset, found, limit);
}
