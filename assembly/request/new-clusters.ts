/**
 * New host clusters for guest clusters that cannot be written in place: nothing is allocated there, they only are
 * marked as zeros, a snapshot shares them, or they are compressed.
 *
 *   Plan ── clusters allocated ──▶ Edges ── what surrounds the new bytes is read ──▶ Link ── written ──▶ entries changed
 *
 * What surrounds them in the first and the last cluster, the head and the tail, goes through a scratch buffer of the
 * host unless it is zeros. The old clusters lose a reference when the entries are changed, and not before that is
 * durable does anybody lower their refcounts.
 */

import { ConfigurationFlag } from '../abi/configuration';
import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { BufferSpace } from '../abi/operation';
import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { moveAll, push } from '../base/wait-list';
import { decompress, readBacking, readScratch, writeScratch } from '../block';
import { needSlice, pin, TableKind, TableSlice, undoPin, unpin } from '../cache/table-cache';
import { dropClusters, markDirty, needRoom } from '../cache/write-order';
import { makeDataEntry, makeZeroEntry } from '../format/l2-entry';
import { withAllocated } from '../format/l2-subclusters';
import { abandonOwnership } from '../image/abandon';
import { allocateClusters, releaseClusters } from '../image/allocate';
import { clusterStart, Image } from '../image/image';
import { checkTableOverlap, needNoTableForData } from '../image/overlap';
import { giveScratch, needScratch, takeScratch } from '../image/scratch';
import { TASK_OPERATIONS, Task } from '../image/task';
import { isAboutVmState } from '../image/vm-state';

/** `Task.stage` of a request that writes. */
export enum Stage {
  Plan = 0,
  /** Clusters are there; head and tail are being read. */
  Edges = 1,
  /** Data for new clusters is on its way; the entries follow. */
  Link = 2,
  /** Everything is written and linked; a durable write waits for its flush. */
  Durable = 3,
}

/** Whether the run that `mapRun` has found reads as something else than zeros. */
export function hasContents(image: Image): bool {
  const kind = image.run.kind;
  if (kind === ExtentKind.Unallocated || kind === ExtentKind.Reserved) return image.hasBacking;
  return kind === ExtentKind.Data || kind === ExtentKind.Compressed;
}

/** Refuses by name what this host cannot copy: the run of the task's cursor, should it be written. */
export function checkCopy(image: Image, task: Task): Status {
  const run = image.run;
  const compressed = run.kind === ExtentKind.Compressed;
  const mask = (u64(1) << (compressed ? image.geometry.clusterBits : image.geometry.subclusterBits)) - 1;
  const partial = (task.cursor & mask) !== 0 || ((task.cursor + run.length) & mask) !== 0;
  if (!unsharesFirst(image) && (!partial || !hasContents(image))) return Status.Ok;
  const flags = image.configuration.flags;
  const canRead = !compressed || (flags & ConfigurationFlag.Decompresses) !== 0;
  if ((flags & ConfigurationFlag.Scratch) !== 0 && canRead) return Status.Ok;
  const field = compressed ? Field.Compression : Field.Refcount;
  refuse(image.failure, Status.Unsupported, Structure.DataCluster, field, run.hostOffset, 0, 0);
  image.failure.guestOffset = task.cursor;
  return Status.Unsupported;
}

/** A cluster of subclusters that is shared is copied as it is first: parts of it may be anything. */
function unsharesFirst(image: Image): bool {
  const kind = image.run.kind;
  if (!image.geometry.extended || image.run.copied || image.hasDataFile) return false;
  return kind === ExtentKind.Data || kind === ExtentKind.ZeroAllocated || kind === ExtentKind.Reserved;
}

/** Another request is filling one of these clusters: it links first, then this one looks again. True when parked. */
export function waitForAllocation(image: Image, task: Task): bool {
  const start = clusterStart(image, task.cursor);
  const end = task.cursor + image.run.length;
  let other = image.allocating;
  while (other !== null) {
    if (other.allocatingStart < end && start < other.allocatingEnd) {
      image.waits++;
      push(other.followers, task);
      task.outcome = Status.Miss;
      return true;
    }
    other = other.allocatingNext;
  }
  return false;
}

/**
 * Takes host clusters for the run at the task's cursor, reserved ones or new ones, and begins to read what surrounds the
 * bytes up to `newEnd`. Ok when the task is in the stage Edges: when it has a scratch buffer, the caller writes as soon as
 * nothing is outstanding any more, else at once.
 */
