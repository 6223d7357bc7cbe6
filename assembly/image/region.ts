/**
 * Contiguous host clusters, any number of them: for tables, which must lie in one piece. The refcount blocks that count
 * them are made first and lie elsewhere, so that none of them is in the way.
 *
 *   seek:   range from the frontier ─▶ table long enough? ─▶ a block for each part? ─▶ all free? ─▶ take
 *                     ▲                                                                 │ no
 *                     └──────────────── behind the cluster that is in use ◀─────────────┘
 *
 * Only for a task that is alone with the image: nobody else allocates meanwhile.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { writeZeroes } from '../block';
import { runAt } from '../cache/dropped-clusters';
import { needSlice, TableKind } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { blockIndex } from '../format/geometry';
import { loadRefcount, storeRefcount } from '../format/refcount-entry';
import { allocateClusters, releaseClusters } from './allocate';
import { growRefcounts, startTableGrowth } from './grow-refcounts';
import { Image, refcountTableEntries } from './image';
import { checkOverlap } from './overlap';
import { needRefcounts, nextSlice, refcountIndex } from './refcounts';
import { Region, RegionStage } from './region-state';
import { parkOnOperation, Task } from './task';

/** Blocks that one step looks for, and slices that one step scans. */
const PIECES_PER_STEP: u32 = 64;

/**
 * Allocates `count` contiguous clusters (1 or more): `image.allocatedOffset`, refcounts one. Miss: the task is parked;
 * call again with the same count.
 */
