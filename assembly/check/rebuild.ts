/**
 * New refcount structures from nothing but what refers to what, for when the old ones cannot be kept. They lie behind
 * everything that is in use or counted:
 *
 *     ... | table table | block | block | ... one for each range of clusters with references
 *
 * Nothing that is there is overwritten, and the header names the new table when that is durable: until then a power cut
 * leaves the image as it was. The last blocks count the new structures themselves. The old ones are free then.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { flush, Owner, writeModule, writeZeroes } from '../block';
import { dropAllSlices, TableSlice } from '../cache/table-cache';
import { blockIndex, blockSliceOffset, sliceRefcountBits } from '../format/geometry';
import { HeaderOffset, MAXIMUM_REFCOUNT_TABLE_LENGTH } from '../format/header';
import { loadRefcount, REFCOUNT_TABLE_ENTRY_SIZE, storeRefcount } from '../format/refcount-entry';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { parkOnOperation, Task } from '../image/task';
import { hasBlock, indexInSlice, isReadable, needBlockEntry, needBlockSlice } from './compare';
import { isInWindow, referencesOf } from './references';
import { CheckState, NONE } from './state';

/** `CheckState.rebuildStage` */
enum Stage {
  ZeroTable = 0,
  Blocks = 1,
  LastSlice = 2,
  Flush = 3,
  ReadHeader = 4,
  WriteHeader = 5,
  Switched = 6,
}

/** In the page: the slice of the table that is being filled, and behind it the slice of a block. */
const BLOCK_BUFFER: usize = 4096;

/** Decides where the new structures go. Refused, and nothing has changed, when there is no room for them. */
export function planRebuild(image: Image, state: CheckState): Status {
  const geometry = image.geometry;
  const sliceClusters = u64(1) << sliceRefcountBits(geometry);
  if (state.capacity < state.clusterLimit && state.capacity < sliceClusters) {
    return refuse(image.failure, Status.TooLarge, Structure.Request, Field.Cache, 0, state.capacity, sliceClusters);
  }
  // A file grows behind its end; on a device nothing lies behind the last cluster that is counted or named.
  const start = image.frontierEnd > state.clusterCount ? state.clusterCount : state.highestUsed + 1;
  let blocks: u64 = 1;
  let tableClusters: u64 = 1;
  while (true) {
    const neededBlocks = blockIndex(geometry, start + tableClusters + blocks - 1) + 1;
    const neededTable =
      (neededBlocks * REFCOUNT_TABLE_ENTRY_SIZE + u64(geometry.clusterSize) - 1) >> geometry.clusterBits;
    if (neededBlocks <= blocks && neededTable <= tableClusters) break;
    blocks = max(blocks, neededBlocks);
    tableClusters = max(tableClusters, neededTable);
  }
  const tableLength = tableClusters << geometry.clusterBits;
  if (tableLength > MAXIMUM_REFCOUNT_TABLE_LENGTH) {
    return refuse(
      image.failure,
      Status.TooLarge,
      Structure.RefcountTable,
      Field.RefcountTableClusters,
      image.refcountTableOffset,
      tableLength,
      MAXIMUM_REFCOUNT_TABLE_LENGTH,
    );
  }
  const end = start + tableClusters + blocks;
  if (end > image.frontierEnd) {
    return refuse(image.failure, Status.NoSpace, Structure.File, Field.Length, 0, end, image.frontierEnd);
  }
  state.newStart = start;
  state.newTableClusters = tableClusters;
  return Status.Ok;
}

/** Begins the pass that writes them. Its windows consist of whole slices of refcounts. */
export function startRebuild(image: Image, state: CheckState): void {
  const sliceClusters = u64(1) << sliceRefcountBits(image.geometry);
  if (state.capacity < state.clusterLimit) state.capacity &= ~(sliceClusters - 1);
  state.newEnd = 0;
  state.newBlocks = 0;
  state.blockIndex = NONE;
  state.tableSlice = NONE;
  state.rebuilt = 0;
  state.rebuildStage = Stage.ZeroTable;
}

/** Writes the slice of refcounts at the cursor, of a window whose references are counted, and moves the cursor on. */
export function rebuildSlice(image: Image, task: Task, state: CheckState): Status {
  if (state.rebuildStage === Stage.ZeroTable) {
    state.rebuildStage = Stage.Blocks;
    const length = u32(state.newTableClusters << state.clusterBits);
    writeZeroes(image.operations, changetype<usize>(task), state.newStart << state.clusterBits, length);
    return parkOnOperation(task);
  }
  const geometry = image.geometry;
  const index = blockIndex(geometry, state.cursor);
  if (state.newEnd === 0 && index >= blockIndex(geometry, state.newStart)) state.newEnd = endOfNew(image, state);
  const old = state.incomplete ? needOldSlice(image, task, state) : null;
  if (state.incomplete && task.outcome !== Status.Ok) return task.outcome;
  const used = fillSlice(image, state, old);
  if (used && state.blockIndex !== index) return openBlock(image, task, state, index);

  const start = state.cursor;
  state.cursor = start + (u64(1) << sliceRefcountBits(geometry));
  state.rebuilt = state.cursor;
  if (!used) return Status.Ok;
  const blockOffset = (newBlocksStart(state) + state.newBlocks - 1) << state.clusterBits;
  return writePage(image, task, BLOCK_BUFFER, blockOffset + blockSliceOffset(geometry, start));
}

