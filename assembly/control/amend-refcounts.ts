/**
 * Refcounts of another width. New blocks and a new table lie behind everything that is in use, and count themselves:
 *
 *     everything that was there | block | block | … | table |
 *
 *     flush ─▶ copy every refcount ─▶ table ─▶ flush ─▶ header: width, table ─▶ old blocks and table are free
 *
 * The old blocks do not count the new ones, so that nothing has happened before the header names them; afterwards the new
 * ones still count the old ones until those are given back.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { loadU64, storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { Owner, writeModule } from '../block';
import { dropSlices, needSlice, TableKind } from '../cache/table-cache';
import { dropClusters, needRoom, requestFlush } from '../cache/write-order';
import { blockIndex, setGeometry } from '../format/geometry';
import { HeaderOffset, MAXIMUM_REFCOUNT_TABLE_LENGTH } from '../format/header';
import { loadRefcount, maximumRefcount, refcountBlockOffset, storeRefcount } from '../format/refcount-entry';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image, refcountTableEntries } from '../image/image';
import { needRefcounts, nextSlice, refcountIndex } from '../image/refcounts';
import { settle } from '../image/settle';
import { parkOnOperation, Task } from '../image/task';

enum Stage {
  Settle = 0,
  FindEnd = 1,
  CountBlocks = 2,
  CopyCounts = 3,
  WriteTable = 4,
  Flush = 5,
  Switch = 6,
  DropBlocks = 7,
  Done = 8,
}

/** Where the change stands. */
@unmanaged
export class RefcountChange {
  stage: u32 = 0;
  /** log2 of the new width in bits. */
  order: u32 = 0;
  /** First new cluster; new blocks; clusters of the new table behind them. */
  base: u64 = 0;
  blockCount: u64 = 0;
  tableClusters: u64 = 0;
  /** Ranges that one new block counts each: the next one, the first that counts something new, the last. */
  range: u64 = 0;
  firstNewRange: u64 = 0;
  lastRange: u64 = 0;
  /** Blocks of the ranges in front of the next one: ranges without an old block get none. */
  blocksBefore: u64 = 0;
  /** Next cluster whose refcount is copied; first cluster, or table entry, of the slice that is being filled. */
  cursor: u64 = 0;
  sliceStart: u64 = 0;
  /** The old table, and its next entry. */
  oldOffset: u64 = 0;
  oldEntries: u64 = 0;
  entry: u64 = 0;
}

