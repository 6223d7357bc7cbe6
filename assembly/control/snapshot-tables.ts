/**
 * Writes the new tables of a snapshot verb into clusters of their own, a slice at a time: an L1 table copied from another
 * one, a snapshot table copied from the old one with an entry more or less. Nothing on disk names them yet.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { Owner, writeModule } from '../block';
import { dropSlices, needSlice, TableKind } from '../cache/table-cache';
import { clearL1Copied, L1_ENTRY_SIZE } from '../format/l1-entry';
import { MAXIMUM_SNAPSHOT_TABLE_LENGTH } from '../format/snapshot-table';
import { Image } from '../image/image';
import { allocateRegion } from '../image/region';
import { releaseRun } from '../image/release';
import { parkOnOperation, Task } from '../image/task';
import { newEntryAddress, SnapshotState } from './snapshot-state';

/** Clusters for an L1 table of `newL1Size` entries: none when it has none. */
export function allocateL1(image: Image, task: Task, state: SnapshotState): Status {
  const clusters = unitsFor(u64(state.newL1Size) * L1_ENTRY_SIZE, image.geometry.clusterBits);
  if (clusters !== 0) {
    const status = allocateRegion(image, task, clusters);
    if (status !== Status.Ok) return status;
    state.newL1Offset = image.allocatedOffset;
  }
  state.written = 0;
  return Status.Ok;
}

/** The entries of the source without their COPIED flags, and zeros behind them. Ok when everything is written. */
export function writeL1(image: Image, task: Task, state: SnapshotState): Status {
  if (task.outstanding !== 0) return wait(task);
  const length = u64(state.newL1Size) * L1_ENTRY_SIZE;
  if (state.written >= length) return Status.Ok;
  const sliceLength = u32(1) << image.geometry.sliceBits;
  const sourceLength = u64(state.sourceL1Size) * L1_ENTRY_SIZE;
  const used = state.written < sourceLength ? u32(min(u64(sliceLength), sourceLength - state.written)) : 0;
  if (used !== 0) {
    const source = needSlice(image.cache, TableKind.L1, state.sourceL1Offset + state.written, task);
    if (source === null) return task.outcome;
    for (let at: u32 = 0; at < used; at += L1_ENTRY_SIZE) {
      storeU64(image.scratch + at, clearL1Copied(loadU64(source.data + at)));
    }
  }
  memory.fill(image.scratch + used, 0, sliceLength - used);
  return writeScratch(image, task, state, state.newL1Offset + state.written);
}

/** Clusters for the new snapshot table, whose length follows from `cutLength` and `newEntryLength`. */
export function allocateTable(image: Image, task: Task, state: SnapshotState): Status {
  state.newTableLength = state.tableLength - state.cutLength + state.newEntryLength;
  if (state.newTableLength > MAXIMUM_SNAPSHOT_TABLE_LENGTH) {
    const limit = MAXIMUM_SNAPSHOT_TABLE_LENGTH;
    const structure = Structure.SnapshotTable;
    return refuse(image.failure, Status.TooLarge, structure, Field.Length, 0, state.newTableLength, limit);
  }
  const clusters = unitsFor(state.newTableLength, image.geometry.clusterBits);
  if (clusters !== 0) {
    const status = allocateRegion(image, task, clusters);
    if (status !== Status.Ok) return status;
    state.newTableOffset = image.allocatedOffset;
  }
  state.written = 0;
  state.filled = 0;
  return Status.Ok;
}

/** The old entries as they are, without the cut, then the new one. Ok when everything is written. */
export function writeTable(image: Image, task: Task, state: SnapshotState): Status {
  if (task.outstanding !== 0) return wait(task);
  if (state.written >= state.newTableLength) return Status.Ok;
  const sliceLength = u32(1) << image.geometry.sliceBits;
  const kept = state.tableLength - state.cutLength;
  while (state.filled < sliceLength) {
    const at = state.written + state.filled;
    const target = image.scratch + state.filled;
    const room = u64(sliceLength - state.filled);
    if (at >= state.newTableLength) {
      memory.fill(target, 0, usize(room));
      state.filled = sliceLength;
    } else if (at >= kept) {
      const count = u32(min(room, state.newTableLength - at));
      memory.copy(target, newEntryAddress(image) + usize(at - kept), count);
      state.filled += count;
    } else {
      const count = copyOld(image, task, state, at, target, min(room, kept - at));
      if (count === 0) return task.outcome;
      state.filled += count;
    }
  }
  const hostOffset = state.newTableOffset + state.written;
  state.filled = 0;
  return writeScratch(image, task, state, hostOffset);
}

/** The tables that were written are named by the header, or by nothing: the clusters of `length` bytes lose a reference. */
export function releaseTable(image: Image, task: Task, offset: u64, length: u64): Status {
  if (length === 0 || offset === 0) return Status.Ok;
  const bits = image.geometry.clusterBits;
  const count = unitsFor(length, bits);
  const status = releaseRun(image, task, offset >> bits, count);
  if (status === Status.Ok) dropSlices(image.cache, offset, count << bits);
  return status;
}

/** Copies at most `limit` bytes that come to stand at `at`; how many, or 0 when the step must stop. */
function copyOld(image: Image, task: Task, state: SnapshotState, at: u64, target: usize, limit: u64): u32 {
  const cut = at >= state.cutStart;
  const source = image.info.snapshotsOffset + at + (cut ? state.cutLength : 0);
  const slice = needSlice(image.cache, TableKind.SnapshotTable, source, task);
  if (slice === null) return 0;
  const inSlice = slice.hostOffset + (u64(1) << image.cache.sliceBits) - source;
  const beforeCut = cut ? limit : min(limit, state.cutStart - at);
  const count = u32(min(inSlice, beforeCut));
  memory.copy(target, slice.data + usize(source - slice.hostOffset), count);
  return count;
}

function writeScratch(image: Image, task: Task, state: SnapshotState, hostOffset: u64): Status {
  const length = u32(1) << image.geometry.sliceBits;
  state.written += length;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.scratch, length);
  return parkOnOperation(task);
}

function wait(task: Task): Status {
  task.outcome = Status.Miss;
  return Status.Miss;
}
