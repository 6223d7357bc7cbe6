/**
 * Host cluster allocation, amortised constant however full the image is.
 *
 * New clusters come from the frontier, the end of the file. Clusters that were free before the image was opened are
 * found by a scan that looks at one refcount slice an allocation, each slice once. Nothing is ever searched twice.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { push } from '../base/wait-list';
import { runAt } from '../cache/dropped-clusters';
import { TableSlice } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { loadRefcount, storeRefcount } from '../format/refcount-entry';
import { refuseCorrupt } from './corrupt-bit';
import { growRefcounts } from './grow-refcounts';
import { Image } from './image';
import { checkTableOverlap, needNoTable } from './overlap';
import { needRefcounts, nextSlice, refcountIndex } from './refcounts';
import { Task } from './task';

const MISSED: i32 = -2;

/**
 * Allocates 1 to `wanted` contiguous clusters: `image.allocatedOffset` and `allocatedCount`, refcounts one. Miss: the
 * task is parked and nothing has changed that a second start would do again.
 */
export function allocateClusters(image: Image, task: Task, wanted: u32): Status {
  if (image.corrupt) return refuseCorrupt(image);
  const owner = image.growthOwner;
  if (owner !== null) {
    if (owner !== task) {
      push(image.growthWaiters, task);
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    const status = growRefcounts(image, task);
    if (status !== Status.Ok) return status;
  }
  image.allocatedVirgin = false;
  while (image.spare.count > 0) {
    const status = takeSpare(image, task, wanted);
    if (status !== Status.Ok || image.allocatedCount !== 0) return status;
  }
  if (image.scanCluster < image.scanEnd) {
    const status = takeScanned(image, task, wanted);
    if (status !== Status.Ok || image.allocatedCount !== 0) return status;
  }
  return takeAtFrontier(image, task, wanted);
}

/** Gives back clusters that nothing refers to. They are not used again before the image is opened anew. */
export function releaseClusters(image: Image, task: Task, hostOffset: u64, count: u32): Status {
  const cluster = hostOffset >> image.geometry.clusterBits;
  const slice = needRefcounts(image, task, cluster);
  if (slice === null) return task.outcome;
  const first = refcountIndex(image, cluster);
  for (let index: u32 = 0; index < count; index++) {
    storeRefcount(slice.data, first + index, image.geometry.refcountOrder, 0);
  }
  markDirty(image.order, slice);
  return Status.Ok;
}

/** Takes from the run that became free last. `allocatedCount` stays 0 when it is not free after all; then it is gone. */
function takeSpare(image: Image, task: Task, wanted: u32): Status {
  image.allocatedCount = 0;
  const run = runAt(image.spare, image.spare.count - 1);
  const cluster = run.cluster;
  const runEnd = cluster + run.count;
  const slice = needRefcounts(image, task, cluster);
  if (slice === null && task.outcome !== Status.Ok) return task.outcome;
  let next = min(runEnd, nextSlice(image, cluster));
  if (slice !== null) {
    const found = takeRun(image, task, slice, cluster, next, wanted);
    if (found < 0) return found === MISSED ? Status.Miss : Status.Corrupt;
    if (image.allocatedCount !== 0) next = cluster + u64(found) + u64(image.allocatedCount);
  }
  run.cluster = next;
  run.count = runEnd - next;
  if (run.count === 0) image.spare.count--;
  return Status.Ok;
}

/** Looks for free clusters in the next slice of the scan. `allocatedCount` stays 0 when there are none. */
function takeScanned(image: Image, task: Task, wanted: u32): Status {
  image.allocatedCount = 0;
  const cluster = image.scanCluster;
  const sliceEnd = min(image.scanEnd, nextSlice(image, cluster));
  const slice = needRefcounts(image, task, cluster);
  if (slice === null) {
    if (task.outcome !== Status.Ok) return task.outcome;
    // No block, so the whole slice is free; but it would cost a block. The frontier is cheaper.
    image.scanCluster = sliceEnd;
    return Status.Ok;
  }
  const found = takeRun(image, task, slice, cluster, sliceEnd, wanted);
  if (found < 0) return found === MISSED ? Status.Miss : Status.Corrupt;
  image.scanCluster = image.allocatedCount !== 0 ? cluster + u64(found) + u64(image.allocatedCount) : sliceEnd;
  return Status.Ok;
}

function takeAtFrontier(image: Image, task: Task, wanted: u32): Status {
  while (true) {
    const cluster = image.frontier;
    if (cluster >= image.frontierEnd) {
      return refuse(image.failure, Status.NoSpace, Structure.File, Field.Length, 0, cluster, 0);
    }
    const slice = needRefcounts(image, task, cluster);
    if (slice === null) {
      if (task.outcome !== Status.Ok) return task.outcome;
      image.growthOwner = task;
      image.growthStage = 0;
      const status = growRefcounts(image, task);
      if (status !== Status.Ok) return status;
      continue;
    }
    const sliceEnd = min(image.frontierEnd, nextSlice(image, cluster));
    image.allocatedCount = 0;
    const found = takeRun(image, task, slice, cluster, sliceEnd, wanted);
    if (found < 0) return found === MISSED ? Status.Miss : Status.Corrupt;
    if (image.allocatedCount !== 0) {
      image.frontier = cluster + u64(found) + u64(image.allocatedCount);
      image.allocatedVirgin = image.allocatedOffset >= image.virginOffset;
      return Status.Ok;
    }
    image.frontier = sliceEnd;
  }
}

/**
 * Takes the first free run of `slice` between the clusters `start` and `end`: refcounts become one. Returns how many
 * clusters after `start` it begins, -1 when a cluster counted as free holds metadata, or MISSED with the task parked.
 */
function takeRun(image: Image, task: Task, slice: TableSlice, start: u64, end: u64, wanted: u32): i32 {
  const order = image.geometry.refcountOrder;
  const base = refcountIndex(image, start);
  const limit = u32(end - start);
  let first: u32 = 0;
  while (first < limit && loadRefcount(slice.data, base + first, order) !== 0) first++;
  let count: u32 = 0;
  while (first + count < limit && count < wanted && loadRefcount(slice.data, base + first + count, order) === 0)
    count++;
  if (count === 0) return 0;
  const hostOffset = (start + u64(first)) << image.geometry.clusterBits;
  const status = needNoTable(image, task, hostOffset, u64(count) << image.geometry.clusterBits);
  if (status !== Status.Ok) return status === Status.Miss ? MISSED : -1;
  if (checkTableOverlap(image, slice.hostOffset, u64(1) << image.geometry.sliceBits) !== Status.Ok) return -1;

  for (let index: u32 = 0; index < count; index++) storeRefcount(slice.data, base + first + index, order, 1);
  markDirty(image.order, slice);
  image.allocatedOffset = hostOffset;
  image.allocatedCount = count;
  image.allocatedTotal += u64(count);
  return i32(first);
}