/** Ok when all refcounts have the new width. TooLarge when one of them does not fit; then nothing has changed. */
export function rebuildRefcounts(image: Image, task: Task, change: RefcountChange): Status {
  if (change.stage === Stage.Settle && change.order === image.geometry.refcountOrder) return Status.Ok;
  while (change.stage !== Stage.Done) {
    if (task.outstanding !== 0) {
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    const status = step(image, task, change);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

function step(image: Image, task: Task, change: RefcountChange): Status {
  switch (change.stage) {
    case Stage.Settle: {
      // Nothing may be on its way to being free while counts are copied.
      const status = settle(image, task);
      if (status === Status.Ok) begin(image, change);
      return status;
    }
    case Stage.FindEnd:
      return findEnd(image, task, change);
    case Stage.CountBlocks:
      return countBlocks(image, task, change);
    case Stage.CopyCounts:
      return copyCounts(image, task, change);
    case Stage.WriteTable:
      return writeTable(image, task, change);
    case Stage.Flush:
      change.stage = Stage.Switch;
      requestFlush(image.order, task);
      return Status.Miss;
    case Stage.Switch:
      return switchOver(image, task, change);
    default:
      return dropBlocks(image, task, change);
  }
}

/** log2 of the refcounts of a new block. */
function blockBitsOf(image: Image, change: RefcountChange): u32 {
  return image.geometry.clusterBits + 3 - change.order;
}

function begin(image: Image, change: RefcountChange): void {
  // A regular file may go on with anything behind what is counted.
  const fileEnd = unitsFor(image.fileLength, image.geometry.clusterBits);
  change.base = grows(image) ? max(image.frontier, fileEnd) : 0;
  change.cursor = 0;
  change.range = 0;
  change.blocksBefore = 0;
  change.stage = Stage.FindEnd;
}

/** A regular file grows at its end; a device is full of clusters that were free or in use before. */
function grows(image: Image): bool {
  return image.frontierEnd > unitsFor(image.fileLength, image.geometry.clusterBits);
}

/** On a device: behind the last cluster that is in use. */
function findEnd(image: Image, task: Task, change: RefcountChange): Status {
  while (!grows(image) && change.cursor < image.frontierEnd) {
    const end = min(image.frontierEnd, nextSlice(image, change.cursor));
    const slice = needRefcounts(image, task, change.cursor);
    if (slice === null && task.outcome !== Status.Ok) return task.outcome;
    if (slice !== null) {
      const order = image.geometry.refcountOrder;
      const first = refcountIndex(image, change.cursor);
      for (let count = u32(end - change.cursor); count > 0; count--) {
        if (loadRefcount(slice.data, first + count - 1, order) === 0) continue;
        change.base = change.cursor + u64(count);
        break;
      }
    }
    change.cursor = end;
  }
  change.firstNewRange = change.base >> blockBitsOf(image, change);
  change.stage = Stage.CountBlocks;
  return Status.Ok;
}

function countBlocks(image: Image, task: Task, change: RefcountChange): Status {
  while (change.range < change.firstNewRange) {
    const status = isCounted(image, task, change, change.range);
    if (status === Status.Miss || status === Status.Corrupt) return status;
    if (status === Status.Ok) change.blocksBefore++;
    change.range++;
  }
  return plan(image, task, change);
}

/** Ok when an old block counts something of the range, or it is one of the new structures; OutOfRange when not. */
function isCounted(image: Image, task: Task, change: RefcountChange, range: u64): Status {
  if (range >= change.firstNewRange) return Status.Ok;
  const bits = blockBitsOf(image, change);
  const first = blockIndex(image.geometry, range << bits);
  const last = min(blockIndex(image.geometry, ((range + 1) << bits) - 1), refcountTableEntries(image) - 1);
  for (let index = first; index <= last; index++) {
    const offset = image.refcountTableOffset + (index << 3);
    const table = needSlice(image.cache, TableKind.RefcountTable, offset, task);
    if (table === null) return task.outcome;
    if (loadU64(table.data + usize(offset - table.hostOffset)) !== 0) return Status.Ok;
  }
  return Status.OutOfRange;
}

function plan(image: Image, task: Task, change: RefcountChange): Status {
  const bits = image.geometry.clusterBits;
  const blockBits = blockBitsOf(image, change);
  const before = change.blocksBefore;
  let blocks: u64 = before + 1;
  let tableClusters: u64 = 1;
  while (true) {
    change.lastRange = (change.base + blocks + tableClusters - 1) >> blockBits;
    const neededBlocks = before + change.lastRange - change.firstNewRange + 1;
    const neededTable = unitsFor((change.lastRange + 1) << 3, bits);
    if (neededBlocks <= blocks && neededTable <= tableClusters) break;
    blocks = max(blocks, neededBlocks);
    tableClusters = max(tableClusters, neededTable);
  }
  const end = change.base + blocks + tableClusters;
  if (end > image.frontierEnd) {
    return refuse(image.failure, Status.NoSpace, Structure.File, Field.Length, 0, end, image.frontierEnd);
  }
  if (tableClusters << bits > MAXIMUM_REFCOUNT_TABLE_LENGTH) {
    const limit = MAXIMUM_REFCOUNT_TABLE_LENGTH;
    const length = tableClusters << bits;
    return refuse(image.failure, Status.TooLarge, Structure.RefcountTable, Field.Length, 0, length, limit);
  }
  // Should this fail, whoever gets these clusters must not take them for zeros.
  image.virginOffset = max(image.virginOffset, end << bits);
  change.blockCount = blocks;
  change.tableClusters = tableClusters;
  change.range = 0;
  change.blocksBefore = 0;
  change.cursor = 0;
  change.sliceStart = 0;
  change.stage = Stage.CopyCounts;
  task.request.progress = 0;
  task.request.progressTotal = blocks << bits;
  return Status.Ok;
}

/** Fills the next slice of the new blocks, from one slice of the old ones after the other, and writes it. */
function copyCounts(image: Image, task: Task, change: RefcountChange): Status {
  const geometry = image.geometry;
  const blockBits = blockBitsOf(image, change);
  while (change.cursor === change.range << blockBits) {
    if (change.range > change.lastRange) {
      change.stage = Stage.WriteTable;
      change.range = 0;
      change.sliceStart = 0;
      change.blocksBefore = 0;
      return Status.Ok;
    }
    const status = isCounted(image, task, change, change.range);
    if (status === Status.Ok) break;
    if (status !== Status.OutOfRange) return status;
    change.range++;
    change.cursor = change.range << blockBits;
    change.sliceStart = change.cursor;
  }
  const perSlice = u64(1) << (geometry.sliceBits + 3 - change.order);
  const sliceEnd = change.sliceStart + perSlice;
  const newEnd = change.base + change.blockCount + change.tableClusters;
  if (change.cursor === change.sliceStart) memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  while (change.cursor < sliceEnd) {
    if (change.cursor >= newEnd) {
      change.cursor = sliceEnd;
    } else if (change.cursor >= change.base) {
      storeRefcount(image.scratch, u32(change.cursor - change.sliceStart), change.order, 1);
      change.cursor++;
    } else {
      const status = copyOldSlice(image, task, change, min(sliceEnd, change.base));
      if (status !== Status.Ok) return status;
    }
  }
  const inBlock = ((change.sliceStart - (change.range << blockBits)) / perSlice) << geometry.sliceBits;
  const hostOffset = ((change.base + change.blocksBefore) << geometry.clusterBits) + inBlock;
  task.request.progress += u64(1) << geometry.sliceBits;
  change.sliceStart = sliceEnd;
  if (sliceEnd === (change.range + 1) << blockBits) {
    change.range++;
    change.blocksBefore++;
  }
  return writeScratch(image, task, hostOffset);
}

/** Copies the counts from the cursor to the end of its old slice, or to `limit`. */
function copyOldSlice(image: Image, task: Task, change: RefcountChange, limit: u64): Status {
  const end = min(limit, nextSlice(image, change.cursor));
  const slice = needRefcounts(image, task, change.cursor);
  if (slice === null && task.outcome !== Status.Ok) return task.outcome;
  if (slice !== null) {
    const order = image.geometry.refcountOrder;
    const first = refcountIndex(image, change.cursor);
    const count = u32(end - change.cursor);
    const target = u32(change.cursor - change.sliceStart);
    const largest = maximumRefcount(change.order);
    for (let index: u32 = 0; index < count; index++) {
      const refcount = loadRefcount(slice.data, first + index, order);
      if (refcount > largest) {
        const offset = (change.cursor + u64(index)) << image.geometry.clusterBits;
        return refuse(
          image.failure,
          Status.TooLarge,
          Structure.RefcountBlock,
          Field.RefcountBits,
          offset,
          refcount,
          largest,
        );
      }
      if (refcount !== 0) storeRefcount(image.scratch, target + index, change.order, refcount);
    }
  }
  change.cursor = end;
  return Status.Ok;
}

/** One slice of the new table a step; a range that has no block is left out. */
function writeTable(image: Image, task: Task, change: RefcountChange): Status {
  const geometry = image.geometry;
  const first = change.sliceStart;
  if (first << 3 === change.tableClusters << geometry.clusterBits) {
    change.stage = Stage.Flush;
    return Status.Ok;
  }
  if (change.range === first) memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  // Every entry is done once: what many of them look at need not fit the cache.
  const end = first + (u64(1) << (geometry.sliceBits - 3));
  while (change.range < end) {
    if (change.range <= change.lastRange) {
      const status = isCounted(image, task, change, change.range);
      if (status === Status.Ok) {
        const block = change.base + change.blocksBefore;
        storeU64(image.scratch + usize((change.range - first) << 3), block << geometry.clusterBits);
        change.blocksBefore++;
      } else if (status !== Status.OutOfRange) return status;
    }
    change.range++;
  }
  change.sliceStart = end;
  return writeScratch(image, task, ((change.base + change.blockCount) << geometry.clusterBits) + (first << 3));
}

function switchOver(image: Image, task: Task, change: RefcountChange): Status {
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  const geometry = image.geometry;
  const tableOffset = (change.base + change.blockCount) << geometry.clusterBits;
  storeU64(image.headerSector + HeaderOffset.RefcountTableOffset, tableOffset);
  storeU32(image.headerSector + HeaderOffset.RefcountTableClusters, u32(change.tableClusters));
  storeU32(image.headerSector + HeaderOffset.RefcountOrder, change.order);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;

  change.oldOffset = image.refcountTableOffset;
  change.oldEntries = refcountTableEntries(image);
  change.entry = 0;
  image.refcountTableOffset = tableOffset;
  image.refcountTableClusters = u32(change.tableClusters);
  image.info.refcountTableOffset = tableOffset;
  image.info.refcountTableClusters = u32(change.tableClusters);
  image.info.refcountOrder = change.order;
  setGeometry(geometry, geometry.clusterBits, change.order, geometry.extended);
  // On a device the frontier still has everything in front of it to look at.
  if (grows(image)) image.frontier = max(image.frontier, change.base + change.blockCount + change.tableClusters);
  task.committed = true;
  change.stage = Stage.DropBlocks;
  return Status.Ok;
}

/** The old blocks lose their last reference, then the old table. A power cut in between leaks them. */
function dropBlocks(image: Image, task: Task, change: RefcountChange): Status {
  const clusterSize = image.geometry.clusterSize;
  const bits = image.geometry.clusterBits;
  while (change.entry < change.oldEntries) {
    const offset = change.oldOffset + (change.entry << 3);
    const table = needSlice(image.cache, TableKind.RefcountTable, offset, task);
    if (table === null) return task.outcome;
    const block = refcountBlockOffset(loadU64(table.data + usize(offset - table.hostOffset)));
    if (block !== 0) {
      if (!needRoom(image.order, task)) return Status.Miss;
      dropSlices(image.cache, block, clusterSize);
      dropClusters(image.order, block >> bits, 1);
    }
    change.entry++;
  }
  if (!needRoom(image.order, task)) return Status.Miss;
  dropSlices(image.cache, change.oldOffset, change.oldEntries << 3);
  dropClusters(image.order, change.oldOffset >> bits, unitsFor(change.oldEntries << 3, bits));
  change.stage = Stage.Done;
  return Status.Ok;
}

function writeScratch(image: Image, task: Task, hostOffset: u64): Status {
  const length = u32(1) << image.geometry.sliceBits;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.scratch, length);
  return parkOnOperation(task);
}