export function allocateRegion(image: Image, task: Task, count: u64): Status {
  if (count === 1) return allocateClusters(image, task, 1);
  const region = image.region;
  if (task.outstanding !== 0) {
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  if (region.stage === RegionStage.Idle) begin(image, region, count);
  while (true) {
    if (image.growthOwner === task) {
      const status = growRefcounts(image, task);
      if (status !== Status.Ok) return status;
      moveTo(region, max(region.start, image.frontier));
    }
    const status = step(image, task, region);
    if (status !== Status.Ok) return status;
    if (region.stage === RegionStage.Idle) return Status.Ok;
  }
}

/** The owner failed. What was taken already leaks. */
export function abandonRegion(image: Image): void {
  image.region.stage = RegionStage.Idle;
  image.region.blockOffset = 0;
}

function begin(image: Image, region: Region, count: u64): void {
  region.count = count;
  region.blockOffset = 0;
  for (let index: u32 = 0; index < image.spare.count; index++) {
    const run = runAt(image.spare, index);
    if (run.count < count) continue;
    moveTo(region, run.cluster);
    region.stage = RegionStage.Spare;
    run.cluster += count;
    run.count -= count;
    if (run.count === 0) {
      const last = runAt(image.spare, --image.spare.count);
      run.cluster = last.cluster;
      run.count = last.count;
    }
    return;
  }
  moveTo(region, image.frontier);
}

function moveTo(region: Region, start: u64): void {
  region.start = start;
  region.cursor = start;
  region.stage = RegionStage.Blocks;
}

function step(image: Image, task: Task, region: Region): Status {
  if (region.stage === RegionStage.Take) return take(image, task, region);
  if (region.stage !== RegionStage.Blocks) return scan(image, task, region);
  return needBlocks(image, task, region);
}

/** Every part of the range gets a refcount block; the table gets longer when it has no entry for one. */
function needBlocks(image: Image, task: Task, region: Region): Status {
  if (region.blockOffset !== 0) return linkBlock(image, task, region);
  const geometry = image.geometry;
  const last = region.start + region.count - 1;
  if (region.count > image.frontierEnd || last >= image.frontierEnd) {
    return refuse(image.failure, Status.NoSpace, Structure.File, Field.Length, 0, last, image.frontierEnd);
  }
  if (blockIndex(geometry, last) >= refcountTableEntries(image)) {
    startTableGrowth(image, task);
    return Status.Ok;
  }
  for (let index = blockIndex(geometry, region.cursor); index <= blockIndex(geometry, last); index++) {
    const entryOffset = image.refcountTableOffset + (index << 3);
    const table = needSlice(image.cache, TableKind.RefcountTable, entryOffset, task);
    if (table === null) return task.outcome;
    if (loadU64(table.data + usize(entryOffset - table.hostOffset)) === 0) return makeBlock(image, task, region, index);
    region.cursor = max(region.cursor, index << geometry.blockBits);
  }
  region.cursor = region.start;
  region.stage = RegionStage.Scan;
  return Status.Ok;
}

/** A cluster for a refcount block, zeroed before the table names it. The range moves behind what that took. */
function makeBlock(image: Image, task: Task, region: Region, index: u64): Status {
  const status = allocateClusters(image, task, 1);
  if (status !== Status.Ok) return status;
  region.blockOffset = image.allocatedOffset;
  region.blockIndex = index;
  writeZeroes(image.operations, changetype<usize>(task), region.blockOffset, image.geometry.clusterSize);
  return parkOnOperation(task);
}

function linkBlock(image: Image, task: Task, region: Region): Status {
  const entryOffset = image.refcountTableOffset + (region.blockIndex << 3);
  const table = needSlice(image.cache, TableKind.RefcountTable, entryOffset, task);
  if (table === null) return task.outcome;
  const address = table.data + usize(entryOffset - table.hostOffset);
  if (loadU64(address) === 0) {
    storeU64(address, region.blockOffset);
    markDirty(image.order, table);
  } else {
    // The allocation has made a block for the same range itself.
    const status = releaseClusters(image, task, region.blockOffset, 1);
    if (status !== Status.Ok) return status;
  }
  region.blockOffset = 0;
  moveTo(region, max(region.start, image.frontier));
  return Status.Ok;
}

/** Looks for a cluster that is in use; the range begins anew behind it. */
function scan(image: Image, task: Task, region: Region): Status {
  const end = region.start + region.count;
  const order = image.geometry.refcountOrder;
  for (let pieces: u32 = 0; pieces < PIECES_PER_STEP; pieces++) {
    if (region.cursor === end) {
      const bits = image.geometry.clusterBits;
      const status = checkOverlap(image, region.start << bits, region.count << bits);
      if (status !== Status.Ok) return status;
      region.cursor = region.start;
      region.stage = RegionStage.Take;
      return Status.Ok;
    }
    const slice = needRefcounts(image, task, region.cursor);
    if (slice === null) {
      if (task.outcome !== Status.Ok) return task.outcome;
      // Only a range that was free before can be without a block.
      moveTo(region, image.frontier);
      return Status.Ok;
    }
    const first = refcountIndex(image, region.cursor);
    const count = u32(min(end, nextSlice(image, region.cursor)) - region.cursor);
    let used: u32 = count;
    for (let index: u32 = 0; index < count; index++) {
      if (loadRefcount(slice.data, first + index, order) !== 0) used = index;
      if (used !== count) break;
    }
    if (used !== count) {
      const spare = region.stage === RegionStage.Spare;
      moveTo(region, spare ? image.frontier : region.cursor + u64(used) + 1);
      return Status.Ok;
    }
    region.cursor += count;
  }
  return Status.Ok;
}

/** Raises the refcounts to one, a slice at a time. */
function take(image: Image, task: Task, region: Region): Status {
  const end = region.start + region.count;
  while (region.cursor < end) {
    const slice = needRefcounts(image, task, region.cursor);
    if (slice === null) {
      if (task.outcome !== Status.Ok) return task.outcome;
      return refuse(image.failure, Status.Corrupt, Structure.RefcountTable, Field.Offset, 0, region.cursor, 0);
    }
    const first = refcountIndex(image, region.cursor);
    const count = u32(min(end, nextSlice(image, region.cursor)) - region.cursor);
    for (let index: u32 = 0; index < count; index++) {
      storeRefcount(slice.data, first + index, image.geometry.refcountOrder, 1);
    }
    markDirty(image.order, slice);
    region.cursor += count;
  }
  // Clusters that were passed over on the way stay free for who needs less.
  if (region.start === image.frontier) image.frontier = end;
  image.allocatedOffset = region.start << image.geometry.clusterBits;
  image.allocatedCount = u32(region.count);
  image.allocatedTotal += region.count;
  image.allocatedVirgin = false;
  region.stage = RegionStage.Idle;
  return Status.Ok;
}
