/**
 * For a downgrade: a walk through every L2 table that the disk or a snapshot refers to. The first time it finds what version
 * 2 cannot hold, and nothing changes; the second time the zero clusters go, see `amend-zeroes.ts`.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { push } from '../base/wait-list';
import { needSlice, TableKind } from '../cache/table-cache';
import { CRYPT_NONE } from '../format/header';
import { checkL1Entry, L1_ENTRY_SIZE, l2TableOffset } from '../format/l1-entry';
import { clusterOffset, hasReservedBits, isCompressed, isZero, L2_ENTRY_SIZE } from '../format/l2-entry';
import { Image } from '../image/image';
import { checkOverlap, checkTableOverlap } from '../image/overlap';
import { Task } from '../image/task';
import { startZeroes, stepZeroes, ZeroClusters } from './amend-zeroes';
import { EntryCursor, needEntry, nextEntry, openEntries } from './snapshot-entry';
import { judgeFound } from './snapshot-find';
import { SnapshotState } from './snapshot-state';
import { forgetReferences, judgeRefcount, needReferences, startReferences, TableReferences } from './table-references';

/** Longest state of a virtual machine that version 2 has a field for. */
const LONGEST_STATE_V2: u64 = 0xffffffff;
/** L1 entries, and slices of L2 tables, that one step looks at. */
const ENTRIES_PER_STEP: u32 = 256;
const SLICES_PER_STEP: u32 = 4;

/** Where the walk stands. */
@unmanaged
export class TableSweep {
  l1Offset: u64 = 0;
  l1Size: u32 = 0;
  l1Index: u32 = 0;
  entryIndex: u32 = 0;
  /** False: nothing changes, and what version 2 cannot hold is refused. */
  replaces: bool = false;
  /** The snapshot table is read with this. */
  cursor: EntryCursor = changetype<EntryCursor>(0);
  /** For the judgement of a snapshot's L1 table. */
  state: SnapshotState = changetype<SnapshotState>(0);
  /** The L1 tables that lead to the table being looked at. */
  references: TableReferences = changetype<TableReferences>(0);
  zeroes: ZeroClusters = changetype<ZeroClusters>(0);
}

/** Begins with the disk's own L1 table. The records that it names are in place. */
export function startSweep(image: Image, sweep: TableSweep, replaces: bool): void {
  openEntries(image, sweep.cursor);
  forgetReferences(sweep.references);
  startZeroes(sweep.zeroes);
  sweep.replaces = replaces;
  beginTable(sweep, image.l1Offset, image.l1Size);
}

/** Ok when all tables were looked at. Miss: call again. */
export function stepSweep(image: Image, task: Task, sweep: TableSweep): Status {
  if (image.order.broken) return refuse(image.failure, Status.Broken, Structure.File, Field.None, 0, 0, 0);
  while (true) {
    let status = sweepL1(image, task, sweep);
    if (status !== Status.Ok) return status;
    if (sweep.cursor.index === image.info.snapshotCount) return Status.Ok;
    status = needEntry(image, task, sweep.cursor);
    if (status !== Status.Ok) return status;
    status = judgeSnapshot(image, sweep);
    if (status !== Status.Ok) return status;
    beginTable(sweep, sweep.cursor.l1Offset, sweep.cursor.l1Size);
    nextEntry(sweep.cursor);
  }
}

function beginTable(sweep: TableSweep, l1Offset: u64, l1Size: u32): void {
  sweep.l1Offset = l1Offset;
  sweep.l1Size = l1Size;
  sweep.l1Index = 0;
  sweep.entryIndex = 0;
}

/** As QEMU: the table keeps its extra data, but who knows version 2 only need not read it. */
function judgeSnapshot(image: Image, sweep: TableSweep): Status {
  const cursor = sweep.cursor;
  const state = sweep.state;
  if (cursor.diskSize !== image.virtualSize || cursor.vmStateSize > LONGEST_STATE_V2) {
    return refuseDowngrade(image, Field.NewerSnapshots, cursor.index);
  }
  state.found = true;
  state.entryStart = cursor.start;
  state.l1Offset = cursor.l1Offset;
  state.l1Size = cursor.l1Size;
  state.diskSize = cursor.diskSize;
  return judgeFound(image, state);
}

