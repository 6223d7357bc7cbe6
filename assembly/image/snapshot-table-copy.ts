/**
 * A copy of the snapshot table in which the extra data of every entry has a length that readers accept. Too much is cut off;
 * what the version requires and lacks is added, the disk having the size that it has now.
 *
 *   allocate ─▶ write the copy ─▶ flush ─▶ header sector ─▶ flush ─▶ free the old table
 *
 * A power cut before the header's write leaks the copy, one after it the old table.
 */

import { Status } from '../abi/status';
import { alignUp, unitsFor } from '../base/align';
import { loadU16, loadU32, loadU64, storeU32, storeU64 } from '../base/bytes';
import { Owner, writeModule } from '../block';
import { dropSlices, TableKind, viewSlice } from '../cache/table-cache';
import { requestFlush } from '../cache/write-order';
import { HeaderOffset } from '../format/header';
import {
  NO_ICOUNT,
  repairedExtraData,
  SNAPSHOT_ALIGNMENT,
  SNAPSHOT_HEADER_SIZE,
  SNAPSHOT_KNOWN_SIZE,
  SnapshotExtraOffset,
  SnapshotOffset,
} from '../format/snapshot-table';
import { commitHeaderSector, needHeaderSector } from './header-sector';
import { Image } from './image';
import { abandonRegion, allocateRegion } from './region';
import { finishRelease, releaseRun } from './release';
import { parkOnOperation, Task } from './task';

enum Stage {
  Allocate = 0,
  Write = 1,
  ReadHeader = 2,
  WriteHeader = 3,
  Release = 4,
  Settle = 5,
}

/** What an entry of the copy consists of, in order. */
enum Part {
  /** From the record's own memory. */
  Head = 0,
  /** From the old table. */
  Extra = 1,
  Names = 2,
  /** Zeros; behind the last entry without end. */
  Padding = 3,
}

/** Bytes of a copy's record, with the head of an entry. */
export const TABLE_COPY_LENGTH: u32 = 256;

/** Where the copy stands; the head of the entry lies behind it. */
@unmanaged
export class TableCopy {
  stage: u32 = 0;
  /** Whose readers it is for. */
  version: u32 = 0;
  /** Bytes of the copy, and of the table that it replaces. */
  length: u64 = 0;
  oldLength: u64 = 0;
  /** The last entry was changed: where its length of extra data stands, that and the new one. For who reports it. */
  changed: bool = false;
  changedOffset: u64 = 0;
  changedFrom: u32 = 0;
  changedTo: u32 = 0;
  part: u32 = 0;
  /** Entries that were begun, and words of the next one's head that are there. */
  index: u32 = 0;
  words: u32 = 0;
  /** Bytes of the part that are still to come, and where the next one is: an address, or a host offset. */
  left: u64 = 0;
  source: u64 = 0;
  /** The entry in the old table: where it begins, its lengths there and what its extra data becomes. */
  start: u64 = 0;
  extraLength: u64 = 0;
  keptExtra: u64 = 0;
  namesLength: u64 = 0;
  /** Bytes that were written, and bytes of the next piece that are ready in the scratch. */
  written: u64 = 0;
  filled: u32 = 0;
  offset: u64 = 0;
  oldOffset: u64 = 0;
}

const HEAD: usize = TABLE_COPY_LENGTH - SNAPSHOT_KNOWN_SIZE;
const WORD: u32 = 8;
const WORDS_OF_HEADER: u32 = SNAPSHOT_HEADER_SIZE / WORD;
const ENDLESS: u64 = 0xffffffffffffffff;

/** Begins with nothing; the tables have `oldLength` and `length` bytes, as readers of `version` want them. */
export function startTableCopy(copy: TableCopy, version: u32, oldLength: u64, length: u64): void {
  memory.fill(changetype<usize>(copy), 0, TABLE_COPY_LENGTH);
  copy.version = version;
  copy.oldLength = oldLength;
  copy.length = length;
}

/** The copy has no place yet. */
export function isTableUnplaced(copy: TableCopy): bool {
  return copy.stage === Stage.Allocate;
}

/** The header names the copy. */
export function isTableSwitched(copy: TableCopy): bool {
  return copy.stage >= u32(Stage.Release);
}

/**
 * Goes on with the copy; Ok when the old table is free, or, with `copy.changed`, when another entry was changed: call again.
 * For a task that is alone with the image.
 */
