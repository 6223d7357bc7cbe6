/**
 * The directory of bitmaps and the tables that it names: which clusters are theirs. Bitmaps in use count like others, as
 * in QEMU; without the autoclear bit there are none, and what they had has leaked. What QEMU would not open is a
 * corruption here, and nothing of it is put right.
 */

import { BitmapFlag } from '../abi/bitmap';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU64 } from '../base/bytes';
import { TableKind, viewSlice } from '../cache/table-cache';
import { BITMAP_ENTRY_SIZE, bitmapTableSize, bitsOffset, isWrongTableEntry } from '../format/bitmap-directory';
import { viewBitmapEntry } from '../image/bitmap-entry';
import { BitmapEntry } from '../image/bitmap-state';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { countReferences } from './references';
import { reportCorruption } from './report';
import { CheckState, isFirstWindow } from './state';

/** Tables that are longer than the file in all overlap. Following them all could take for ever. */
const MAXIMUM_TABLE_LENGTH: u64 = 1 << 23;

/** Begins with the first bitmap, and counts the directory. */
export function startBitmapWalk(image: Image, state: CheckState): void {
  const bitmaps = image.bitmaps;
  state.bitmapIndex = 0;
  state.bitmapOffset = bitmaps.directoryOffset;
  state.tableCursor = 0;
  state.tableLimit = 0;
  state.bitmapTablesLength = 0;
  if (bitmaps.damaged) reportUnreadable(state, Structure.HeaderExtension, Field.Bitmaps, 0, 0, 0);
  if (bitmaps.count !== 0) countReferences(state, bitmaps.directoryOffset, bitmaps.directoryLength, 1);
}

export function isBitmapWalkDone(image: Image, state: CheckState): bool {
  return state.tableCursor >= state.tableLimit && state.bitmapIndex === image.bitmaps.count;
}

/** One slice of a bitmap's table, or one entry of the directory. */
export function stepBitmapWalk(image: Image, task: Task, state: CheckState): Status {
  if (state.tableCursor >= state.tableLimit) return nextBitmap(image, task, state);
  const slice = viewSlice(image.cache, TableKind.BitmapTable, state.tableCursor, task);
  if (slice === null) return task.outcome;
  const end = min(state.tableLimit, slice.hostOffset + (u64(1) << image.cache.sliceBits));
  for (; state.tableCursor < end; state.tableCursor += BITMAP_ENTRY_SIZE) {
    walkEntry(image, state, loadU64(slice.data + usize(state.tableCursor - slice.hostOffset)));
  }
  return Status.Ok;
}

function walkEntry(image: Image, state: CheckState, entry: u64): void {
  const at = state.tableCursor;
  if (isWrongTableEntry(entry, image.geometry.clusterSize)) {
    return reportUnreadable(state, Structure.BitmapTable, Field.ReservedBits, at, entry, 0);
  }
  const offset = bitsOffset(entry);
  if (offset === 0 || countReferences(state, offset, state.clusterSize, 1)) return;
  reportOutside(state, Structure.BitmapTable, at, entry);
}

function nextBitmap(image: Image, task: Task, state: CheckState): Status {
  const status = viewBitmapEntry(image, task, state.bitmapOffset);
  if (status === Status.Miss || task.outcome !== Status.Ok) return status;
  const bitmaps = image.bitmaps;
  const entry = bitmaps.entry;
  state.bitmapOffset += entry.length;
  state.bitmapIndex++;
  if (status === Status.Ok) enterBitmap(image, state, entry);
  else refuseEntry(image, state, entry);
  const end = bitmaps.directoryOffset + bitmaps.directoryLength;
  if (state.bitmapIndex === bitmaps.count && state.bitmapOffset !== end) {
    reportUnreadable(state, Structure.BitmapDirectory, Field.Length, bitmaps.directoryOffset, state.bitmapOffset, end);
  }
  return Status.Ok;
}

function enterBitmap(image: Image, state: CheckState, entry: BitmapEntry): void {
  const structure = Structure.BitmapDirectory;
  const at = entry.hostOffset;
  const length = u64(entry.tableSize) * BITMAP_ENTRY_SIZE;
  state.bitmapTablesLength += length;
  if (state.bitmapTablesLength > state.fileLength + MAXIMUM_TABLE_LENGTH) {
    reportUnreadable(state, structure, Field.Overlap, at, entry.tableOffset, 0);
    return;
  }
  // Nobody can load it; its clusters are known all the same.
  const wanted = bitmapTableSize(image.virtualSize, entry.granularityBits, state.clusterBits);
  if ((entry.flags & BitmapFlag.InUse) === 0 && entry.tableSize !== wanted && isFirstWindow(state)) {
    state.result.checkErrors++;
    reportCorruption(state, 1, structure, Field.BitmapTableSize, at, entry.tableSize, wanted);
  }
  countReferences(state, entry.tableOffset, length, 1);
  state.tableCursor = entry.tableOffset;
  state.tableLimit = entry.tableOffset + length;
}

/** The walk goes on behind an entry that makes no sense, and ends when nobody can say where that is. */
function refuseEntry(image: Image, state: CheckState, entry: BitmapEntry): void {
  const failure = image.failure;
  const offset = entry.tableOffset;
  const outside = failure.field === Field.Offset && isAligned(offset, state.clusterSize) && offset >= state.clusterSize;
  if (outside) {
    reportOutside(state, Structure.BitmapDirectory, entry.hostOffset, offset);
    return;
  }
  reportUnreadable(state, failure.structure, failure.field, entry.hostOffset, failure.found, failure.limit);
  if (entry.length !== 0 && failure.field !== Field.Length) return;
  state.bitmapIndex = image.bitmaps.count;
  state.bitmapOffset = image.bitmaps.directoryOffset + image.bitmaps.directoryLength;
}

/** What it names is not known, so nothing that seems to be lost may be freed. */
function reportOutside(state: CheckState, structure: Structure, hostOffset: u64, found: u64): void {
  state.incomplete = true;
  if (isFirstWindow(state)) reportCorruption(state, 1, structure, Field.Offset, hostOffset, found, state.fileLength);
}

/** As `reportOutside`, where QEMU does not get to the end of its check. */
function reportUnreadable(
  state: CheckState,
  structure: Structure,
  field: Field,
  hostOffset: u64,
  found: u64,
  expected: u64,
): void {
  state.incomplete = true;
  if (!isFirstWindow(state)) return;
  state.result.checkErrors++;
  reportCorruption(state, 1, structure, field, hostOffset, found, expected);
}
