/**
 * More room for refcounts: a new refcount block, or a larger refcount table. One task at a time does it, as
 * `image.growthOwner`; whoever allocates meanwhile waits.
 *
 * A new block lies in the range that it counts, and counts itself. A new table lies behind everything that the old one
 * can count, with new blocks in front of it that count the blocks and the table:
 *
 *     ... old range | block | block | table table table |
 *
 * Blocks and table are durable before the header names them; that one sector is the switch.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { moveAll } from '../base/wait-list';
import { flush, Owner, writeModule, writeZeroes } from '../block';
import { dropSlices, needSlice, TableKind } from '../cache/table-cache';
import { markDirty, requestFlush } from '../cache/write-order';
import { blockIndex, blockSliceOffset } from '../format/geometry';
import { HeaderOffset, MAXIMUM_REFCOUNT_TABLE_LENGTH } from '../format/header';
import { storeRefcount } from '../format/refcount-entry';
import { commitHeaderSector, needHeaderSector } from './header-sector';
import { Image, refcountTableEntries } from './image';
import { needNoTable } from './overlap';
import { needRefcounts, refcountIndex } from './refcounts';
import { addTable } from './table-map-state';
import { parkOnOperation, Task } from './task';

enum Stage {
  Decide = 0,
  ZeroBlock = 1,
  LinkBlock = 2,
  FlushOld = 3,
  PlanTable = 4,
  WriteBlocks = 5,
  WriteTable = 6,
  FlushTable = 7,
  ReadHeader = 8,
  WriteHeader = 9,
  SwitchTable = 10,
  FreeOld = 11,
}

/** Goes on with the growth that `task` owns; Ok when it is done and the frontier has a refcount block. */
export function growRefcounts(image: Image, task: Task): Status {
  while (true) {
    // Every operation of the growth belongs to the task, and nothing else of it may be in flight in between.
    if (task.outstanding !== 0) {
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    // A failed flush of the write-out may have lost what was written here; the next flush would not say so.
    if (image.order.broken) {
      return refuse(image.failure, Status.Broken, Structure.File, Field.None, 0, 0, 0);
    }
    const status = step(image, task);
    if (status !== Status.Ok) return status;
    if (image.growthOwner === null) return Status.Ok;
  }
}

/** Makes `task` the owner of a growth that lengthens the refcount table; nobody owns one. */
export function startTableGrowth(image: Image, task: Task): void {
  image.growthOwner = task;
  image.growthStage = Stage.FlushOld;
}

/** The owner failed: nothing on disk names what it wrote, or the header's state is unknown and nothing is written. */
export function abandonGrowth(image: Image): void {
  finishGrowth(image);
}

function step(image: Image, task: Task): Status {
  switch (image.growthStage) {
    case Stage.Decide:
      return decide(image);
    case Stage.ZeroBlock:
      return zeroBlock(image, task);
    case Stage.LinkBlock:
      return linkBlock(image, task);
    case Stage.FlushOld:
      image.growthStage = Stage.PlanTable;
      requestFlush(image.order, task);
      return Status.Miss;
    case Stage.PlanTable:
      return planTable(image);
    case Stage.WriteBlocks:
      return writeBlocks(image, task);
    case Stage.WriteTable:
      return writeTable(image, task);
    case Stage.FlushTable:
      image.growthStage = Stage.ReadHeader;
      return flushFile(image, task);
    case Stage.ReadHeader:
      return readHeader(image, task);
    case Stage.WriteHeader:
      return writeHeader(image, task);
    case Stage.SwitchTable:
      switchTable(image);
      return Status.Ok;
    default:
      return freeOld(image, task);
  }
}

/** The frontier lies in a range without a block: is there a table entry for it? */
function decide(image: Image): Status {
  const inTable = blockIndex(image.geometry, image.frontier) < refcountTableEntries(image);
  image.growthStage = inTable ? Stage.ZeroBlock : Stage.FlushOld;
  return Status.Ok;
}

function zeroBlock(image: Image, task: Task): Status {
  const hostOffset = image.frontier << image.geometry.clusterBits;
  const status = needNoTable(image, task, hostOffset, image.geometry.clusterSize);
  if (status !== Status.Ok) return status;
  image.growthCluster = image.frontier;
  image.frontier++;
  image.growthStage = Stage.LinkBlock;
  writeZeroes(image.operations, changetype<usize>(task), hostOffset, image.geometry.clusterSize);
  return parkOnOperation(task);
}

function linkBlock(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const cluster = image.growthCluster;
  const blockOffset = cluster << geometry.clusterBits;
  const entryOffset = image.refcountTableOffset + (blockIndex(geometry, cluster) << 3);
  const table = needSlice(image.cache, TableKind.RefcountTable, entryOffset, task);
  if (table === null) return task.outcome;
  const block = needSlice(
    image.cache,
    TableKind.RefcountBlock,
    blockOffset + blockSliceOffset(geometry, cluster),
    task,
  );
  if (block === null) return task.outcome;

  storeRefcount(block.data, refcountIndex(image, cluster), geometry.refcountOrder, 1);
  markDirty(image.order, block);
  storeU64(table.data + usize(entryOffset - table.hostOffset), blockOffset);
  markDirty(image.order, table);
  addTable(image.tables, cluster);
  finishGrowth(image);
  return Status.Ok;
}

/** Sizes of the new structures: enough blocks to count blocks and table, and half as many entries again. */
function planTable(image: Image): Status {
  const geometry = image.geometry;
  const clusterBits = geometry.clusterBits;
  const entries = refcountTableEntries(image);
  // A regular file may go on with anything behind what is counted; a device ends where it ends.
  const fileEnd = (image.fileLength + geometry.clusterSize - 1) >> clusterBits;
  const counted = max(entries << geometry.blockBits, image.frontier);
  const base = image.frontierEnd > fileEnd ? max(counted, fileEnd) : counted;
  const firstBlock = blockIndex(geometry, base);
  let blocks: u64 = 1;
  let tableClusters: u64 = 1;
  while (true) {
    const lastBlock = blockIndex(geometry, base + blocks + tableClusters - 1);
    const wantedEntries = max(lastBlock + 1, entries + (entries >> 1));
    const wantedClusters = (wantedEntries * 8 + geometry.clusterSize - 1) >> clusterBits;
    const wantedBlocks = lastBlock - firstBlock + 1;
    if (wantedClusters <= tableClusters && wantedBlocks <= blocks) break;
    tableClusters = max(tableClusters, wantedClusters);
    blocks = max(blocks, wantedBlocks);
  }
  if (base + blocks + tableClusters > image.frontierEnd) {
    return refuse(image.failure, Status.NoSpace, Structure.File, Field.Length, 0, base, image.frontierEnd);
  }
  if (tableClusters << clusterBits > MAXIMUM_REFCOUNT_TABLE_LENGTH) {
    return refuse(
      image.failure,
      Status.NoSpace,
      Structure.RefcountTable,
      Field.RefcountTableClusters,
      image.refcountTableOffset,
      tableClusters << clusterBits,
      MAXIMUM_REFCOUNT_TABLE_LENGTH,
    );
  }
  image.growthCluster = base;
  image.growthFirstBlock = firstBlock;
  image.growthBlockCount = u32(blocks);
  image.growthTableClusters = tableClusters;
  image.growthCursor = 0;
  image.growthStage = Stage.WriteBlocks;
  return Status.Ok;
}

/** Writes the new blocks, a slice at a time: one for every cluster of the new structures, else zero. */
function writeBlocks(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const position = image.growthCursor << geometry.sliceBits;
  const total = u64(image.growthBlockCount) << geometry.clusterBits;
  if (position === total) {
    image.growthCursor = 0;
    image.growthStage = Stage.WriteTable;
    return Status.Ok;
  }
  const refcounts = ((u64(1) << geometry.sliceBits) << 3) >> geometry.refcountOrder;
  const firstCluster = (image.growthFirstBlock << geometry.blockBits) + image.growthCursor * refcounts;
  const usedEnd = image.growthCluster + u64(image.growthBlockCount) + image.growthTableClusters;
  memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  for (let index: u32 = 0; index < u32(refcounts); index++) {
    const cluster = firstCluster + u64(index);
    if (cluster >= image.growthCluster && cluster < usedEnd) {
      storeRefcount(image.scratch, index, geometry.refcountOrder, 1);
    }
  }
  image.growthCursor++;
  return writeScratch(image, task, (image.growthCluster << geometry.clusterBits) + position);
}

/** Writes the new table, a slice at a time: the old entries as they are in the cache, the new blocks, zeros. */
function writeTable(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const position = image.growthCursor << geometry.sliceBits;
  if (position === image.growthTableClusters << geometry.clusterBits) {
    image.growthStage = Stage.FlushTable;
    return Status.Ok;
  }
  const sliceLength = usize(1) << geometry.sliceBits;
  const oldLength = u64(image.refcountTableClusters) << geometry.clusterBits;
  memory.fill(image.scratch, 0, sliceLength);
  if (position < oldLength) {
    const old = needSlice(image.cache, TableKind.RefcountTable, image.refcountTableOffset + position, task);
    if (old === null) return task.outcome;
    memory.copy(image.scratch, old.data, sliceLength);
  }
  for (let block: u32 = 0; block < image.growthBlockCount; block++) {
    const byte = (image.growthFirstBlock + block) << 3;
    if (byte >= position && byte < position + sliceLength) {
      storeU64(image.scratch + usize(byte - position), (image.growthCluster + block) << geometry.clusterBits);
    }
  }
  image.growthCursor++;
  const tableStart = (image.growthCluster + image.growthBlockCount) << geometry.clusterBits;
  return writeScratch(image, task, tableStart + position);
}

function readHeader(image: Image, task: Task): Status {
  const status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  const tableOffset = (image.growthCluster + image.growthBlockCount) << image.geometry.clusterBits;
  storeU64(image.headerSector + HeaderOffset.RefcountTableOffset, tableOffset);
  storeU32(image.headerSector + HeaderOffset.RefcountTableClusters, u32(image.growthTableClusters));
  image.growthStage = Stage.WriteHeader;
  return Status.Ok;
}

function writeHeader(image: Image, task: Task): Status {
  const status = commitHeaderSector(image, task);
  if (status === Status.Ok) image.growthStage = Stage.SwitchTable;
  return status;
}

/** The header on disk names the new table, durably: only now may the clusters of the old one be free. */
function switchTable(image: Image): void {
  const oldOffset = image.refcountTableOffset;
  const oldClusters = image.refcountTableClusters;
  dropSlices(image.cache, oldOffset, u64(oldClusters) << image.geometry.clusterBits);
  for (let block: u32 = 0; block < image.growthBlockCount; block++) addTable(image.tables, image.growthCluster + block);
  image.refcountTableOffset = (image.growthCluster + image.growthBlockCount) << image.geometry.clusterBits;
  image.refcountTableClusters = u32(image.growthTableClusters);
  image.frontier = image.growthCluster + image.growthBlockCount + image.growthTableClusters;
  image.growthCluster = oldOffset >> image.geometry.clusterBits;
  image.growthTableClusters = oldClusters;
  image.growthCursor = 0;
  image.growthStage = Stage.FreeOld;
}

/** Gives the clusters of the old table back, one a step. */
function freeOld(image: Image, task: Task): Status {
  if (image.growthCursor === image.growthTableClusters) {
    finishGrowth(image);
    return Status.Ok;
  }
  const cluster = image.growthCluster + image.growthCursor;
  const slice = needRefcounts(image, task, cluster);
  if (slice === null) {
    if (task.outcome !== Status.Ok) return task.outcome;
  } else {
    storeRefcount(slice.data, refcountIndex(image, cluster), image.geometry.refcountOrder, 0);
    markDirty(image.order, slice);
  }
  image.growthCursor++;
  return Status.Ok;
}

function finishGrowth(image: Image): void {
  image.growthOwner = null;
  image.growthStage = Stage.Decide;
  moveAll(image.growthWaiters, image.ready);
}

function writeScratch(image: Image, task: Task, hostOffset: u64): Status {
  const length = u32(1) << image.geometry.sliceBits;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.scratch, length);
  return parkOnOperation(task);
}

function flushFile(image: Image, task: Task): Status {
  flush(image.operations, Owner.Task, changetype<usize>(task));
  return parkOnOperation(task);
}