export function takeNewClusters(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const run = image.run;
  const clusterSize = u64(geometry.clusterSize);
  const start = clusterStart(image, task.cursor);
  const place = checkTableOverlap(image, run.sliceOffset, u64(1) << geometry.sliceBits);
  if (place !== Status.Ok) return place;
  const slice = needSlice(image.cache, TableKind.L2, run.sliceOffset, task);
  if (slice === null) return task.outcome;
  const kind = run.kind;
  const unshares = unsharesFirst(image);
  const copies = hasContents(image) || unshares;
  const runEnd = task.cursor + run.length;
  const sliceIndex = run.sliceIndex;
  const oldOffset = run.hostOffset;
  const compressedLength = run.compressedLength;
  const drops = kind !== ExtentKind.Unallocated && kind !== ExtentKind.ZeroPlain;
  // In a data file every cluster has its place, and nobody counts it.
  const fixed = image.hasDataFile;
  const reserved = kind === ExtentKind.ZeroAllocated || kind === ExtentKind.Reserved;
  const fresh = !fixed && (!reserved || !run.copied);
  let count = unshares ? 1 : u32((runEnd - start + clusterSize - 1) >> geometry.clusterBits);
  if (drops) {
    // Reserved clusters are written to, others may become free: a table must not be among them, whatever an entry says.
    const length = kind === ExtentKind.Compressed ? u64(1) : u64(count) << geometry.clusterBits;
    const offset = kind === ExtentKind.Compressed ? oldOffset : oldOffset - (task.cursor - start);
    const status = needNoTableForData(image, task, offset, length);
    if (status !== Status.Ok) return status;
  }
  if (copies) {
    if (task.outstanding > TASK_OPERATIONS - EDGE_OPERATIONS) return Status.Miss;
    if (!needScratch(image, task)) return Status.Miss;
  }
  let hostOffset = fixed ? start : oldOffset - (task.cursor - start);
  if (fresh) {
    // The slice must survive what the allocation loads.
    pin(slice);
    const status = allocateClusters(image, task, count);
    undoPin(slice);
    if (status !== Status.Ok) return status;
    hostOffset = image.allocatedOffset;
    count = image.allocatedCount;
  }

  pin(slice);
  task.slice = slice;
  task.sliceIndex = sliceIndex;
  task.clusterCount = count;
  task.hostOffset = hostOffset;
  task.fresh = fresh;
  task.virgin = fresh && image.allocatedVirgin;
  task.stage = Stage.Edges;
  task.allocatingStart = start;
  task.allocatingEnd = start + (u64(count) << geometry.clusterBits);
  task.allocatingNext = image.allocating;
  image.allocating = task;
  task.dropCount = 0;
  task.unshares = unshares;
  setEdges(image, task, kind, runEnd);
  if (fresh && drops) noteDropped(image, task, kind, oldOffset, compressedLength);
  if (copies) readEdges(image, task, kind, oldOffset, compressedLength);
  return Status.Ok;
}

/** What is written: whole clusters, or with extended L2 entries only the subclusters that the new bytes touch. */
function setEdges(image: Image, task: Task, kind: u32, runEnd: u64): void {
  task.newEnd = min(runEnd, task.allocatingEnd);
  task.edgeStart = task.allocatingStart;
  task.edgeEnd = task.allocatingEnd;
  if (!image.geometry.extended || kind === ExtentKind.Compressed || task.unshares) return;
  const mask = (u64(1) << image.geometry.subclusterBits) - 1;
  task.edgeStart = task.cursor & ~mask;
  task.edgeEnd = (task.newEnd + mask) & ~mask;
}

/** Where in the file the first of the bytes goes that are written. */
export function writeOffset(task: Task): u64 {
  return task.hostOffset + (task.edgeStart - task.allocatingStart);
}

/** Bytes that are written ahead of the new bytes. */
export function headLength(task: Task): u32 {
  return u32(task.cursor - task.edgeStart);
}

/** Bytes that are written behind the new bytes. */
export function tailLength(task: Task): u32 {
  return u32(task.edgeEnd - task.newEnd);
}

/**
 * The data is written: the entries make it visible, and become durable after it, by the write-out. Miss when the old
 * clusters cannot be noted yet.
 */
export function linkNewClusters(image: Image, task: Task): Status {
  if (task.dropCount !== 0) {
    if (!needRoom(image.order, task)) return Status.Miss;
    dropClusters(image.order, task.dropCluster, task.dropCount);
    task.dropCount = 0;
  }
  const slice = task.slice as TableSlice;
  for (let index: u32 = 0; index < task.clusterCount; index++) {
    const address = slice.data + (usize(task.sliceIndex + index) << image.geometry.l2EntryBits);
    const entry = makeDataEntry(task.hostOffset + (u64(index) << image.geometry.clusterBits));
    storeU64(address, task.keepsZero ? makeZeroEntry(entry) : entry);
    if (image.geometry.extended && !task.unshares && !task.reserves)
      allocateSubclusters(image, task, address + 8, index);
  }
  markDirty(image.order, slice);
  leave(image, task);
  return Status.Ok;
}

