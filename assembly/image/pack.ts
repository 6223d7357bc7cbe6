/**
 * Host space for compressed clusters: they lie one behind the other, each from a sector on, and share host clusters. Every
 * compressed cluster is one reference to each host cluster that it touches.
 *
 * The cluster that is being filled is forgotten when its last reference goes, as soon as the file is asked to discard it
 * (`reclaim.ts`): its refcount still stands then. Also before a control verb that is alone with the image, which may change
 * refcounts by itself.
 */

import { Status } from '../abi/status';
import { pin, undoPin } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { loadRefcount, storeRefcount } from '../format/refcount-entry';
import { allocateClusters } from './allocate';
import { Image } from './image';
import { checkTableOverlap } from './overlap';
import { needRefcounts, refcountIndex } from './refcounts';
import { Task } from './task';

/**
 * Takes `length` bytes, whole sectors and at most a cluster: `image.packedOffset`. Refcounts are raised. Miss: the task
 * is parked and nothing has changed that a second start would do again.
 */
export function packBytes(image: Image, task: Task, length: u32): Status {
  const bits = image.geometry.clusterBits;
  const clusterSize = image.geometry.clusterSize;
  const offset = image.packOffset;
  if (offset === 0) return packIntoNew(image, task, length);
  const cluster = offset >> bits;
  const slice = needRefcounts(image, task, cluster);
  if (slice === null) return task.outcome === Status.Ok ? packIntoNew(image, task, length) : task.outcome;
  const index = refcountIndex(image, cluster);
  const refcount = loadRefcount(slice.data, index, image.geometry.refcountOrder);
  // Zero: it is free by now. The largest: nothing more can refer to it.
  if (refcount === 0 || refcount >= largestRefcount(image)) return packIntoNew(image, task, length);
  const place = checkTableOverlap(image, slice.hostOffset, u64(1) << image.geometry.sliceBits);
  if (place !== Status.Ok) return place;

  if (length > clusterSize - (u32(offset) & (clusterSize - 1))) {
    // The slice must survive what the allocation loads.
    pin(slice);
    const status = allocateClusters(image, task, 1);
    undoPin(slice);
    if (status !== Status.Ok) return status;
    if (image.allocatedOffset !== (cluster + 1) << bits) {
      note(image, image.allocatedOffset, length);
      return Status.Ok;
    }
  }
  storeRefcount(slice.data, index, image.geometry.refcountOrder, refcount + 1);
  markDirty(image.order, slice);
  note(image, offset, length);
  return Status.Ok;
}

/** These clusters become free: nothing may be packed into them any more. */
export function forgetPacking(image: Image, cluster: u64, count: u64): void {
  const packed = image.packOffset >> image.geometry.clusterBits;
  if (packed >= cluster && packed - cluster < count) image.packOffset = 0;
}

function packIntoNew(image: Image, task: Task, length: u32): Status {
  const status = allocateClusters(image, task, 1);
  if (status !== Status.Ok) return status;
  note(image, image.allocatedOffset, length);
  return Status.Ok;
}

/** What comes next goes behind this, unless it ends with its cluster. */
function note(image: Image, offset: u64, length: u32): void {
  image.packedOffset = offset;
  const end = offset + length;
  image.packOffset = (end & u64(image.geometry.clusterSize - 1)) === 0 ? 0 : end;
}

function largestRefcount(image: Image): u64 {
  const order = image.geometry.refcountOrder;
  return order === 6 ? 0xffffffffffffffff : (u64(1) << (u32(1) << order)) - 1;
}
