/**
 * A walk through everything that an L1 table refers to: the clusters of its L2 tables' entries, then the L2 table itself.
 * It is one step of a snapshot verb, in bounded pieces; every entry is changed once, when all that it needs is resident.
 *
 *   Verify    everything can be followed and has a refcount: nothing is changed
 *   Raise     one reference more to each, and nothing may be written in place any more (no COPIED flag)
 *   Undo      takes a Raise back, up to where that came
 *   Release   one reference less to each, once nothing on disk names the table: see image/release.ts
 *   Flags     COPIED exactly where the refcount is one
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { push } from '../base/wait-list';
import { dropSlices, needSlice, TableKind, TableSlice } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { compressedLength, compressedOffset } from '../format/compressed';
import { checkL1Entry, clearL1Copied, isL1Copied, L1_ENTRY_SIZE, l2TableOffset, makeL1Entry } from '../format/l1-entry';
import { clearCopied, clusterOffset, hasReservedBits, isCompressed, isCopied, makeDataEntry } from '../format/l2-entry';
import { loadRefcount, maximumRefcount, storeRefcount } from '../format/refcount-entry';
import { Image } from '../image/image';
import { checkOverlap, checkTableOverlap } from '../image/overlap';
import { needRefcounts, refcountIndex } from '../image/refcounts';
import { releaseRun } from '../image/release';
import { Task } from '../image/task';

export enum WalkMode {
  Verify = 0,
  Raise = 1,
  Undo = 2,
  Release = 3,
  Flags = 4,
}

@unmanaged
export class TableWalk {
  mode: WalkMode = WalkMode.Verify;
  /** The L1 table is the active one: the flags of its own entries follow. */
  active: bool = false;
  l1Offset: u64 = 0;
  l1Size: u32 = 0;
  /** Where the walk stands: the L1 entry, the entry of its L2 table, the cluster of a compressed entry. */
  l1Index: u32 = 0;
  entryIndex: u32 = 0;
  part: u32 = 0;
  /** Undo: where to stop. */
  endL1Index: u32 = 0;
  endEntryIndex: u32 = 0;
  endPart: u32 = 0;
  /** Refcount after the last change. */
  refcount: u64 = 0;
}

/** L1 entries, and slices of L2 tables, that one step looks at. */
const ENTRIES_PER_STEP: u32 = 4096;
const SLICES_PER_STEP: u32 = 16;

export function startWalk(walk: TableWalk, mode: WalkMode, l1Offset: u64, l1Size: u32, active: bool): void {
  walk.mode = mode;
  walk.active = active;
  walk.l1Offset = l1Offset;
  walk.l1Size = l1Size;
  walk.l1Index = 0;
  walk.entryIndex = 0;
  walk.part = 0;
}

/** Turns a Raise round: the same clusters in the same order, as far as it had come. */
export function startUndo(walk: TableWalk): void {
  walk.endL1Index = walk.l1Index;
  walk.endEntryIndex = walk.entryIndex;
  walk.endPart = walk.part;
  startWalk(walk, WalkMode.Undo, walk.l1Offset, walk.l1Size, walk.active);
}

/** Goes on with the walk; Ok when it is done. */
export function stepWalk(image: Image, task: Task, walk: TableWalk): Status {
  // What cannot be written any more would fill the cache, and the slices of one step push each other out for ever.
  if (image.order.broken) return refuse(image.failure, Status.Broken, Structure.File, Field.None, 0, 0, 0);
  const entries = u32(1) << image.geometry.l2Bits;
  let slices: u32 = 0;
  for (let count: u32 = 0; walk.l1Index < walk.l1Size; count++) {
    if (count === ENTRIES_PER_STEP || slices === SLICES_PER_STEP) return takeTurn(image, task);
    if (isAtEnd(walk)) return Status.Ok;
    const entryOffset = walk.l1Offset + u64(walk.l1Index) * L1_ENTRY_SIZE;
    const l1 = needSlice(image.cache, TableKind.L1, entryOffset, task);
    if (l1 === null) return task.outcome;
    const entry = loadU64(l1.data + usize(entryOffset - l1.hostOffset));
    if (entry !== 0 && isFollowed(image, entry)) {
      while (walk.entryIndex < entries && slices < SLICES_PER_STEP && !isAtEnd(walk)) {
        const status = walkSlice(image, task, walk, l2TableOffset(entry));
        if (status !== Status.Ok) return status;
        slices++;
      }
      if (walk.entryIndex < entries || isAtEnd(walk)) continue;
      const status = walkTable(image, task, walk, entryOffset);
      if (status !== Status.Ok) return status;
    } else if (entry !== 0 && walk.mode !== WalkMode.Flags) {
      return refuse(
        image.failure,
        Status.Corrupt,
        Structure.L1Table,
        Field.Offset,
        entryOffset,
        entry,
        image.fileLength,
      );
    }
    walk.l1Index++;
    walk.entryIndex = 0;
    task.request.progress++;
  }
  return Status.Ok;
}

