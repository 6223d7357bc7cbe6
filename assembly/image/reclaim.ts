/**
 * Lowers the refcounts of clusters whose last known reference is durably gone. The core's own task does it, one run
 * after the other. A cluster that becomes free is first discarded in the file, unless the host wants it otherwise, while its refcount still keeps everybody
 * away from it; then its refcount sinks and it may be used again.
 */

import { Status } from '../abi/status';
import { moveAll } from '../base/wait-list';
import { discard } from '../block';
import { addRun, ClusterRun, runAt } from '../cache/dropped-clusters';
import { dropSlices, TableSlice } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { loadRefcount, storeRefcount } from '../format/refcount-entry';
import { Image } from './image';
import { forgetPacking } from './pack';
import { waitForReads } from './read-barrier';
import { needRefcounts, nextSlice, refcountIndex } from './refcounts';
import { parkOnOperation, Task } from './task';

enum Stage {
  Discard = 0,
  Lower = 1,
}

/** Most bytes that one discard names. */
const MAXIMUM_DISCARD: u64 = 0x40000000;

/** Goes on until nothing is reclaimable any more. */
export function stepReclaim(image: Image, task: Task): Status {
  const list = image.order.reclaimable;
  if (waitForReads(image, task) !== Status.Ok) return Status.Miss;
  while (list.count > 0) {
    // What a corrupt image calls unused may be in use.
    if (image.order.broken || image.corrupt) {
      list.count = 0;
      break;
    }
    const run = runAt(list, list.count - 1);
    const slice = needRefcounts(image, task, run.cluster);
    if (slice === null) {
      if (task.outcome === Status.Miss) return Status.Miss;
      // No refcount can be read there: the clusters leak, or never had a count.
      advance(image, run, run.count);
      continue;
    }
    if (task.stage === Stage.Discard) {
      const count = countAlike(image, slice, run);
      const refcount = loadRefcount(slice.data, refcountIndex(image, run.cluster), image.geometry.refcountOrder);
      if (refcount === run.references && !run.quiet) {
        task.stage = Stage.Lower;
        task.clusterCount = u32(count);
        forgetPacking(image, run.cluster, count);
        const bits = image.geometry.clusterBits;
        discard(image.operations, changetype<usize>(task), run.cluster << bits, u32(count << bits));
        return parkOnOperation(task);
      }
      lower(image, slice, run, u32(count));
    } else {
      task.stage = Stage.Discard;
      lower(image, slice, run, task.clusterCount);
    }
  }
  moveAll(image.settleWaiters, image.ready);
  return Status.Ok;
}

/** The refcounts of the run cannot be loaded: its clusters leak. */
export function skipReclaim(image: Image, task: Task): void {
  const list = image.order.reclaimable;
  task.stage = Stage.Discard;
  if (list.count > 0) list.count--;
}

/** Clusters from the run's start, within one slice, that all lose their last reference, or that all keep some. */
function countAlike(image: Image, slice: TableSlice, run: ClusterRun): u64 {
  const order = image.geometry.refcountOrder;
  const first = refcountIndex(image, run.cluster);
  const limit = min(
    min(run.count, nextSlice(image, run.cluster) - run.cluster),
    MAXIMUM_DISCARD >> image.geometry.clusterBits,
  );
  const references: u64 = run.references;
  const frees = loadRefcount(slice.data, first, order) === references;
  let count: u64 = 1;
  while (count < limit && (loadRefcount(slice.data, first + u32(count), order) === references) === frees) count++;
  return count;
}

function lower(image: Image, slice: TableSlice, run: ClusterRun, count: u32): void {
  const order = image.geometry.refcountOrder;
  const first = refcountIndex(image, run.cluster);
  for (let index: u32 = 0; index < count; index++) {
    const refcount = loadRefcount(slice.data, first + index, order);
    // A lower count says that the image was wrong before: there is nothing to lower.
    if (refcount < run.references) continue;
    storeRefcount(slice.data, first + index, order, refcount - run.references);
    if (refcount === run.references) makeSpare(image, run.cluster + index);
  }
  markDirty(image.order, slice);
  advance(image, run, count);
}

/** What does not fit the list is found again by the scan. An L2 table that nobody needs any more leaves the cache. */
function makeSpare(image: Image, cluster: u64): void {
  forgetPacking(image, cluster, 1);
  dropSlices(image.cache, cluster << image.geometry.clusterBits, image.geometry.clusterSize);
  if (addRun(image.spare, cluster, 1, false)) return;
  image.scanCluster = min(image.scanCluster, cluster);
  image.scanEnd = max(image.scanEnd, cluster + 1);
}

function advance(image: Image, run: ClusterRun, count: u64): void {
  run.cluster += count;
  run.count -= count;
  if (run.count === 0) image.order.reclaimable.count--;
}