/** Marks what was written of cluster `index` in the bitmap at `address`. */
function allocateSubclusters(image: Image, task: Task, address: usize, index: u32): void {
  const bits = image.geometry.subclusterBits;
  const start = task.allocatingStart + (u64(index) << image.geometry.clusterBits);
  const first = u32((max(start, task.edgeStart) - start) >> bits);
  const end = u32((min(start + image.geometry.clusterSize, task.edgeEnd) - start) >> bits);
  storeU64(address, withAllocated(loadU64(address), first, end));
}

/** A failed request gives back what it holds. Miss while a refcount is being loaded: call again. */
export function abandonNewClusters(image: Image, task: Task): Status {
  const status = abandonOwnership(image, task);
  if (status === Status.Miss) return status;
  if (task.stage !== Stage.Edges && task.stage !== Stage.Link) return Status.Ok;
  if (task.fresh && !task.leak) {
    const status = releaseClusters(image, task, task.hostOffset, task.clusterCount);
    if (status === Status.Miss) return status;
  }
  leave(image, task);
  return Status.Ok;
}

/** Writes the copy of a cluster that was shared; the request goes on with it when it is linked. */
export function writeUnshared(image: Image, task: Task): void {
  task.stage = Stage.Link;
  task.outstanding++;
  const length = image.geometry.clusterSize;
  writeScratch(image.operations, changetype<usize>(task), task.scratch - 1, task.hostOffset, 0, length);
}

/** Operations that read the edges, at most. */
const EDGE_OPERATIONS: u32 = 2;

/** A compressed cluster refers to all clusters that its sectors touch. */
function noteDropped(image: Image, task: Task, kind: u32, oldOffset: u64, compressedLength: u32): void {
  const bits = image.geometry.clusterBits;
  task.dropCluster = oldOffset >> bits;
  task.dropCount = task.clusterCount;
  if (kind !== ExtentKind.Compressed) return;
  task.dropCount = u32(((oldOffset + compressedLength - 1) >> bits) - task.dropCluster + 1);
}

/** Reads head and tail to the two ends of a scratch buffer; a compressed cluster as a whole to its second half. */
function readEdges(image: Image, task: Task, kind: u32, oldOffset: u64, compressedLength: u32): void {
  const head = headLength(task);
  const tail = tailLength(task);
  if (head === 0 && tail === 0 && !task.unshares) return;
  takeScratch(image, task);
  const clusterSize = image.geometry.clusterSize;
  const scratch = task.scratch - 1;
  const operations = image.operations;
  const owner = changetype<usize>(task);
  task.edgeOffset = 0;
  if (kind === ExtentKind.Compressed) {
    task.edgeOffset = clusterSize;
    task.outstanding++;
    const space = BufferSpace.Scratch;
    decompress(operations, owner, space, scratch, oldOffset, compressedLength, 0, clusterSize, clusterSize);
    return;
  }
  if (task.unshares) {
    task.outstanding++;
    readScratch(operations, owner, scratch, oldOffset - head, 0, clusterSize);
    return;
  }
  const tailOffset = clusterSize * 2 - tail;
  const end = task.newEnd;
  task.outstanding += u32(head !== 0) + u32(tail !== 0);
  if (kind === ExtentKind.Data) {
    const first = oldOffset - head;
    if (head !== 0) readScratch(operations, owner, scratch, first, 0, head);
    if (tail !== 0) readScratch(operations, owner, scratch, first + (end - task.edgeStart), tailOffset, tail);
    return;
  }
  const space = BufferSpace.Scratch;
  // What lies behind the image has no saved state of this one.
  const shown = isAboutVmState(task) ? 0 : head;
  if (head !== 0) readBacking(operations, owner, space, scratch, task.edgeStart, 0, shown, head - shown);
  if (tail === 0) return;
  // Behind the end of this disk there are zeros, however long the one behind it is: they show when it grows.
  const inside = u32(max(end, min(task.edgeEnd, image.virtualSize)) - end);
  readBacking(operations, owner, space, scratch, end, tailOffset, inside, tail - inside);
}

/** The task holds no clusters any more; who waited for them looks again. */
function leave(image: Image, task: Task): void {
  unpin(image.cache, task.slice as TableSlice);
  task.slice = null;
  task.stage = Stage.Plan;
  giveScratch(image, task);
  if (image.allocating === task) {
    image.allocating = task.allocatingNext;
  } else {
    let other = image.allocating as Task;
    while (other.allocatingNext !== task) other = other.allocatingNext as Task;
    other.allocatingNext = task.allocatingNext;
  }
  task.allocatingNext = null;
  moveAll(task.followers, image.ready);
}
