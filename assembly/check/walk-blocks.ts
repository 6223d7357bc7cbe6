/** The refcount table: every refcount block must be a cluster of the file that nothing else refers to. */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU64 } from '../base/bytes';
import { TableKind, viewSlice } from '../cache/table-cache';
import { hasReservedBlockBits, REFCOUNT_TABLE_ENTRY_SIZE, refcountBlockOffset } from '../format/refcount-entry';
import { Image, refcountTableEntries } from '../image/image';
import { Task } from '../image/task';
import { countReferences, isInWindow, referencesOf } from './references';
import { reportCorruption } from './report';
import { CheckState, isFirstWindow } from './state';

/** Begins with the first entry. Everything else must have been counted before. */
export function startBlockWalk(image: Image, state: CheckState): void {
  state.cursor = image.refcountTableOffset;
}

export function isBlockWalkDone(image: Image, state: CheckState): bool {
  return state.cursor >= tableEnd(image);
}

/** One slice of the refcount table. */
export function stepBlockWalk(image: Image, task: Task, state: CheckState): Status {
  const slice = viewSlice(image.cache, TableKind.RefcountTable, state.cursor, task);
  if (slice === null) return task.outcome;
  const end = min(tableEnd(image), slice.hostOffset + (u64(1) << image.cache.sliceBits));
  for (let offset = state.cursor; offset < end; offset += REFCOUNT_TABLE_ENTRY_SIZE) {
    const entry = loadU64(slice.data + usize(offset - slice.hostOffset));
    if (entry === 0) continue;
    noteNextWindow(image, state, (offset - image.refcountTableOffset) / REFCOUNT_TABLE_ENTRY_SIZE);
    walkEntry(state, entry, offset);
  }
  state.cursor = end;
  return Status.Ok;
}

function tableEnd(image: Image): u64 {
  return image.refcountTableOffset + refcountTableEntries(image) * REFCOUNT_TABLE_ENTRY_SIZE;
}

/** The clusters that a block counts are compared, whether anything refers to them or not. */
function noteNextWindow(image: Image, state: CheckState, index: u64): void {
  const bits = image.geometry.blockBits;
  if ((index + 1) << bits <= state.windowEnd) return;
  state.nextWindow = min(state.nextWindow, max(index << bits, state.windowEnd));
}

function walkEntry(state: CheckState, entry: u64, entryOffset: u64): void {
  const judge = isFirstWindow(state);
  const offset = refcountBlockOffset(entry);
  const cluster = offset >> state.clusterBits;
  // None of these can be told from a good entry by who allocates later: the structures must be made anew.
  if (hasReservedBlockBits(entry)) {
    state.mustRebuild = true;
    if (judge) reportCorruption(state, 1, Structure.RefcountTable, Field.ReservedBits, entryOffset, entry, 0);
    return;
  }
  if (!isAligned(offset, state.clusterSize)) {
    state.mustRebuild = true;
    if (judge) {
      reportCorruption(state, 1, Structure.RefcountTable, Field.Alignment, entryOffset, entry, state.clusterSize);
    }
    return;
  }
  if (cluster >= state.clusterCount) {
    state.mustRebuild = true;
    if (judge) reportCorruption(state, 1, Structure.RefcountTable, Field.Offset, entryOffset, entry, state.fileLength);
    return;
  }
  if (isInWindow(state, cluster) && referencesOf(state, cluster) === state.referenceMaximum) {
    // Too narrow to count this one: with refcounts of one bit that is any block that something else refers to as well.
    state.mustRebuild = true;
    reportCorruption(state, 1, Structure.RefcountTable, Field.Overlap, entryOffset, entry, state.referenceMaximum);
    return;
  }
  countReferences(state, offset, state.clusterSize, 1);
  if (isInWindow(state, cluster) && referencesOf(state, cluster) !== 1) {
    const references = referencesOf(state, cluster);
    state.mustRebuild = true;
    reportCorruption(state, 1, Structure.RefcountTable, Field.Overlap, entryOffset, entry, references);
  }
}
