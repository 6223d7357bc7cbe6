/**
 * A walk over everything that says where tables lie: the L1 table, the refcount table, the snapshot table, as the host's
 * overlap checks ask. It fills the table map, or looks for tables in a stretch of clusters for which the map says maybe.
 * Memory is that of the cache, work is bounded by the file. The core's own task does it, one walk at a time; who needs
 * the answer waits, and then looks again.
 *
 *   active L1 ─▶ refcount table ─▶ bitmap directory ─▶ snapshot after snapshot ─▶ snapshot table
 */

import { OverlapCheck } from '../abi/configuration';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { alignUp, isAligned } from '../base/align';
import { loadU64 } from '../base/bytes';
import { NO_OPERATION, refuse } from '../base/refuse';
import { failAll, moveAll, push } from '../base/wait-list';
import { TableKind, viewSlice } from '../cache/table-cache';
import { MAXIMUM_L1_LENGTH } from '../format/header';
import { l2TableOffset } from '../format/l1-entry';
import { refcountBlockOffset } from '../format/refcount-entry';
import { SNAPSHOT_ALIGNMENT, SNAPSHOT_HEADER_SIZE, SnapshotOffset } from '../format/snapshot-table';
import { leaveGate } from './exclusive';
import { Image, MAXIMUM_HOST_OFFSET, refcountTableEntries } from './image';
import { addTable, addToWindow, emptyMap, moveWindow, TableMap } from './table-map-state';
import { Task } from './task';

enum Stage {
  ActiveL1 = 0,
  RefcountTable = 1,
  Directory = 2,
  Snapshots = 3,
  Done = 4,
}

/** Parks `task` until the map is filled. */
export function fillMap(image: Image, task: Task): Status {
  const map = image.tables;
  if (map.surveyor.active) return wait(map, task);
  map.seeks = false;
  emptyMap(map);
  return start(image, map, task);
}

/** Parks `task` until `found` or the window says what lies in the clusters `first` to `last`. */
export function seekTable(image: Image, task: Task, first: u64, last: u64): Status {
  const map = image.tables;
  const seeker = map.seeker;
  // Who asked before must see the answer before it is replaced: two could take it from each other for ever.
  if (map.surveyor.active || (seeker !== null && seeker !== task)) return wait(map, task);
  map.seeker = task;
  map.seen = false;
  map.seeks = true;
  map.found = 0;
  map.first = first;
  map.last = last;
  moveWindow(map, first);
  return start(image, map, task);
}

/** The task is run: if it asked where tables are, it looks at the answer now. */
export function beginSeeing(map: TableMap, task: Task): void {
  if (map.seeker === task) map.seen = true;
}

/** The task has been run, and has not asked again: the next one may ask. */
export function endSeeing(image: Image, task: Task): void {
  const map = image.tables;
  if (map.seeker !== task || !map.seen) return;
  map.seeker = null;
  moveAll(map.waiters, image.ready);
}

function wait(map: TableMap, task: Task): Status {
  push(map.waiters, task);
  task.outcome = Status.Miss;
  return Status.Miss;
}

function start(image: Image, map: TableMap, task: Task): Status {
  const surveyor = map.surveyor;
  wait(map, task);
  map.stage = Stage.ActiveL1;
  map.cursor = 0;
  map.snapshotIndex = 0;
  map.snapshotOffset = image.info.snapshotsOffset;
  map.inactiveClusters = 0;
  surveyor.active = true;
  surveyor.outcome = Status.Ok;
  // A verb that is alone with the image begins when the walk is over.
  image.lookers++;
  runSurvey(image, surveyor);
  return Status.Miss;
}

/** Goes on with the walk; the surveyor has been woken. */
export function runSurvey(image: Image, task: Task): void {
  const map = image.tables;
  let status = task.outcome;
  task.outcome = Status.Ok;
  if (status === Status.Ok || status === Status.Miss) status = walk(image, task, map);
  if (status === Status.Miss) return;
  task.active = false;
  image.lookers--;
  leaveGate(image, task);
  if (status !== Status.Ok) {
    failAll(map.waiters, image.ready, status, task.failedStructure, task.failedOffset, task.failedOperation);
    return;
  }
  if (map.seeks) map.windowValid = true;
  else map.valid = true;
  moveAll(map.waiters, image.ready);
}

function walk(image: Image, task: Task, map: TableMap): Status {
  const checks = image.configuration.overlapChecks;
  while (map.stage !== Stage.Done) {
    let status: Status = Status.Ok;
    if (map.stage === Stage.ActiveL1) {
      if ((checks & OverlapCheck.ActiveL2) !== 0) {
        status = walkEntries(image, task, map, TableKind.L1, image.l1Offset, image.l1Size);
      }
    } else if (map.stage === Stage.RefcountTable) {
      if ((checks & OverlapCheck.RefcountBlock) !== 0) {
        const entries = refcountTableEntries(image);
        status = walkEntries(image, task, map, TableKind.RefcountTable, image.refcountTableOffset, entries);
      }
    } else if (map.stage === Stage.Directory) {
      if ((checks & OverlapCheck.BitmapDirectory) !== 0) {
        const bitmaps = image.bitmaps;
        visit(image, map, bitmaps.directoryOffset, bitmaps.directoryLength, Structure.BitmapDirectory);
      }
    } else {
      status = walkSnapshots(image, task, map, checks);
    }
    if (status !== Status.Ok) return status;
    map.cursor = 0;
    map.stage++;
  }
  return Status.Ok;
}

