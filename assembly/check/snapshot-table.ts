/**
 * Repair of the snapshot table: a copy in which the extra data of every entry has a length that readers accept. Too much
 * is cut off; what the specification requires and lacks is added, the disk having the size that it has now.
 *
 *   allocate behind everything ─▶ write the copy ─▶ flush ─▶ header sector ─▶ flush ─▶ free the old table
 *
 * The refcounts are right by then. A power cut before the header's write leaks the copy, one after it the old table.
 */

import { Field, Structure } from '../abi/failure';
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
import { EXCLUSIVE_LENGTH } from '../image/exclusive';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { allocateRegion } from '../image/region';
import { finishRelease, releaseRun } from '../image/release';
import { parkOnOperation, Task } from '../image/task';
import { reportRepaired } from './report';
import { CheckState } from './state';

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

/** Where the copy stands; in `image.exclusiveMemory`, with the head of the entry behind it. */
@unmanaged
class TableCopy {
  stage: u32 = 0;
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

const HEAD: usize = 256;
const WORD: u32 = 8;
const WORDS_OF_HEADER: u32 = SNAPSHOT_HEADER_SIZE / WORD;
const ENDLESS: u64 = 0xffffffffffffffff;

/** Before the first pass: no copy has been begun. */
export function forgetTableCopy(image: Image): void {
  memory.fill(image.exclusiveMemory, 0, EXCLUSIVE_LENGTH);
}

/** Goes on with the copy of `state.newSnapshotsLength` bytes; Ok when the old table is on its way to being free. */
export function fixSnapshotTable(image: Image, task: Task, state: CheckState): Status {
  while (true) {
    if (task.outstanding !== 0) {
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    const copy = changetype<TableCopy>(image.exclusiveMemory);
    if (copy.stage === Stage.Settle) break;
    const status = step(image, task, state, copy);
    if (status !== Status.Ok) return status;
  }
  return finishRelease(image, task);
}

function step(image: Image, task: Task, state: CheckState, copy: TableCopy): Status {
  const bits = image.geometry.clusterBits;
  switch (copy.stage) {
    case Stage.Allocate: {
      // Nothing that was free before is used: what damaged tables name may not be counted.
      image.scanCluster = image.scanEnd;
      image.frontier = max(image.frontier, max(min(state.highestUsed + 1, state.clusterLimit), state.newEnd));
      const status = allocateRegion(image, task, unitsFor(state.newSnapshotsLength, bits));
      if (status !== Status.Ok) return status;
      copy.offset = image.allocatedOffset;
      copy.part = Part.Padding;
      copy.start = image.info.snapshotsOffset;
      copy.stage = Stage.Write;
      return Status.Ok;
    }
    case Stage.Write:
      if (copy.written < state.newSnapshotsLength) return writePiece(image, task, state, copy);
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
      const count = unitsFor(state.snapshotOffset - copy.oldOffset, bits);
      const status = releaseRun(image, task, copy.oldOffset >> bits, count);
      if (status !== Status.Ok) return status;
      dropSlices(image.cache, copy.oldOffset, count << bits);
      copy.stage = Stage.Settle;
      return Status.Ok;
    }
  }
}

/** Fills the scratch and writes it. A step that misses keeps what it has. */
function writePiece(image: Image, task: Task, state: CheckState, copy: TableCopy): Status {
  const sliceLength = u32(1) << image.geometry.sliceBits;
  while (copy.filled < sliceLength) {
    if (copy.left === 0) {
      if (!beginPart(image, task, state, copy)) return task.outcome;
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
function beginPart(image: Image, task: Task, state: CheckState, copy: TableCopy): bool {
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
      if (copy.index < image.info.snapshotCount) return beginEntry(image, task, state, copy);
      copy.left = ENDLESS;
      return true;
  }
}

/** The head of the next entry: its header, and its extra data when something is added to that. */
function beginEntry(image: Image, task: Task, state: CheckState, copy: TableCopy): bool {
  const head = image.exclusiveMemory + HEAD;
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
  const kept = repairedExtraData(image.version, extra);
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
  const hostOffset = copy.start + SnapshotOffset.ExtraDataLength;
  reportRepaired(state, Structure.SnapshotTable, Field.SnapshotExtraData, hostOffset, extra, kept);
  return true;
}
