/**
 * The L2 tables in the order of the file, each once however many L1 entries name it: what it refers to counts as often
 * as it is named. So the work is bounded by the file, and snapshots that share their tables cost nothing.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU64 } from '../base/bytes';
import { TableKind, TableSlice, viewSlice } from '../cache/table-cache';
import { compressedLength, compressedOffset } from '../format/compressed';
import { clusterOffset, hasReservedBits, isCompressed, isCopied, L2_ENTRY_SIZE } from '../format/l2-entry';
import { hasReservedExtendedBits, isBitmapValid } from '../format/l2-subclusters';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { needCopiedWrong } from './compare';
import { fixByZero, fixCopied, holdsData } from './fix';
import { countReferences } from './references';
import { reportCorruption } from './report';
import { CheckState, isFirstWindow, Pass } from './state';
import { activeWeight, findTable, tableWeight } from './table-weights';

/** Clusters of the file that one step searches for the next table. */
const CLUSTERS_PER_STEP: u64 = 65536;

/** Begins with the first table of the table window. */
export function startL2Walk(state: CheckState): void {
  state.cursor = state.tableStart;
  state.l2Done = 0;
  state.nextContiguous = 0;
}

export function isL2WalkDone(state: CheckState): bool {
  return state.cursor === state.tableEnd;
}

/** One slice of an L2 table, or a stretch of the file without any. */
export function stepL2Walk(image: Image, task: Task, state: CheckState): Status {
  const cluster = findTable(state, state.cursor, min(state.tableEnd, state.cursor + CLUSTERS_PER_STEP));
  if (cluster !== state.cursor) {
    state.cursor = cluster;
    return Status.Ok;
  }
  const slice = viewSlice(image.cache, TableKind.L2, (cluster << state.clusterBits) + state.l2Done, task);
  if (slice === null) return task.outcome;
  state.weight = tableWeight(state, cluster);
  state.activeWeight = activeWeight(state, cluster);
  const sliceSize = u32(1) << image.cache.sliceBits;
  const entrySize = u32(1) << image.geometry.l2EntryBits;
  const extended = image.geometry.extended;
  for (let at = state.l2Done & (sliceSize - 1); at < sliceSize; at += entrySize) {
    const entry = loadU64(slice.data + at);
    const bitmap: u64 = extended ? loadU64(slice.data + at + L2_ENTRY_SIZE) : 0;
    if ((entry | bitmap) === 0) continue;
    if (isCompressed(entry)) {
      walkCompressed(image, state, slice, entry, bitmap, slice.hostOffset + at);
    } else if (!walkStandard(image, task, state, slice, entry, bitmap, slice.hostOffset + at)) {
      state.l2Done = (state.l2Done & ~(sliceSize - 1)) | at;
      return task.outcome;
    }
  }
  state.l2Done = (state.l2Done & ~(sliceSize - 1)) + sliceSize;
  if (u64(state.l2Done) === state.clusterSize) {
    state.cursor = cluster + 1;
    state.l2Done = 0;
    state.nextContiguous = 0;
  }
  return Status.Ok;
}

function walkCompressed(
  image: Image,
  state: CheckState,
  slice: TableSlice,
  entry: u64,
  bitmap: u64,
  entryOffset: u64,
): void {
  const judge = isFirstWindow(state);
  const weight = state.weight;
  if (judge) {
    // Its sectors may be shared, so it never may be written in place.
    if (isCopied(entry)) {
      reportCorruption(state, weight, Structure.L2Table, Field.Copied, entryOffset, entry, 0);
      if (state.pass === Pass.Flags) fixCopied(image, state, slice, TableKind.L2, entryOffset, entry);
    }
    // It has no place in a data file, and no subclusters.
    if (state.hasDataFile) {
      reportCorruption(state, weight, Structure.L2Table, Field.Compression, entryOffset, entry, 0);
    } else if (bitmap !== 0) {
      reportCorruption(state, weight, Structure.L2Table, Field.Subclusters, entryOffset, bitmap, 0);
    }
  }
  if (state.hasDataFile || bitmap !== 0) {
    state.incomplete = true;
    return;
  }
  if (judge) {
    // Compressed clusters are fragmented by nature, as QEMU counts.
    const result = state.result;
    result.allocatedClusters += state.activeWeight;
    result.compressedClusters += state.activeWeight;
    result.fragmentedClusters += state.activeWeight;
  }
  const offset = compressedOffset(entry, state.clusterBits);
  const length = compressedLength(entry, state.clusterBits);
  if (!countReferences(state, offset, length, weight) && judge) {
    state.incomplete = true;
    reportCorruption(state, weight, Structure.L2Table, Field.Offset, entryOffset, entry, state.fileLength);
  }
}

/** False, and nothing has changed: the step must stop. */
function walkStandard(
  image: Image,
  task: Task,
  state: CheckState,
  slice: TableSlice,
  entry: u64,
  bitmap: u64,
  entryOffset: u64,
): bool {
  const judge = isFirstWindow(state);
  const weight = state.weight;
  const active = state.activeWeight;
  const offset = clusterOffset(entry);
  // In a data file offset 0 is a place as any other, and every cluster is the image's own.
  const hasHost = offset !== 0 || (state.hasDataFile && isCopied(entry));
  if (hasHost && active !== 0) {
    let wrong = judge && !isCopied(entry);
    if (!state.hasDataFile) {
      wrong = needCopiedWrong(image, task, state, offset >> state.clusterBits, isCopied(entry));
      if (task.outcome !== Status.Ok) return false;
    }
    if (wrong) {
      reportCorruption(state, active, Structure.L2Table, Field.Copied, entryOffset, entry, 0);
      if (state.pass === Pass.Flags) fixCopied(image, state, slice, TableKind.L2, entryOffset, entry);
    }
    if (judge) {
      state.result.allocatedClusters += active;
      if (state.nextContiguous !== 0 && offset !== state.nextContiguous) state.result.fragmentedClusters += active;
      state.nextContiguous = offset + state.clusterSize;
    }
  }
  const zeroFlagReserved = image.geometry.extended && hasReservedExtendedBits(entry);
  if (judge && (zeroFlagReserved || hasReservedBits(entry, image.version))) {
    state.incomplete = true;
    reportCorruption(state, weight, Structure.L2Table, Field.ReservedBits, entryOffset, entry, 0);
  }
  if (judge && !isBitmapValid(bitmap, hasHost)) {
    reportCorruption(state, weight, Structure.L2Table, Field.Subclusters, entryOffset, bitmap, 0);
  }
  if (!hasHost) return true;
  if (!isAligned(offset, state.clusterSize)) {
    // Reserved space for zeros: without it the guest reads the same.
    if (!holdsData(image, entry, bitmap)) {
      state.fixableEntries = true;
      if (state.pass === Pass.Entries && fixByZero(image, state, slice, entryOffset, entry)) return true;
    } else {
      state.incomplete = true;
    }
    if (judge) {
      reportCorruption(state, weight, Structure.L2Table, Field.Alignment, entryOffset, entry, state.clusterSize);
    }
  }
  if (state.hasDataFile) return true;
  if (!countReferences(state, offset, state.clusterSize, weight) && judge) {
    state.incomplete = true;
    reportCorruption(state, weight, Structure.L2Table, Field.Offset, entryOffset, entry, state.fileLength);
  }
  return true;
}