/** Visits what the `count` entries of the table at `offset` name. */
function walkEntries(image: Image, task: Task, map: TableMap, kind: TableKind, offset: u64, count: u64): Status {
  const clusterSize = u64(image.geometry.clusterSize);
  const end = min(image.fileLength, offset + (count << 3));
  const structure: Structure = kind === TableKind.L1 ? Structure.L2Table : Structure.RefcountBlock;
  while (offset + map.cursor < end) {
    const at = offset + map.cursor;
    const slice = viewSlice(image.cache, kind, at, task);
    if (slice === null) return task.outcome;
    const sliceEnd = min(end, slice.hostOffset + (u64(1) << image.cache.sliceBits));
    for (let entryAt = at; entryAt + 8 <= sliceEnd; entryAt += 8) {
      const entry = loadU64(slice.data + usize(entryAt - slice.hostOffset));
      const named = kind === TableKind.L1 ? l2TableOffset(entry) : refcountBlockOffset(entry);
      if (named !== 0) visit(image, map, named, clusterSize, structure);
    }
    map.cursor = sliceEnd - offset;
  }
  return Status.Ok;
}

/** Every snapshot's L1 table, what its entries name when that is asked for, and the snapshot table itself. */
function walkSnapshots(image: Image, task: Task, map: TableMap, checks: u32): Status {
  const wanted = OverlapCheck.InactiveL1 | OverlapCheck.InactiveL2 | OverlapCheck.SnapshotTable;
  if ((checks & wanted) === 0) return Status.Ok;
  while (map.snapshotIndex < image.info.snapshotCount) {
    const start = map.snapshotOffset;
    const end = start + SNAPSHOT_HEADER_SIZE;
    const isThere = start <= image.fileLength && end <= image.fileLength && isAligned(start, SNAPSHOT_ALIGNMENT);
    if (!isThere) return refuseSnapshots(image, task, start);
    const l1Offset = needWord(image, task, start + SnapshotOffset.L1TableOffset);
    if (task.outcome !== Status.Ok) return task.outcome;
    const sizes = needWord(image, task, start + SnapshotOffset.L1Size);
    if (task.outcome !== Status.Ok) return task.outcome;
    const extra = needWord(image, task, start + SnapshotOffset.VmStateSize) & 0xffffffff;
    if (task.outcome !== Status.Ok) return task.outcome;
    const l1Size = min(sizes >> 32, MAXIMUM_L1_LENGTH >> 3);
    const length = l1Offset < image.fileLength ? min(l1Size << 3, image.fileLength - l1Offset) : 0;
    if ((checks & OverlapCheck.InactiveL2) !== 0) {
      const status = walkEntries(image, task, map, TableKind.L1, l1Offset, length >> 3);
      if (status !== Status.Ok) return status;
    }
    // More than the file can hold: then they overlap each other, and who knows what is true.
    map.inactiveClusters += (length + image.geometry.clusterSize - 1) >> image.geometry.clusterBits;
    if (map.inactiveClusters > image.fileLength >> image.geometry.clusterBits)
      return refuseSnapshots(image, task, start);
    if ((checks & OverlapCheck.InactiveL1) !== 0) visit(image, map, l1Offset, length, Structure.L1Table);
    map.cursor = 0;
    map.snapshotIndex++;
    const names = ((sizes >> 16) & 0xffff) + (sizes & 0xffff);
    map.snapshotOffset = alignUp(end + extra + names, SNAPSHOT_ALIGNMENT);
  }
  const tableOffset = image.info.snapshotsOffset;
  if ((checks & OverlapCheck.SnapshotTable) !== 0) {
    visit(image, map, tableOffset, map.snapshotOffset - tableOffset, Structure.SnapshotTable);
  }
  return Status.Ok;
}

/** Eight bytes of the snapshot table; `task.outcome` is Ok when they are there. */
function needWord(image: Image, task: Task, offset: u64): u64 {
  task.outcome = Status.Ok;
  const slice = viewSlice(image.cache, TableKind.SnapshotTable, offset, task);
  return slice === null ? 0 : loadU64(slice.data + usize(offset - slice.hostOffset));
}

/** A table lies in `length` bytes from `offset` on. */
function visit(image: Image, map: TableMap, offset: u64, length: u64, structure: Structure): void {
  // Nothing can be written behind that.
  if (length === 0 || offset > MAXIMUM_HOST_OFFSET) return;
  const bits = image.geometry.clusterBits;
  const first = offset >> bits;
  const last = (min(offset + length, max(image.fileLength, offset + 1)) - 1) >> bits;
  for (let cluster = first; cluster <= last; cluster++) {
    if (map.seeks) addToWindow(map, cluster);
    else addTable(map, cluster);
  }
  if (map.seeks && first <= map.last && last >= map.first) {
    map.found = structure;
    map.foundCluster = max(first, map.first);
  }
}

function refuseSnapshots(image: Image, task: Task, offset: u64): Status {
  task.failedStructure = Structure.SnapshotTable;
  task.failedOffset = offset;
  task.failedOperation = NO_OPERATION;
  return refuse(image.failure, Status.Corrupt, Structure.SnapshotTable, Field.Offset, offset, 0, 0);
}
