/**
 * One cache for every table of the image: L1, L2, refcount table and refcount blocks, in slices of at most 4 KiB.
 * Its size is an option of the host; nothing that an image claims can make it larger.
 *
 * A slice is identified by its host offset alone. Two tables that claim the same bytes meet here, and the second is
 * refused: no image can make the engine change a table through another one.
 *
 * Replacement is the clock algorithm. Pinned, loading, dirty and staged slices stay; when nothing else is left, the
 * waiter parks and the write-out makes slices clean.
 */

import { Failure, Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { failAll, isEmpty, moveAll, push, Waiter, WaitList } from '../base/wait-list';
import { Operations, Owner, readModule } from '../block';

/** What a slice belongs to; also decides in which phase of the write-out it is written. */
export enum TableKind {
  RefcountBlock = 0,
  RefcountTable = 1,
  L2 = 2,
  L1 = 3,
  /** Only ever read. */
  SnapshotTable = 4,
  BitmapDirectory = 8,
  BitmapTable = 9,
  BitmapBits = 10,
}

export enum SliceState {
  Empty = 0,
  Loading = 1,
  Valid = 2,
}

/** A resident piece of a table, 64 bytes. */
@unmanaged
export class TableSlice {
  /** Bytes from the start of the file; a multiple of the slice size. */
  hostOffset: u64 = 0;
  /** Address of the bytes. */
  data: usize = 0;
  hashNext: TableSlice | null = null;
  /** Link in a list of dirty slices. */
  listNext: TableSlice | null = null;
  /** Link in the write-out's list of copies that wait for their phase. */
  stagedNext: TableSlice | null = null;
  /** Address of the copy that the write-out is writing. */
  staged: usize = 0;
  waiters: WaitList = changetype<WaitList>(0);
  kind: u8 = 0;
  state: u8 = 0;
  dirty: bool = false;
  writing: bool = false;
  recent: bool = false;
  pins: u32 = 0;
  waitHead: usize = 0;
  waitTail: usize = 0;
  /** What image/linear.ts has found out about the entries as they are now; 0 when nothing. */
  linear: u64 = 0;
}

@unmanaged
export class TableCache {
  operations: Operations = changetype<Operations>(0);
  failure: Failure = changetype<Failure>(0);
  /** Where woken requests go. */
  ready: WaitList = changetype<WaitList>(0);
  /** Requests that wait for any slice to become free. */
  slotWaiters: WaitList = changetype<WaitList>(0);
  slices: usize = 0;
  data: usize = 0;
  buckets: usize = 0;
  bucketMask: u32 = 0;
  count: u32 = 0;
  hand: u32 = 0;
  sliceBits: u32 = 0;
  /** Dirty slices of all kinds. */
  dirtyCount: u32 = 0;
  /** Set when a request waits and only a write-out can help. */
  wantsWriteOut: bool = false;
  /** The last write-out failed: nobody tries again before somebody waits for it. */
  stalled: bool = false;
  hits: u64 = 0;
  misses: u64 = 0;
  evictions: u64 = 0;
}

const SLICE_RECORD_SIZE: usize = 64;

/** Bytes that one slice of `sliceSize` bytes takes in all: data, record and two hash buckets. */
export function slotSize(sliceSize: u32): u32 {
  return sliceSize + u32(SLICE_RECORD_SIZE) + 8;
}

/** Divides `length` bytes at `address` into slices of 2^sliceBits bytes. */
export function openTableCache(cache: TableCache, address: usize, length: u32, sliceBits: u32): void {
  const sliceSize: u32 = 1 << sliceBits;
  const count: u32 = length / slotSize(sliceSize);
  let buckets: u32 = 1;
  while (buckets * 2 <= count) buckets *= 2;
  cache.sliceBits = sliceBits;
  cache.count = count;
  cache.hand = 0;
  cache.data = address;
  cache.slices = address + (usize(count) << sliceBits);
  cache.buckets = cache.slices + usize(count) * SLICE_RECORD_SIZE;
  cache.bucketMask = buckets - 1;
  for (let index: u32 = 0; index < count; index++) {
    const slice = sliceAt(cache, index);
    slice.data = cache.data + (usize(index) << sliceBits);
    slice.waiters = changetype<WaitList>(changetype<usize>(slice) + offsetof<TableSlice>('waitHead'));
  }
}

/**
 * The slice that holds byte `hostOffset` of a table of kind `kind`. Null when the waiter must stop: then
 * `waiter.outcome` is Miss (parked, start the step over later) or the failure to end with.
 */
export function needSlice(cache: TableCache, kind: TableKind, hostOffset: u64, waiter: Waiter): TableSlice | null {
  const offset = (hostOffset >> cache.sliceBits) << cache.sliceBits;
  const found = findSlice(cache, offset);
  if (found !== null) {
    if (found.kind !== u8(kind)) {
      waiter.outcome = refuse(
        cache.failure,
        Status.Corrupt,
        structureOf(kind),
        Field.Overlap,
        offset,
        u64(structureOf(found.kind)),
        0,
      );
      return null;
    }
    if (found.state === u8(SliceState.Valid)) {
      found.recent = true;
      cache.hits++;
      return found;
    }
    push(found.waiters, waiter);
    waiter.outcome = Status.Miss;
    return null;
  }
  const slice = takeSlot(cache, waiter);
  if (slice === null) return null;
  insert(cache, slice, kind, offset);
  slice.state = u8(SliceState.Loading);
  cache.misses++;
  push(slice.waiters, waiter);
  waiter.outcome = Status.Miss;
  readModule(cache.operations, Owner.Load, changetype<usize>(slice), offset, slice.data, u32(1) << cache.sliceBits);
  return null;
}

/** As `needSlice`, for who only looks: a resident slice will do whatever table it was loaded for. */
export function viewSlice(cache: TableCache, kind: TableKind, hostOffset: u64, waiter: Waiter): TableSlice | null {
  const found = findSlice(cache, (hostOffset >> cache.sliceBits) << cache.sliceBits);
  return needSlice(cache, found === null ? kind : i32(found.kind), hostOffset, waiter);
}

/** The slice that holds byte `hostOffset`, when it is resident and of that kind; nobody is parked for it. */
export function peekSlice(cache: TableCache, kind: TableKind, hostOffset: u64): TableSlice | null {
  const slice = findSlice(cache, (hostOffset >> cache.sliceBits) << cache.sliceBits);
  if (slice === null || slice.kind !== u8(kind) || slice.state !== u8(SliceState.Valid)) return null;
  slice.recent = true;
  cache.hits++;
  return slice;
}

/** A load ended: everyone who waits for it starts over, or fails with it. */
export function completeLoad(cache: TableCache, slice: TableSlice, status: Status, operation: u32): void {
  if (status === Status.Ok) {
    slice.state = u8(SliceState.Valid);
    slice.recent = true;
    moveAll(slice.waiters, cache.ready);
  } else {
    remove(cache, slice);
    failAll(slice.waiters, cache.ready, status, structureOf(slice.kind), slice.hostOffset, operation);
  }
  wakeSlotWaiters(cache);
}

/** The resident slice at exactly `offset`, loading ones included. */
export function findSlice(cache: TableCache, offset: u64): TableSlice | null {
  let slice = load<TableSlice | null>(bucketOf(cache, offset));
  while (slice !== null) {
    if (slice.hostOffset === offset) return slice;
    slice = slice.hashNext;
  }
  return null;
}

/** Keeps a slice resident until `unpin`. */
export function pin(slice: TableSlice): void {
  slice.pins++;
}

export function unpin(cache: TableCache, slice: TableSlice): void {
  slice.pins--;
  if (slice.pins === 0) wakeSlotWaiters(cache);
}

/**
 * Takes a `pin` of the same step back. Whoever parked meanwhile is that very step: waking it for a slot that it could
 * not have would start it over for ever.
 */
export function undoPin(slice: TableSlice): void {
  slice.pins--;
}

/** Forgets the clean, unused slices of a table that has moved elsewhere. */
export function dropSlices(cache: TableCache, hostOffset: u64, length: u64): void {
  const size = u64(1) << cache.sliceBits;
  for (let offset = hostOffset; offset < hostOffset + length; offset += size) {
    const slice = findSlice(cache, offset);
    if (slice !== null && slice.pins === 0 && !slice.dirty && !slice.writing && slice.state === u8(SliceState.Valid)) {
      remove(cache, slice);
    }
  }
}

/** Forgets every clean, unused slice. */
export function dropAllSlices(cache: TableCache): void {
  for (let index: u32 = 0; index < cache.count; index++) {
    const slice = sliceAt(cache, index);
    if (slice.state === u8(SliceState.Valid) && slice.pins === 0 && !slice.dirty && !slice.writing)
      remove(cache, slice);
  }
}

/** So few slices are left for everybody that the dirty ones should be written. */
export function isMostlyDirty(cache: TableCache): bool {
  return cache.dirtyCount * 4 > cache.count * 3;
}

export function wakeSlotWaiters(cache: TableCache): void {
  if (!isEmpty(cache.slotWaiters)) moveAll(cache.slotWaiters, cache.ready);
}

export function structureOf(kind: u32): Structure {
  if (kind === TableKind.L1) return Structure.L1Table;
  if (kind === TableKind.L2) return Structure.L2Table;
  if (kind === TableKind.RefcountTable) return Structure.RefcountTable;
  if (kind === TableKind.SnapshotTable) return Structure.SnapshotTable;
  if (kind === TableKind.BitmapDirectory) return Structure.BitmapDirectory;
  if (kind === TableKind.BitmapTable) return Structure.BitmapTable;
  if (kind === TableKind.BitmapBits) return Structure.BitmapBits;
  return Structure.RefcountBlock;
}

function sliceAt(cache: TableCache, index: u32): TableSlice {
  return changetype<TableSlice>(cache.slices + usize(index) * SLICE_RECORD_SIZE);
}

function bucketOf(cache: TableCache, offset: u64): usize {
  const key = u32(offset >> cache.sliceBits) ^ u32(offset >> (cache.sliceBits + 20));
  return cache.buckets + (usize((key * 0x9e3779b1) >> 7) & cache.bucketMask) * sizeof<usize>();
}

/** A slot whose slice may be forgotten, emptied; null when the waiter has to wait for one. */
function takeSlot(cache: TableCache, waiter: Waiter): TableSlice | null {
  // In what a failed write-out has left, the slices that one step needs could push each other out for ever.
  const rounds: u32 = cache.stalled && isMostlyDirty(cache) ? 0 : 2;
  // Two rounds: the first one may only clear the marks of recent use.
  for (let tries: u32 = cache.count * rounds; tries > 0; tries--) {
    const slice = sliceAt(cache, cache.hand);
    cache.hand = cache.hand + 1 === cache.count ? 0 : cache.hand + 1;
    if (slice.state === u8(SliceState.Empty)) return slice;
    if (slice.state === u8(SliceState.Loading) || slice.pins !== 0 || slice.dirty || slice.writing) continue;
    if (slice.recent) {
      slice.recent = false;
      continue;
    }
    remove(cache, slice);
    cache.evictions++;
    return slice;
  }
  push(cache.slotWaiters, waiter);
  waiter.outcome = Status.Miss;
  cache.wantsWriteOut = cache.dirtyCount !== 0;
  return null;
}

function insert(cache: TableCache, slice: TableSlice, kind: TableKind, offset: u64): void {
  const bucket = bucketOf(cache, offset);
  slice.hostOffset = offset;
  slice.kind = u8(kind);
  slice.dirty = false;
  slice.writing = false;
  slice.recent = true;
  slice.pins = 0;
  slice.linear = 0;
  slice.hashNext = load<TableSlice | null>(bucket);
  store<TableSlice>(bucket, slice);
}

function remove(cache: TableCache, slice: TableSlice): void {
  const bucket = bucketOf(cache, slice.hostOffset);
  let current = load<TableSlice | null>(bucket);
  let previous: TableSlice | null = null;
  while (current !== null && current !== slice) {
    previous = current;
    current = current.hashNext;
  }
  if (previous === null) store<TableSlice | null>(bucket, slice.hashNext);
  else previous.hashNext = slice.hashNext;
  slice.hashNext = null;
  slice.state = u8(SliceState.Empty);
}