export function stepTableCopy(image: Image, task: Task, copy: TableCopy): Status {
  copy.changed = false;
  while (copy.stage !== Stage.Settle) {
    if (task.outstanding !== 0) {
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    const status = step(image, task, copy);
    if (status !== Status.Ok || copy.changed) return status;
  }
  return finishRelease(image, task);
}

/** The verb failed, and the header does not name the copy: its clusters go back. Miss: call again. */
export function abandonTableCopy(image: Image, task: Task, copy: TableCopy): Status {
  abandonRegion(image);
  if (copy.offset !== 0 && !isTableSwitched(copy)) {
    const bits = image.geometry.clusterBits;
    const status = releaseRun(image, task, copy.offset >> bits, unitsFor(copy.length, bits));
    if (status !== Status.Ok) return status;
    copy.offset = 0;
  }
  return finishRelease(image, task);
}

function step(image: Image, task: Task, copy: TableCopy): Status {
  const bits = image.geometry.clusterBits;
  switch (copy.stage) {
    case Stage.Allocate: {
      const status = allocateRegion(image, task, unitsFor(copy.length, bits));
      if (status !== Status.Ok) return status;
      copy.offset = image.allocatedOffset;
      copy.part = Part.Padding;
      copy.start = image.info.snapshotsOffset;
      copy.stage = Stage.Write;
      return Status.Ok;
    }
    case Stage.Write:
      if (copy.written < copy.length) return writePiece(image, task, copy);
      copy.stage = Stage.ReadHeader;
      requestFlush(image.order, task);
      return Status.Miss;
    case Stage.ReadHeader: {
      const status = needHeaderSector(image, task);
      if (status !== Status.Ok) return status;
      storeU64(image.headerSector + HeaderOffset.SnapshotsOffset, copy.offset);
      copy.stage = Stage.WriteHeader;
      return Status.Ok;
    }
    case Stage.WriteHeader: {
      const status = commitHeaderSector(image, task);
      if (status !== Status.Ok) return status;
      copy.oldOffset = image.info.snapshotsOffset;
      image.info.snapshotsOffset = copy.offset;
      copy.stage = Stage.Release;
      return Status.Ok;
    }
    default: {
      const count = unitsFor(copy.oldLength, bits);
      const status = releaseRun(image, task, copy.oldOffset >> bits, count);
      if (status !== Status.Ok) return status;
      dropSlices(image.cache, copy.oldOffset, count << bits);
      copy.stage = Stage.Settle;
      return Status.Ok;
    }
  }
}

/** Fills the scratch and writes it. A step that misses keeps what it has. */
function writePiece(image: Image, task: Task, copy: TableCopy): Status {
  const sliceLength = u32(1) << image.geometry.sliceBits;
  while (copy.filled < sliceLength) {
    if (copy.left === 0) {
      if (!beginPart(image, task, copy)) return task.outcome;
      if (copy.changed) return Status.Ok;
      continue;
    }
    const target = image.scratch + copy.filled;
    let count = u32(min(copy.left, u64(sliceLength - copy.filled)));
    if (copy.part === Part.Padding) {
      memory.fill(target, 0, count);
    } else if (copy.part === Part.Head) {
      memory.copy(target, usize(copy.source), count);
    } else {
      const slice = viewSlice(image.cache, TableKind.SnapshotTable, copy.source, task);
      if (slice === null) return task.outcome;
      count = u32(min(u64(count), slice.hostOffset + sliceLength - copy.source));
      memory.copy(target, slice.data + usize(copy.source - slice.hostOffset), count);
    }
    copy.source += count;
    copy.left -= count;
    copy.filled += count;
  }
  const hostOffset = copy.offset + copy.written;
  copy.written += sliceLength;
  copy.filled = 0;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.scratch, sliceLength);
  return parkOnOperation(task);
}

/** The part behind the one that is done, which may be empty. False: the step must stop. */
function beginPart(image: Image, task: Task, copy: TableCopy): bool {
  const extraOffset = copy.start + SNAPSHOT_HEADER_SIZE;
  switch (copy.part) {
    case Part.Head:
      copy.part = Part.Extra;
      copy.source = extraOffset;
      // What was added stands in the head.
      copy.left = copy.keptExtra > copy.extraLength ? 0 : copy.keptExtra;
      return true;
    case Part.Extra:
      copy.part = Part.Names;
      copy.source = extraOffset + copy.extraLength;
      copy.left = copy.namesLength;
      return true;
    case Part.Names: {
      const length = SNAPSHOT_HEADER_SIZE + copy.keptExtra + copy.namesLength;
      copy.part = Part.Padding;
      copy.left = alignUp(length, SNAPSHOT_ALIGNMENT) - length;
      copy.start = alignUp(extraOffset + copy.extraLength + copy.namesLength, SNAPSHOT_ALIGNMENT);
      return true;
    }
    default:
      if (copy.index < image.info.snapshotCount) return beginEntry(image, task, copy);
      copy.left = ENDLESS;
      return true;
  }
}

/** The head of the next entry: its header, and its extra data when something is added to that. */
function beginEntry(image: Image, task: Task, copy: TableCopy): bool {
  const head = changetype<usize>(copy) + HEAD;
  let words = WORDS_OF_HEADER;
  while (copy.words < words) {
    const at = copy.start + copy.words * WORD;
    const slice = viewSlice(image.cache, TableKind.SnapshotTable, at, task);
    if (slice === null) return false;
    store<u64>(head + copy.words * WORD, load<u64>(slice.data + usize(at - slice.hostOffset)));
    copy.words++;
    // The first field of the extra data, when it has that.
    if (copy.words === WORDS_OF_HEADER && loadU32(head + SnapshotOffset.ExtraDataLength) >= WORD) words++;
  }
  const extra = loadU32(head + SnapshotOffset.ExtraDataLength);
  const kept = repairedExtraData(copy.version, extra);
  copy.extraLength = extra;
  copy.keptExtra = kept;
  copy.namesLength = u64(loadU16(head + SnapshotOffset.IdLength)) + loadU16(head + SnapshotOffset.NameLength);
  copy.part = Part.Head;
  copy.source = head;
  copy.left = SNAPSHOT_HEADER_SIZE;
  copy.words = 0;
  copy.index++;
  if (kept === extra) return true;
  storeU32(head + SnapshotOffset.ExtraDataLength, kept);
  if (kept > extra) {
    const known = extra >= WORD;
    const vmState = known
      ? loadU64(head + SnapshotExtraOffset.VmStateSize)
      : loadU32(head + SnapshotOffset.VmStateSize);
    storeU64(head + SnapshotExtraOffset.VmStateSize, vmState);
    storeU64(head + SnapshotExtraOffset.DiskSize, image.virtualSize);
    storeU64(head + SnapshotExtraOffset.Icount, NO_ICOUNT);
    copy.left = SNAPSHOT_KNOWN_SIZE;
  }
  copy.changed = true;
  copy.changedOffset = copy.start + SnapshotOffset.ExtraDataLength;
  copy.changedFrom = extra;
  copy.changedTo = kept;
  return true;
}