/** Other requests that go on meanwhile (a flush, the reclaimer) have their turn. */
function takeTurn(image: Image, task: Task): Status {
  task.outcome = Status.Miss;
  push(image.ready, task);
  return Status.Miss;
}

function isAtEnd(walk: TableWalk): bool {
  if (walk.mode !== WalkMode.Undo) return false;
  return walk.l1Index === walk.endL1Index && walk.entryIndex === walk.endEntryIndex && walk.part === walk.endPart;
}

/** The L1 entry names a table that lies where one can lie. */
function isFollowed(image: Image, entry: u64): bool {
  const offset = l2TableOffset(entry);
  if (checkL1Entry(entry, image.geometry.clusterSize) !== Status.Ok) return false;
  return offset !== 0 && offset < image.fileLength;
}

/** The entries of one slice of the table at `tableOffset`, from the walk's on. */
function walkSlice(image: Image, task: Task, walk: TableWalk, tableOffset: u64): Status {
  const geometry = image.geometry;
  const slice = needSlice(
    image.cache,
    TableKind.L2,
    tableOffset + (u64(walk.entryIndex) << geometry.l2EntryBits),
    task,
  );
  if (slice === null) return task.outcome;
  const first = u32(slice.hostOffset - tableOffset) >> geometry.l2EntryBits;
  const end = first + (u32(1) << (geometry.sliceBits - geometry.l2EntryBits));
  while (walk.entryIndex < end && !isAtEnd(walk)) {
    const address = slice.data + (usize(walk.entryIndex - first) << geometry.l2EntryBits);
    const entry = loadU64(address);
    const status = isCompressed(entry)
      ? walkCompressed(image, task, walk, slice, address)
      : walkStandard(image, task, walk, slice, address);
    if (status !== Status.Ok) return status;
    if (isAtEnd(walk)) return Status.Ok;
    walk.entryIndex++;
    walk.part = 0;
  }
  return Status.Ok;
}

function walkStandard(image: Image, task: Task, walk: TableWalk, slice: TableSlice, address: usize): Status {
  const entry = loadU64(address);
  const offset = clusterOffset(entry);
  if (offset === 0 && !hasReservedBits(entry, image.version)) return Status.Ok;
  const aligned = isAligned(offset, image.geometry.clusterSize) && !hasReservedBits(entry, image.version);
  if (!aligned || offset >= image.fileLength || offset === 0) {
    return judgeWrong(image, walk, slice, address, entry);
  }
  const status = change(image, task, walk, offset >> image.geometry.clusterBits);
  if (status !== Status.Ok) return status;
  const copied = wantsCopied(walk, isCopied(entry));
  if (copied !== isCopied(entry)) {
    storeU64(address, copied ? makeDataEntry(entry) : clearCopied(entry));
    markDirty(image.order, slice);
  }
  return Status.Ok;
}

/** Each host cluster that the sectors touch has a reference of its own; none of them is ever written in place. */
function walkCompressed(image: Image, task: Task, walk: TableWalk, slice: TableSlice, address: usize): Status {
  const entry = loadU64(address);
  const bits = image.geometry.clusterBits;
  const offset = compressedOffset(entry, bits);
  const first = offset >> bits;
  const count = u32(((offset + compressedLength(entry, bits) - 1) >> bits) - first) + 1;
  if (offset >= image.fileLength || isCopied(entry)) return judgeWrong(image, walk, slice, address, entry);
  while (walk.part < count && !isAtEnd(walk)) {
    const status = change(image, task, walk, first + walk.part);
    if (status !== Status.Ok) return status;
    walk.part++;
  }
  return Status.Ok;
}

