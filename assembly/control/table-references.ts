/**
 * How many L1 tables lead to an L2 table: all that share it have it at the same index.
 *
 * The refcount says the same, but for images that leak: whoever lowers the counts of what the table refers to must not believe it.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { needSlice, TableKind } from '../cache/table-cache';
import { L1_ENTRY_SIZE, l2TableOffset } from '../format/l1-entry';
import { loadRefcount } from '../format/refcount-entry';
import { Image } from '../image/image';
import { needRefcounts, refcountIndex } from '../image/refcounts';
import { Task } from '../image/task';
import { EntryCursor, needEntry, nextEntry, openEntries } from './snapshot-entry';

/** Where the count stands. */
@unmanaged
export class TableReferences {
  tableOffset: u64 = 0;
  l1Index: u32 = 0;
  /** L1 tables that lead to the table so far; all of them when `known`. */
  count: u32 = 0;
  activeCounted: bool = false;
  known: bool = false;
  /** The disk's own L1 table is one of them. */
  active: bool = false;
  /** The snapshot table is read with this. */
  cursor: EntryCursor = changetype<EntryCursor>(0);
}

/** Nothing was counted yet. */
export function forgetReferences(references: TableReferences): void {
  references.tableOffset = 0;
}

/** About the L2 table at `tableOffset`, which entry `l1Index` of some L1 table names; what is known of it stays known. */
export function startReferences(image: Image, references: TableReferences, l1Index: u32, tableOffset: u64): void {
  if (references.tableOffset === tableOffset && references.l1Index === l1Index) return;
  openEntries(image, references.cursor);
  references.tableOffset = tableOffset;
  references.l1Index = l1Index;
  references.count = 0;
  references.activeCounted = false;
  references.known = false;
  references.active = false;
}

/** Ok when `references.count` is known and is the table's refcount; Unsupported when those differ. Miss: call again. */
export function needReferences(image: Image, task: Task, references: TableReferences): Status {
  if (references.known) return Status.Ok;
  if (!references.activeCounted) {
    const status = countEntry(image, task, references, image.l1Offset, image.l1Size);
    if (status !== Status.Ok) return status;
    references.active = references.count !== 0;
    references.activeCounted = true;
  }
  const cursor = references.cursor;
  while (cursor.index < image.info.snapshotCount) {
    let status = needEntry(image, task, cursor);
    if (status !== Status.Ok) return status;
    status = countEntry(image, task, references, cursor.l1Offset, cursor.l1Size);
    if (status !== Status.Ok) return status;
    nextEntry(cursor);
  }
  const status = judgeRefcount(image, task, references.tableOffset, references.count, true);
  if (status !== Status.Ok) return status;
  references.known = true;
  return Status.Ok;
}

/** Unsupported when the refcount of the cluster at `hostOffset` is not `count`, or, unless it must be `exact`, is less. */
export function judgeRefcount(image: Image, task: Task, hostOffset: u64, count: u32, exact: bool): Status {
  const cluster = hostOffset >> image.geometry.clusterBits;
  const slice = needRefcounts(image, task, cluster);
  if (slice === null && task.outcome !== Status.Ok) return task.outcome;
  const order = image.geometry.refcountOrder;
  const refcount = slice === null ? 0 : loadRefcount(slice.data, refcountIndex(image, cluster), order);
  if (refcount === u64(count) || (refcount > count && !exact)) return Status.Ok;
  const structure = Structure.Request;
  return refuse(image.failure, Status.Unsupported, structure, Field.WrongRefcounts, hostOffset, refcount, count);
}

/** One more when the L1 table at `l1Offset` leads to the L2 table. What no table can be is judged by who walks it. */
function countEntry(image: Image, task: Task, references: TableReferences, l1Offset: u64, l1Size: u32): Status {
  if (references.l1Index >= l1Size) return Status.Ok;
  const entryOffset = l1Offset + u64(references.l1Index) * L1_ENTRY_SIZE;
  const inside = l1Offset < image.fileLength && entryOffset < image.fileLength;
  if (!inside || !isAligned(l1Offset, image.geometry.clusterSize)) return Status.Ok;
  const slice = needSlice(image.cache, TableKind.L1, entryOffset, task);
  if (slice === null) return task.outcome;
  const entry = loadU64(slice.data + usize(entryOffset - slice.hostOffset));
  if (l2TableOffset(entry) === references.tableOffset) references.count++;
  return Status.Ok;
}