/** All windows are done: the refcounts of the new structures themselves, then the switch. Ok when it is durable. */
export function finishRebuild(image: Image, task: Task, state: CheckState): Status {
  while (state.rebuildStage !== Stage.Switched) {
    const status = stepFinish(image, task, state);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

function stepFinish(image: Image, task: Task, state: CheckState): Status {
  switch (state.rebuildStage) {
    case Stage.LastSlice: {
      state.rebuildStage = Stage.Flush;
      return writeTableSlice(image, task, state);
    }
    case Stage.Flush:
      state.rebuildStage = Stage.ReadHeader;
      flush(image.operations, Owner.Task, changetype<usize>(task));
      return parkOnOperation(task);
    case Stage.ReadHeader: {
      const status = needHeaderSector(image, task);
      if (status !== Status.Ok) return status;
      storeU64(image.headerSector + HeaderOffset.RefcountTableOffset, state.newStart << state.clusterBits);
      storeU32(image.headerSector + HeaderOffset.RefcountTableClusters, u32(state.newTableClusters));
      state.rebuildStage = Stage.WriteHeader;
      return Status.Ok;
    }
    case Stage.WriteHeader: {
      const status = commitHeaderSector(image, task);
      if (status === Status.Ok) switchTable(image, state);
      return status;
    }
    default: {
      const sliceMask = (u64(1) << sliceRefcountBits(image.geometry)) - 1;
      state.cursor = max(state.rebuilt, state.newStart & ~sliceMask);
      if (state.newEnd === 0 || state.cursor < state.newEnd) return rebuildSlice(image, task, state);
      state.rebuildStage = Stage.LastSlice;
      return Status.Ok;
    }
  }
}

/** The clusters behind the start are the table, the blocks so far, and those that count all of this. */
function endOfNew(image: Image, state: CheckState): u64 {
  const first = blockIndex(image.geometry, state.newStart);
  const known = newBlocksStart(state) + state.newBlocks;
  let blocks: u64 = 1;
  while (blockIndex(image.geometry, known + blocks - 1) - first + 1 > blocks) blocks++;
  return known + blocks;
}

/** Puts the refcounts of the slice at the cursor into the page; false when there are none. */
function fillSlice(image: Image, state: CheckState, old: TableSlice | null): bool {
  const order = image.geometry.refcountOrder;
  const buffer = image.page + BLOCK_BUFFER;
  const count = u32(1) << sliceRefcountBits(image.geometry);
  memory.fill(buffer, 0, usize(1) << image.geometry.sliceBits);
  let used = false;
  for (let index: u32 = 0; index < count; index++) {
    const cluster = state.cursor + u64(index);
    let refcount: u64 = 0;
    if (cluster >= state.newStart && cluster < state.newEnd) refcount = 1;
    else if (isInWindow(state, cluster)) refcount = referencesOf(state, cluster);
    if (old !== null && cluster < state.clusterCount) refcount = max(refcount, loadRefcount(old.data, index, order));
    if (refcount === 0) continue;
    storeRefcount(buffer, index, order, refcount);
    used = true;
  }
  return used;
}

/** The refcounts that were stored: kept where they are higher, when what has no references may have lost them. */
function needOldSlice(image: Image, task: Task, state: CheckState): TableSlice | null {
  const entry = needBlockEntry(image, task, state.cursor);
  if (task.outcome !== Status.Ok || !isReadable(state, entry) || !hasBlock(state, entry)) return null;
  assert(indexInSlice(image, state.cursor) === 0, 'the cursor is at a slice');
  return needBlockSlice(image, task, entry, state.cursor);
}

/** A block for the range with number `index`: zeroed in the file, named in the table. */
function openBlock(image: Image, task: Task, state: CheckState, index: u64): Status {
  const sliceSize = u64(1) << image.geometry.sliceBits;
  const entryOffset = index * REFCOUNT_TABLE_ENTRY_SIZE;
  const tableSlice = entryOffset & ~(sliceSize - 1);
  if (state.tableSlice !== tableSlice) {
    if (state.tableSlice !== NONE) return writeTableSlice(image, task, state);
    memory.fill(image.page, 0, usize(sliceSize));
    state.tableSlice = tableSlice;
  }
  const blockOffset = (newBlocksStart(state) + state.newBlocks) << state.clusterBits;
  storeU64(image.page + usize(entryOffset - tableSlice), blockOffset);
  state.newBlocks++;
  state.blockIndex = index;
  writeZeroes(image.operations, changetype<usize>(task), blockOffset, image.geometry.clusterSize);
  return parkOnOperation(task);
}

function writeTableSlice(image: Image, task: Task, state: CheckState): Status {
  const offset = (state.newStart << state.clusterBits) + state.tableSlice;
  state.tableSlice = NONE;
  return writePage(image, task, 0, offset);
}

function newBlocksStart(state: CheckState): u64 {
  return state.newStart + state.newTableClusters;
}

function writePage(image: Image, task: Task, position: usize, hostOffset: u64): Status {
  const length = u32(1) << image.geometry.sliceBits;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.page + position, length);
  return parkOnOperation(task);
}

/** The header names the new table, durably. What is cached of the old structures means nothing any more. */
function switchTable(image: Image, state: CheckState): void {
  dropAllSlices(image.cache);
  image.refcountTableOffset = state.newStart << state.clusterBits;
  image.refcountTableClusters = u32(state.newTableClusters);
  state.rebuildStage = Stage.Switched;
}
