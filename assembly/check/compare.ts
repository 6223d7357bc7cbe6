/**
 * The stored refcounts: those of the window are noted before the tables are walked, which judges COPIED flags by them,
 * and compared with the references afterwards.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU64 } from '../base/bytes';
import { TableKind, TableSlice, viewSlice } from '../cache/table-cache';
import { blockIndex, blockSliceOffset, sliceRefcountBits } from '../format/geometry';
import { loadRefcount, REFCOUNT_TABLE_ENTRY_SIZE, refcountBlockOffset } from '../format/refcount-entry';
import { Image, refcountTableEntries } from '../image/image';
import { Task } from '../image/task';
import { isInWindow, noteStored, referencesOf, Stored, storedOf } from './references';
import { reportCorruption, reportLeak } from './report';
import { CheckState, isFirstWindow } from './state';

/** Notes the refcounts of the clusters that one slice of a refcount block counts. */
export function loadStored(image: Image, task: Task, state: CheckState): Status {
  const start = state.cursor;
  const end = min(state.windowEnd, sliceEnd(image, start));
  const entry = needBlockEntry(image, task, start);
  if (task.outcome !== Status.Ok) return task.outcome;
  if (!isReadable(state, entry)) {
    for (let cluster = start; cluster < end; cluster++) noteStored(state, cluster, Stored.Unknown);
  } else if (hasBlock(state, entry)) {
    const slice = needBlockSlice(image, task, entry, start);
    if (slice === null) return task.outcome;
    const order = image.geometry.refcountOrder;
    let index = indexInSlice(image, start);
    for (let cluster = start; cluster < end; cluster++) {
      if (loadRefcount(slice.data, index++, order) === 1) noteStored(state, cluster, Stored.One);
    }
  }
  state.cursor = end;
  return Status.Ok;
}

/** Compares the refcounts of the clusters that one slice of a refcount block counts. */
export function compareStored(image: Image, task: Task, state: CheckState): Status {
  const start = state.cursor;
  const end = min(min(state.windowEnd, state.clusterCount), sliceEnd(image, start));
  const entry = needBlockEntry(image, task, start);
  if (task.outcome !== Status.Ok) return task.outcome;
  if (!isReadable(state, entry)) {
    // The entry is a corruption already; each cluster whose refcount cannot be looked up is an error, as QEMU counts.
    state.result.checkErrors += end - start;
    state.mustRebuild = true;
  } else if (hasBlock(state, entry)) {
    const slice = needBlockSlice(image, task, entry, start);
    if (slice === null) return task.outcome;
    const order = image.geometry.refcountOrder;
    let index = indexInSlice(image, start);
    for (let cluster = start; cluster < end; cluster++) {
      compareCluster(state, cluster, loadRefcount(slice.data, index++, order));
    }
  } else {
    for (let cluster = start; cluster < end; cluster++) {
      if (referencesOf(state, cluster) !== 0) state.mustRebuild = true;
      compareCluster(state, cluster, 0);
    }
  }
  state.cursor = end;
  return Status.Ok;
}

/**
 * Whether an active entry that names `cluster` has the wrong COPIED flag: it says that the refcount is exactly one. Each
 * cluster is judged in its window; those beyond the end of the file have none and are looked up in the first window.
 * `task.outcome` is not Ok when the step must stop.
 */
export function needCopiedWrong(image: Image, task: Task, state: CheckState, cluster: u64, copied: bool): bool {
  task.outcome = Status.Ok;
  let stored: Stored = Stored.Unknown;
  if (isInWindow(state, cluster)) stored = storedOf(state, cluster);
  else if (cluster >= state.clusterLimit && isFirstWindow(state)) stored = lookUpStored(image, task, state, cluster);
  return stored !== Stored.Unknown && (stored === Stored.One) !== copied;
}

function lookUpStored(image: Image, task: Task, state: CheckState, cluster: u64): Stored {
  const entry = needBlockEntry(image, task, cluster);
  if (task.outcome !== Status.Ok || !isReadable(state, entry)) return Stored.Unknown;
  if (!hasBlock(state, entry)) return Stored.NotOne;
  const slice = needBlockSlice(image, task, entry, cluster);
  if (slice === null) return Stored.Unknown;
  const refcount = loadRefcount(slice.data, indexInSlice(image, cluster), image.geometry.refcountOrder);
  return refcount === 1 ? Stored.One : Stored.NotOne;
}

function compareCluster(state: CheckState, cluster: u64, refcount: u64): void {
  const references = referencesOf(state, cluster);
  if ((refcount | references) === 0) return;
  state.highestCluster = cluster;
  state.highestUsed = max(state.highestUsed, cluster);
  if (refcount === 0) state.uncounted = true;
  if (refcount === references) return;
  const offset = cluster << state.clusterBits;
  if (refcount > references) reportLeak(state, offset, refcount, references);
  else reportCorruption(state, 1, Structure.RefcountBlock, Field.Refcount, offset, refcount, references);
}

/** The refcount table's entry for `cluster`, 0 when it has none; `task.outcome` is not Ok when the step must stop. */
export function needBlockEntry(image: Image, task: Task, cluster: u64): u64 {
  const index = blockIndex(image.geometry, cluster);
  task.outcome = Status.Ok;
  if (index >= refcountTableEntries(image)) return 0;
  const offset = image.refcountTableOffset + index * REFCOUNT_TABLE_ENTRY_SIZE;
  const slice = viewSlice(image.cache, TableKind.RefcountTable, offset, task);
  return slice === null ? 0 : loadU64(slice.data + usize(offset - slice.hostOffset));
}

/** QEMU cannot read a block that is not aligned, nor one whose offset is no file offset at all. */
export function isReadable(state: CheckState, entry: u64): bool {
  return isAligned(refcountBlockOffset(entry), state.clusterSize) && i64(entry) >= 0;
}

/** A block beyond the end of the file counts nothing. */
export function hasBlock(state: CheckState, entry: u64): bool {
  const offset = refcountBlockOffset(entry);
  return offset !== 0 && offset < state.fileLength;
}

export function needBlockSlice(image: Image, task: Task, entry: u64, cluster: u64): TableSlice | null {
  const offset = refcountBlockOffset(entry) + blockSliceOffset(image.geometry, cluster);
  return viewSlice(image.cache, TableKind.RefcountBlock, offset, task);
}

export function indexInSlice(image: Image, cluster: u64): u32 {
  return u32(cluster) & ((u32(1) << sliceRefcountBits(image.geometry)) - 1);
}

/** First cluster that the next slice of a refcount block counts. */
export function sliceEnd(image: Image, cluster: u64): u64 {
  const bits = sliceRefcountBits(image.geometry);
  return ((cluster >> bits) + 1) << bits;
}