function sweepL1(image: Image, task: Task, sweep: TableSweep): Status {
  const entries = u32(1) << image.geometry.l2Bits;
  let slices: u32 = 0;
  for (let count: u32 = 0; sweep.l1Index < sweep.l1Size; count++) {
    if (count === ENTRIES_PER_STEP) return takeTurn(image, task);
    const entryOffset = sweep.l1Offset + u64(sweep.l1Index) * L1_ENTRY_SIZE;
    const l1 = needSlice(image.cache, TableKind.L1, entryOffset, task);
    if (l1 === null) return task.outcome;
    const entry = loadU64(l1.data + usize(entryOffset - l1.hostOffset));
    const tableOffset = l2TableOffset(entry);
    if (checkL1Entry(entry, image.geometry.clusterSize) !== Status.Ok || tableOffset >= image.fileLength) {
      return refuseEntry(image, Structure.L1Table, Field.Offset, entryOffset, entry);
    }
    if (tableOffset !== 0) startReferences(image, sweep.references, sweep.l1Index, tableOffset);
    while (tableOffset !== 0 && sweep.entryIndex < entries) {
      if (slices++ === SLICES_PER_STEP) return takeTurn(image, task);
      const status = sweepSlice(image, task, sweep, tableOffset);
      if (status !== Status.Ok) return status;
    }
    sweep.l1Index++;
    sweep.entryIndex = 0;
  }
  return Status.Ok;
}

/** The entries of one slice, from the sweep's on; entries have 8 bytes, for version 2 has no others. */
function sweepSlice(image: Image, task: Task, sweep: TableSweep, tableOffset: u64): Status {
  const sliceLength = u32(1) << image.geometry.sliceBits;
  const start = (sweep.entryIndex * L2_ENTRY_SIZE) & ~(sliceLength - 1);
  const end = (start + sliceLength) / L2_ENTRY_SIZE;
  while (sweep.entryIndex < end) {
    const entryOffset = tableOffset + sweep.entryIndex * L2_ENTRY_SIZE;
    const slice = needSlice(image.cache, TableKind.L2, entryOffset, task);
    if (slice === null) return task.outcome;
    const entry = loadU64(slice.data + usize(entryOffset - slice.hostOffset));
    if (!isCompressed(entry) && isZero(entry)) {
      const status = sweep.replaces
        ? stepZeroes(image, task, sweep.zeroes, sweep.references, slice, entryOffset)
        : judgeZeroes(image, task, sweep, entryOffset, entry);
      if (status !== Status.Ok) return status;
    } else {
      const status = judgeEntry(image, entryOffset, entry);
      if (status !== Status.Ok) return status;
    }
    sweep.entryIndex++;
  }
  return Status.Ok;
}

function judgeEntry(image: Image, hostOffset: u64, entry: u64): Status {
  if (isCompressed(entry)) {
    const newer = image.info.compressionType !== 0;
    return newer ? refuseDowngrade(image, Field.NewerCompression, image.info.compressionType) : Status.Ok;
  }
  if (!hasReservedBits(entry, image.version)) return Status.Ok;
  return refuseEntry(image, Structure.L2Table, Field.ReservedBits, hostOffset, entry);
}

/** A zero cluster whose references must be right for it to go. */
function judgeZeroes(image: Image, task: Task, sweep: TableSweep, entryOffset: u64, entry: u64): Status {
  let status = judgeEntry(image, entryOffset, entry);
  if (status !== Status.Ok) return status;
  const host = clusterOffset(entry);
  const clusterSize = image.geometry.clusterSize;
  status = checkTableOverlap(image, entryOffset, L2_ENTRY_SIZE);
  if (status !== Status.Ok) return status;
  const covered = image.info.backingFileLength !== 0;
  // Zeros would have to be written that only a key makes.
  if (covered && image.info.cryptMethod !== CRYPT_NONE) return refuseDowngrade(image, Field.Encryption, 0);
  if (host === 0 && !covered) return Status.Ok;
  status = needReferences(image, task, sweep.references);
  if (status !== Status.Ok || host === 0) return status;
  if (!isAligned(host, clusterSize) || host >= image.fileLength) {
    return refuseEntry(image, Structure.L2Table, Field.Offset, entryOffset, entry);
  }
  // It will be released: a table must never be handed out as free, whatever an entry says.
  status = checkOverlap(image, host, clusterSize);
  if (status !== Status.Ok) return status;
  return judgeRefcount(image, task, host, sweep.references.count, false);
}

/** Other requests that go on meanwhile have their turn. */
function takeTurn(image: Image, task: Task): Status {
  task.outcome = Status.Miss;
  push(image.ready, task);
  return Status.Miss;
}

function refuseDowngrade(image: Image, field: Field, found: u64): Status {
  return refuse(image.failure, Status.Unsupported, Structure.Request, field, 0, found, 0);
}

function refuseEntry(image: Image, structure: Structure, field: Field, hostOffset: u64, entry: u64): Status {
  return refuse(image.failure, Status.Corrupt, structure, field, hostOffset, entry, image.fileLength);
}
