/**
 * What must be durable before what. Dirty table slices reach the file in rounds of this order:
 *
 *   1. refcount blocks               2. flush (now data, zeroed tables and refcounts are durable)
 *   3. refcount table, then a flush  4. L2 and L1 slices
 *   5. when a host's flush waits: a last flush
 *
 * Refcounts first: a crash in between leaks a cluster; the other order would share one. The slices of phases 3 and 4
 * are copied when the round begins, so a request that ends during the round cannot slip an entry into it whose data
 * and refcount are not durable yet. That entry is in the next round.
 *
 * With lazy refcounts a pass that only serves the guest leaves out 1 and the refcount table: the header says durably that
 * refcounts may be behind, and whoever opens the image after a crash counts anew (image/lazy-refcounts.ts).
 */

import { Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { NO_OPERATION } from '../base/refuse';
import { failAll, isEmpty, moveAll, push, Waiter, WaitList } from '../base/wait-list';
import { flush, Operations, Owner, writeModule } from '../block';
import { addReferences, addRun, hasRoom, moveRuns, RUN_CAPACITY, RunList } from './dropped-clusters';
import { isMostlyDirty, structureOf, TableCache, TableKind, TableSlice, wakeSlotWaiters } from './table-cache';

export enum Phase {
  Idle = 0,
  WriteBlocks = 1,
  FlushBlocks = 2,
  WriteTable = 3,
  FlushTable = 4,
  WriteMappings = 5,
  LastFlush = 6,
}

/** Bytes of the area for copies. */
export const STAGING_LENGTH: u32 = 262144;
/** Most copies in flight at once, whatever the slice size: bounds the operations that the write-out can need. */
export const STAGING_MAXIMUM: u32 = 128;

/** A list of slices: the dirty ones in the order in which they became so, or the copies that wait for their phase. */
@unmanaged
export class SliceList {
  head: TableSlice | null = null;
  tail: TableSlice | null = null;
  count: u32 = 0;
  reserved: u32 = 0;
}

@unmanaged
export class WriteOrder {
  cache: TableCache = changetype<TableCache>(0);
  operations: Operations = changetype<Operations>(0);
  /** Requests served by the running round, and by the one after it. */
  serving: WaitList = changetype<WaitList>(0);
  waiting: WaitList = changetype<WaitList>(0);
  /** Dirty slices by TableKind; what names clusters, L1, L2 and bitmaps, is in one list. */
  dirtyBlocks: SliceList = changetype<SliceList>(0);
  dirtyTable: SliceList = changetype<SliceList>(0);
  dirtyMappings: SliceList = changetype<SliceList>(0);
  /** Copies that wait for their phase. */
  stagedTable: SliceList = changetype<SliceList>(0);
  stagedMappings: SliceList = changetype<SliceList>(0);
  staging: usize = 0;
  stagingSlots: u32 = 0;
  /** Stack of free slots of the staging area: addresses. */
  freeSlots: usize = 0;
  freeSlotCount: u32 = 0;
  phase: Phase = Phase.Idle;
  /** The header says durably that refcounts on disk may be behind. */
  lazy: bool = false;
  /** Somebody who waits for the next pass needs the refcounts on disk. */
  exact: bool = false;
  /** The guest has flushed: lazy refcounts would pay. */
  guestFlushed: bool = false;
  /** The running pass leaves refcount blocks and refcount table as they are on disk. */
  skipsRefcounts: bool = false;
  /** Operations of this phase that the host has in hand. */
  outstanding: u32 = 0;
  /** Dirty slices of the running pass that are still to be staged or written: those that were dirty when it began. */
  remainingBlocks: u32 = 0;
  remainingTable: u32 = 0;
  remainingMappings: u32 = 0;
  /** First failure of the running pass. */
  failed: Status = Status.Ok;
  failedStructure: u32 = 0;
  failedOperation: u32 = 0;
  failedOffset: u64 = 0;
  /** Clusters that lost a reference: see dropped-clusters.ts. */
  dropped: RunList = changetype<RunList>(0);
  settling: RunList = changetype<RunList>(0);
  reclaimable: RunList = changetype<RunList>(0);
  /** The file is not told of clusters that become free as the guest wants it, or otherwise. */
  quietRequest: bool = false;
  quietOther: bool = false;
  /** Requests that wait for room in `dropped`. */
  dropWaiters: WaitList = changetype<WaitList>(0);
  /** Something that mappings rely on was written since the last flush was handed to the host: data, tables, refcounts. */
  unflushed: bool = false;
  /** Mappings were. What comes behind them in a pass, more mappings, does not rely on them. */
  mappingsUnflushed: bool = false;
  /** A flush failed: nobody knows what is on disk, so nothing is written any more. */
  broken: bool = false;
  /** Passes that ended, for the statistics. */
  passes: u64 = 0;
}

/** Divides the staging area when the slice size is known. */
export function openStaging(order: WriteOrder): void {
  const sliceBits = order.cache.sliceBits;
  order.stagingSlots = min(STAGING_LENGTH >> sliceBits, STAGING_MAXIMUM);
  order.freeSlotCount = 0;
  for (let index: u32 = 0; index < order.stagingSlots; index++) {
    giveSlot(order, order.staging + (usize(index) << sliceBits));
  }
}

/** A slice was changed. Callers change it only after everything that may miss is resident. */
export function markDirty(order: WriteOrder, slice: TableSlice): void {
  slice.linear = 0;
  if (slice.dirty) return;
  slice.dirty = true;
  order.cache.dirtyCount++;
  append(dirtyList(order, slice), slice);
}

/** Parks `waiter` until everything that ended before now is durable; its outcome is Miss then, or the failure. */
export function requestFlush(order: WriteOrder, waiter: Waiter): void {
  order.exact = true;
  park(order, waiter);
}

/** As `requestFlush` for a guest: what it has written survives a crash; with lazy refcounts, after a repair. */
export function requestGuestFlush(order: WriteOrder, waiter: Waiter): void {
  order.guestFlushed = true;
  park(order, waiter);
}

function park(order: WriteOrder, waiter: Waiter): void {
  waiter.outcome = Status.Miss;
  push(order.waiting, waiter);
  if (order.phase === Phase.Idle) beginPass(order);
}

/** Makes dirty slices clean because the cache is full of them. */
export function relievePressure(order: WriteOrder): void {
  const cache = order.cache;
  cache.wantsWriteOut = false;
  if (order.broken) {
    failAll(order.dropWaiters, cache.ready, Status.Broken, Structure.File, 0, NO_OPERATION);
    // Nothing is written any more: who only reads has to do with the slices that there are now.
    if (cache.stalled) wakeSlotWaiters(cache);
    else failAll(cache.slotWaiters, cache.ready, Status.Broken, Structure.File, 0, NO_OPERATION);
    cache.stalled = false;
  } else if (order.phase === Phase.Idle) beginPass(order);
}

/** Whether so much is dirty that writing it out should begin before somebody has to wait for it. */
export function isUnderPressure(order: WriteOrder): bool {
  if (order.cache.wantsWriteOut) return true;
  // After a failure only somebody who waits makes it worth a new try.
  if (order.cache.stalled) return false;
  if (isMostlyDirty(order.cache)) return true;
  // Without a flush nothing that was dropped would ever be free.
  return order.dropped.count * 2 > RUN_CAPACITY && canSettle(order);
}

/**
 * Notes that the tables no longer refer to `count` clusters from `cluster` on (once less each). The caller has made sure
 * of room with `needRoom` before its commit.
 */
export function dropClusters(order: WriteOrder, cluster: u64, count: u64): void {
  addRun(order.dropped, cluster, count, order.quietOther);
}

/** As `dropClusters`, of one cluster to which `references` entries refer no longer. */
export function dropReferences(order: WriteOrder, cluster: u64, references: u32): void {
  addReferences(order.dropped, cluster, 1, order.quietOther, references);
}

/** As `dropClusters`, of what the guest has discarded. */
export function dropDiscarded(order: WriteOrder, cluster: u64, count: u64): void {
  addRun(order.dropped, cluster, count, order.quietRequest);
}

/** False, with `waiter` parked, when nothing more can be dropped before some of it is settled. */
export function needRoom(order: WriteOrder, waiter: Waiter): bool {
  if (hasRoom(order.dropped)) return true;
  waiter.outcome = Status.Miss;
  push(order.dropWaiters, waiter);
  order.cache.wantsWriteOut = true;
  return false;
}

/** Nothing is on its way to being free. */
export function isSettled(order: WriteOrder): bool {
  return order.dropped.count + order.settling.count + order.reclaimable.count === 0;
}

function canSettle(order: WriteOrder): bool {
  return order.phase === Phase.Idle && order.settling.count === 0 && order.reclaimable.count === 0;
}

/**
 * A flush failed that somebody else had asked for. It stands for the whole file: what a running pass has written may be
 * lost with it, so the pass fails too, whatever its own flushes say.
 */
export function noteFailedFlush(order: WriteOrder, status: Status, operation: u32): void {
  order.broken = true;
  if (order.phase !== Phase.Idle) noteFailure(order, status, Structure.File, 0, operation);
}

/** An operation of the write-out ended. `slice` is null for a flush. */
export function completeWriteOut(order: WriteOrder, slice: TableSlice | null, status: Status, operation: u32): void {
  order.outstanding--;
  if (slice === null) {
    if (status !== Status.Ok) {
      // After a failed flush the host may have dropped what it could not write: a later success would prove nothing.
      order.broken = true;
      noteFailure(order, status, Structure.File, 0, operation);
    }
  } else {
    if (isMapping(slice)) order.mappingsUnflushed = true;
    else order.unflushed = true;
    giveSlot(order, slice.staged);
    slice.staged = 0;
    slice.writing = false;
    if (status !== Status.Ok) {
      markDirty(order, slice);
      noteFailure(order, status, structureOf(slice.kind), slice.hostOffset, operation);
    }
  }
  if (order.phase === Phase.WriteBlocks && order.failed === Status.Ok) writeBlocks(order);
  if (order.outstanding === 0) advance(order);
}

function noteFailure(order: WriteOrder, status: Status, structure: u32, hostOffset: u64, operation: u32): void {
  if (order.failed !== Status.Ok) return;
  order.failed = status;
  order.failedStructure = structure;
  order.failedOffset = hostOffset;
  order.failedOperation = operation;
}

/** Takes what is dirty now as the work of one pass, which may need several rounds. */
function beginPass(order: WriteOrder): void {
  moveAll(order.waiting, order.serving);
  order.skipsRefcounts = order.lazy && !order.exact && maySkipRefcounts(order);
  order.exact = false;
  if (order.broken) {
    failAll(order.serving, order.cache.ready, Status.Broken, Structure.File, 0, NO_OPERATION);
    return;
  }
  order.failed = Status.Ok;
  if (order.settling.count === 0 && order.reclaimable.count === 0) {
    moveRuns(order.dropped, order.settling);
    moveAll(order.dropWaiters, order.cache.ready);
  }
  order.remainingBlocks = order.dirtyBlocks.count;
  order.remainingTable = order.skipsRefcounts ? 0 : order.dirtyTable.count;
  order.remainingMappings = order.dirtyMappings.count;
  beginRound(order);
}

/** A pass for the guest, in a cache that has room for the refcounts that stay dirty. */
function maySkipRefcounts(order: WriteOrder): bool {
  const cache = order.cache;
  if (isEmpty(order.serving) || !isEmpty(cache.slotWaiters)) return false;
  return (order.dirtyBlocks.count + order.dirtyTable.count) * 4 <= cache.count;
}

function beginRound(order: WriteOrder): void {
  // The copies first: whatever they contain has its refcount in a block that is written in this same round. Mappings
  // only when every changed table entry goes ahead of them: a block that the table does not name yet counts nothing.
  const skips = order.skipsRefcounts;
  if (!skips) stage(order, order.dirtyTable, order.stagedTable, order.dirtyTable.count);
  order.remainingTable -= min(order.remainingTable, order.stagedTable.count);
  if (skips || order.dirtyTable.count === 0) {
    stage(order, order.dirtyMappings, order.stagedMappings, order.remainingMappings);
    order.remainingMappings -= order.stagedMappings.count;
  }
  order.remainingBlocks = skips ? 0 : order.dirtyBlocks.count;
  order.phase = Phase.WriteBlocks;
  writeBlocks(order);
  if (order.outstanding === 0) advance(order);
}

/** The phase has nothing in flight any more: go on with the next one that has something to do. */
function advance(order: WriteOrder): void {
  while (order.outstanding === 0) {
    if (order.failed !== Status.Ok) return abandon(order);
    switch (order.phase) {
      case Phase.WriteBlocks:
        order.phase = Phase.FlushBlocks;
        if (order.unflushed && order.stagedTable.count + order.stagedMappings.count !== 0) handOutFlush(order);
        break;
      case Phase.FlushBlocks:
        order.phase = Phase.WriteTable;
        writeStaged(order, order.stagedTable);
        break;
      case Phase.WriteTable:
        order.phase = Phase.FlushTable;
        if (order.unflushed && order.stagedMappings.count !== 0) handOutFlush(order);
        break;
      case Phase.FlushTable:
        order.phase = Phase.WriteMappings;
        writeStaged(order, order.stagedMappings);
        break;
      case Phase.WriteMappings:
        if (order.remainingTable !== 0 || order.remainingMappings !== 0) return beginRound(order);
        order.phase = Phase.LastFlush;
        if (!isEmpty(order.serving) || order.settling.count !== 0) {
          if (order.unflushed || order.mappingsUnflushed) handOutFlush(order);
        }
        break;
      default:
        return finishPass(order);
    }
  }
}

function finishPass(order: WriteOrder): void {
  order.phase = Phase.Idle;
  order.passes++;
  order.cache.stalled = false;
  moveRuns(order.settling, order.reclaimable);
  moveAll(order.serving, order.cache.ready);
  wakeSlotWaiters(order.cache);
  if (!isEmpty(order.waiting)) beginPass(order);
}

/** Something could not be written. Copies become dirty again; everyone who waits for this pass fails with it. */
function abandon(order: WriteOrder): void {
  unstage(order, order.stagedTable);
  unstage(order, order.stagedMappings);
  moveRuns(order.settling, order.dropped);
  order.phase = Phase.Idle;
  order.cache.stalled = true;
  const ready = order.cache.ready;
  failAll(order.serving, ready, order.failed, order.failedStructure, order.failedOffset, order.failedOperation);
  failAll(
    order.cache.slotWaiters,
    ready,
    order.failed,
    order.failedStructure,
    order.failedOffset,
    order.failedOperation,
  );
  failAll(order.dropWaiters, ready, order.failed, order.failedStructure, order.failedOffset, order.failedOperation);
  if (!isEmpty(order.waiting)) beginPass(order);
}

/** Copies up to `limit` dirty slices while there are slots; a quarter of the slots is left for refcount blocks. */
function stage(order: WriteOrder, dirty: SliceList, staged: SliceList, limit: u32): void {
  const keep = order.stagingSlots >> 2;
  while (limit > 0 && order.freeSlotCount > keep) {
    const slice = copyOut(order, detach(dirty));
    slice.stagedNext = staged.head;
    staged.head = slice;
    staged.count++;
    limit--;
  }
}

function writeBlocks(order: WriteOrder): void {
  while (order.remainingBlocks > 0 && order.freeSlotCount > 0) {
    const slice = copyOut(order, detach(order.dirtyBlocks));
    order.remainingBlocks--;
    writeSlice(order, slice);
  }
}

function writeStaged(order: WriteOrder, staged: SliceList): void {
  while (staged.count > 0) writeSlice(order, takeStaged(staged));
}

function writeSlice(order: WriteOrder, slice: TableSlice): void {
  order.outstanding++;
  const length = u32(1) << order.cache.sliceBits;
  writeModule(order.operations, Owner.WriteOut, changetype<usize>(slice), slice.hostOffset, slice.staged, length);
}

function handOutFlush(order: WriteOrder): void {
  order.unflushed = false;
  order.mappingsUnflushed = false;
  order.outstanding++;
  flush(order.operations, Owner.WriteOut, 0);
}

/** Takes the bytes of a dirty slice as they are now; the slice may change again from here on. */
function copyOut(order: WriteOrder, slice: TableSlice): TableSlice {
  order.freeSlotCount--;
  slice.staged = load<usize>(order.freeSlots + usize(order.freeSlotCount) * sizeof<usize>());
  memory.copy(slice.staged, slice.data, usize(1) << order.cache.sliceBits);
  slice.dirty = false;
  slice.writing = true;
  order.cache.dirtyCount--;
  return slice;
}

function unstage(order: WriteOrder, staged: SliceList): void {
  while (staged.count > 0) {
    const slice = takeStaged(staged);
    giveSlot(order, slice.staged);
    slice.staged = 0;
    slice.writing = false;
    markDirty(order, slice);
  }
}

/** Copies have a link of their own: their slice may be dirty again, and in the list of the dirty ones. */
function takeStaged(staged: SliceList): TableSlice {
  const slice = staged.head as TableSlice;
  staged.head = slice.stagedNext;
  slice.stagedNext = null;
  staged.count--;
  return slice;
}

function giveSlot(order: WriteOrder, address: usize): void {
  store<usize>(order.freeSlots + usize(order.freeSlotCount) * sizeof<usize>(), address);
  order.freeSlotCount++;
}

function isMapping(slice: TableSlice): bool {
  return slice.kind !== u8(TableKind.RefcountBlock) && slice.kind !== u8(TableKind.RefcountTable);
}

function dirtyList(order: WriteOrder, slice: TableSlice): SliceList {
  if (slice.kind === u8(TableKind.RefcountBlock)) return order.dirtyBlocks;
  if (slice.kind === u8(TableKind.RefcountTable)) return order.dirtyTable;
  return order.dirtyMappings;
}

function append(list: SliceList, slice: TableSlice): void {
  slice.listNext = null;
  const tail = list.tail;
  if (tail === null) list.head = slice;
  else tail.listNext = slice;
  list.tail = slice;
  list.count++;
}

function detach(list: SliceList): TableSlice {
  const slice = list.head as TableSlice;
  list.head = slice.listNext;
  if (list.head === null) list.tail = null;
  slice.listNext = null;
  list.count--;
  return slice;
}