/** The L2 table's own cluster, when all its entries are done; then the flag of the L1 entry that names it. */
function walkTable(image: Image, task: Task, walk: TableWalk, entryOffset: u64): Status {
  const l1 = needSlice(image.cache, TableKind.L1, entryOffset, task);
  if (l1 === null) return task.outcome;
  const address = l1.data + usize(entryOffset - l1.hostOffset);
  const entry = loadU64(address);
  const offset = l2TableOffset(entry);
  const status = change(image, task, walk, offset >> image.geometry.clusterBits);
  if (status !== Status.Ok) return status;
  if (walk.mode === WalkMode.Release) dropSlices(image.cache, offset, image.geometry.clusterSize);
  const copied = wantsCopied(walk, isL1Copied(entry));
  if (walk.active && copied !== isL1Copied(entry)) {
    storeU64(address, copied ? makeL1Entry(offset) : clearL1Copied(entry));
    markDirty(image.order, l1);
  }
  return Status.Ok;
}

/** What the walk does to one cluster; `walk.refcount` is its refcount then. Miss: nothing has changed. */
function change(image: Image, task: Task, walk: TableWalk, cluster: u64): Status {
  const geometry = image.geometry;
  if (walk.mode === WalkMode.Release) return releaseRun(image, task, cluster, 1);
  const slice = needRefcounts(image, task, cluster);
  if (slice === null && task.outcome !== Status.Ok) return task.outcome;
  const index = refcountIndex(image, cluster);
  const order = geometry.refcountOrder;
  const refcount = slice === null ? 0 : loadRefcount(slice.data, index, order);
  walk.refcount = refcount;
  if (walk.mode === WalkMode.Flags) return Status.Ok;
  if (slice === null || refcount === 0) return refuseRefcount(image, Status.Corrupt, cluster, 0, 1);
  if (walk.mode === WalkMode.Verify) {
    // It will be released: a table must never be handed out as free, whatever an entry says.
    const isTable = walk.entryIndex >> geometry.l2Bits !== 0;
    const offset = cluster << geometry.clusterBits;
    if (isTable) return checkTableOverlap(image, offset, geometry.clusterSize);
    return checkOverlap(image, offset, geometry.clusterSize);
  }
  if (walk.mode === WalkMode.Raise) {
    const limit = maximumRefcount(order);
    if (refcount === limit) return refuseRefcount(image, Status.TooLarge, cluster, refcount, limit);
    walk.refcount = refcount + 1;
  } else if (refcount > 1) {
    walk.refcount = refcount - 1;
  }
  storeRefcount(slice.data, index, order, walk.refcount);
  markDirty(image.order, slice);
  return Status.Ok;
}

/** The COPIED flag that the entry should have now. */
function wantsCopied(walk: TableWalk, copied: bool): bool {
  if (walk.mode === WalkMode.Raise) return false;
  if (walk.mode === WalkMode.Flags) return walk.refcount === 1;
  return walk.mode === WalkMode.Undo && walk.active && walk.refcount === 1 ? true : copied;
}

/** An entry that nobody can follow: it stays as it is when only flags are put right. */
function judgeWrong(image: Image, walk: TableWalk, slice: TableSlice, address: usize, entry: u64): Status {
  if (walk.mode === WalkMode.Flags) return Status.Ok;
  const entryOffset = slice.hostOffset + u64(address - slice.data);
  return refuse(image.failure, Status.Corrupt, Structure.L2Table, Field.Offset, entryOffset, entry, image.fileLength);
}

function refuseRefcount(image: Image, status: Status, cluster: u64, found: u64, limit: u64): Status {
  const hostOffset = cluster << image.geometry.clusterBits;
  return refuse(image.failure, status, Structure.RefcountBlock, Field.Refcount, hostOffset, found, limit);
}
