/**
 * What a snapshot verb knows between two steps. It is alone with the image, so there is one state; it lies in
 * `image.exclusiveMemory`:
 *
 *   0 state   512 walk   768 entry cursor   1024 id and name read from the table   3072 new table entry
 */

import { EXCLUSIVE_LENGTH } from '../image/exclusive';
import { Image } from '../image/image';

@unmanaged
export class SnapshotState {
  /** Snapshots now, and bytes of their table. */
  count: u32 = 0;
  found: bool = false;
  /** Create: only the id must be free, names may be there any number of times. */
  idOnly: bool = false;
  /** Create: the largest number that is an id. */
  largestId: u64 = 0;
  tableLength: u64 = 0;
  /** The snapshot that is meant: where its entry begins and ends in the table, and what it says. */
  entryStart: u64 = 0;
  entryEnd: u64 = 0;
  l1Offset: u64 = 0;
  l1Size: u32 = 0;
  diskSize: u64 = 0;

  /** The new snapshot table: the old one without `cutLength` bytes at `cutStart`, and the new entry behind it. */
  cutStart: u64 = 0;
  cutLength: u64 = 0;
  newEntryLength: u32 = 0;
  newTableLength: u64 = 0;
  newTableOffset: u64 = 0;
  /** The L1 table that is being written: a copy of `sourceL1Size` entries at `sourceL1Offset`, and zeros. */
  sourceL1Offset: u64 = 0;
  sourceL1Size: u32 = 0;
  newL1Size: u32 = 0;
  newL1Offset: u64 = 0;
  /** Bytes of the table being written that are on their way, and of the next piece that are ready in the scratch. */
  written: u64 = 0;
  filled: u32 = 0;

  /** Apply: the active L1 table that was. */
  oldL1Offset: u64 = 0;
  oldL1Size: u32 = 0;
  oldTableOffset: u64 = 0;
}

const WALK: usize = 512;
const CURSOR: usize = 768;
const NAMES: usize = 1024;
const NEW_ENTRY: usize = 3072;
/** Bytes of a new entry at most. */
export const NEW_ENTRY_LENGTH: u32 = EXCLUSIVE_LENGTH - u32(NEW_ENTRY);
/** Id and name of the table are only read when both have at most this many bytes. */
export const MAXIMUM_COMPARED: u32 = 1023;

/** Clears everything: a verb begins. */
export function openSnapshotState(image: Image): SnapshotState {
  memory.fill(image.exclusiveMemory, 0, EXCLUSIVE_LENGTH);
  return snapshotState(image);
}

export function snapshotState(image: Image): SnapshotState {
  return changetype<SnapshotState>(image.exclusiveMemory);
}

/** Address of the record for the walk through tables. */
export function walkAddress(image: Image): usize {
  return image.exclusiveMemory + WALK;
}

export function cursorAddress(image: Image): usize {
  return image.exclusiveMemory + CURSOR;
}

export function namesAddress(image: Image): usize {
  return image.exclusiveMemory + NAMES;
}

export function newEntryAddress(image: Image): usize {
  return image.exclusiveMemory + NEW_ENTRY;
}
