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
import { storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { moveAll, push } from '../base/wait-list';
import { decompress, readBacking, readScratch } from '../block';
import { needSlice, pin, TableKind, TableSlice, undoPin, unpin } from '../cache/table-cache';
import { dropClusters, markDirty, needRoom } from '../cache/write-order';
import { makeDataEntry } from '../format/l2-entry';
import { abandonOwnership } from '../image/abandon';
import { allocateClusters, releaseClusters } from '../image/allocate';
import { clusterStart, Image } from '../image/image';
import { checkDataOverlap, checkTableOverlap } from '../image/overlap';
import { giveScratch, needScratch, takeScratch } from '../image/scratch';
import { TASK_OPERATIONS, Task } from '../image/task';

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
  if (kind === ExtentKind.Unallocated) return image.hasBacking;
  return kind === ExtentKind.Data || kind === ExtentKind.Compressed;
}

/** Refuses by name what this host cannot copy: the run of the task's cursor, should it be written. */
export function checkCopy(image: Image, task: Task): Status {
  const run = image.run;
  const mask = u64(image.geometry.clusterSize) - 1;
  const partial = (task.cursor & mask) !== 0 || ((task.cursor + run.length) & mask) !== 0;
  if (!partial || !hasContents(image)) return Status.Ok;
  const flags = image.configuration.flags;
  const compressed = run.kind === ExtentKind.Compressed;
  const canRead = !compressed || (flags & ConfigurationFlag.Decompresses) !== 0;
  if ((flags & ConfigurationFlag.Scratch) !== 0 && canRead) return Status.Ok;
  const field = compressed ? Field.Compression : Field.Refcount;
  refuse(image.failure, Status.Unsupported, Structure.DataCluster, field, run.hostOffset, 0, 0);
  image.failure.guestOffset = task.cursor;
  return Status.Unsupported;
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
  const copies = hasContents(image);
  const sliceIndex = run.sliceIndex;
  const oldOffset = run.hostOffset;
  const compressedLength = run.compressedLength;
  const drops = kind !== ExtentKind.Unallocated && kind !== ExtentKind.ZeroPlain;
  // In a data file every cluster has its place, and nobody counts it.
  const fixed = image.hasDataFile;
  const fresh = !fixed && (kind !== ExtentKind.ZeroAllocated || !run.copied);
  let count = u32((task.cursor + run.length - start + clusterSize - 1) >> geometry.clusterBits);
  if (drops) {
    // Reserved clusters are written to, others may become free: a table must not be among them, whatever an entry says.
    const length = kind === ExtentKind.Compressed ? u64(1) : u64(count) << geometry.clusterBits;
    const offset = kind === ExtentKind.Compressed ? oldOffset : oldOffset - (task.cursor - start);
    const status = checkDataOverlap(image, offset, length);
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
  if (fresh && drops) noteDropped(image, task, kind, oldOffset, compressedLength);
  if (copies) readEdges(image, task, kind, oldOffset, compressedLength);
  return Status.Ok;
}

/** Where the new bytes end that the task has clusters for. */
export function newEnd(task: Task): u64 {
  return min(task.guestEnd, task.allocatingEnd);
}

/** Bytes of the first cluster ahead of the new bytes. */
export function headLength(task: Task): u32 {
  return u32(task.cursor - task.allocatingStart);
}

/** Bytes of the last cluster behind the new bytes. */
export function tailLength(task: Task): u32 {
  return u32(task.allocatingEnd - newEnd(task));
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
    storeU64(address, makeDataEntry(task.hostOffset + (u64(index) << image.geometry.clusterBits)));
  }
  markDirty(image.order, slice);
  leave(image, task);
  return Status.Ok;
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
  if (head === 0 && tail === 0) return;
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
  const tailOffset = clusterSize * 2 - tail;
  const end = newEnd(task);
  task.outstanding += u32(head !== 0) + u32(tail !== 0);
  if (kind === ExtentKind.Data) {
    const first = oldOffset - head;
    if (head !== 0) readScratch(operations, owner, scratch, first, 0, head);
    if (tail !== 0) readScratch(operations, owner, scratch, first + (end - task.allocatingStart), tailOffset, tail);
    return;
  }
  const space = BufferSpace.Scratch;
  if (head !== 0) readBacking(operations, owner, space, scratch, task.allocatingStart, 0, head, 0);
  if (tail === 0) return;
  // Behind the end of this disk there are zeros, however long the one behind it is: they show when it grows.
  const inside = u32(max(end, min(task.allocatingEnd, image.virtualSize)) - end);
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
