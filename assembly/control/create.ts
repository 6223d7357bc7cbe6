/**
 * Create: a new image in an empty file.
 *
 *     header | refcount table | refcount blocks | L1 table | L2 tables, when all is mapped
 *
 * The header's first sector is written last, after a flush: a file that was cut off before that is no image.
 */

import { PAGE_LENGTH } from '../abi/configuration';
import { CreateOptions } from '../abi/create-options';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { storeU64 } from '../base/bytes';
import { flush, Owner, writeModule, writeZeroes } from '../block';
import { storeRefcount } from '../format/refcount-entry';
import { Image, ImageState } from '../image/image';
import { parkOnOperation, Task } from '../image/task';
import { buildHeader } from './create-header';
import { fillMapping } from './create-mapping';
import { checkOptions, layOut, NewLayout, refuseOption } from './create-plan';

enum Stage {
  Plan = 0,
  WriteTable = 1,
  WriteBlocks = 2,
  WriteMapping = 3,
  WriteHeaderTail = 4,
  FlushTables = 5,
  WriteHeader = 6,
  FlushHeader = 7,
  Done = 8,
}

const SECTOR: u32 = 512;
/** The second half of the page holds the new header. */
const HEADER_CAPACITY: u32 = PAGE_LENGTH / 2;

export function stepCreate(image: Image, task: Task): Status {
  const address = changetype<usize>(task);
  const layout = layoutOf(image);
  switch (task.stage) {
    case Stage.Plan:
      return plan(image, task, layout);
    case Stage.WriteTable:
      return writeTable(image, task, layout);
    case Stage.WriteBlocks:
      return writeBlocks(image, task, layout);
    case Stage.WriteMapping:
      if (layout.mappedTables !== 0) return writeMapping(image, task, layout);
      task.stage = Stage.WriteHeaderTail;
      if (layout.l1Size === 0) return stepCreate(image, task);
      writeZeroes(image.operations, address, layout.l1Offset, layout.l1Size << 3);
      return parkOnOperation(task);
    case Stage.WriteHeaderTail:
      task.stage = Stage.FlushTables;
      if (layout.headerLength <= SECTOR) return stepCreate(image, task);
      writeModule(
        image.operations,
        Owner.Task,
        address,
        SECTOR,
        headerOf(image) + SECTOR,
        layout.headerLength - SECTOR,
      );
      return parkOnOperation(task);
    case Stage.FlushTables:
      task.stage = Stage.WriteHeader;
      flush(image.operations, Owner.Task, address);
      return parkOnOperation(task);
    case Stage.WriteHeader:
      task.stage = Stage.FlushHeader;
      writeModule(image.operations, Owner.Task, address, 0, headerOf(image), SECTOR);
      return parkOnOperation(task);
    case Stage.FlushHeader:
      task.stage = Stage.Done;
      flush(image.operations, Owner.Task, address);
      return parkOnOperation(task);
    default:
      image.state = ImageState.Closed;
      return Status.Ok;
  }
}

function plan(image: Image, task: Task, layout: NewLayout): Status {
  if (image.state !== ImageState.Fresh) return refuseOption(image, image.state, ImageState.Fresh);
  image.state = ImageState.Opening;
  const options = changetype<CreateOptions>(image.page);
  let status = checkOptions(image, options);
  if (status !== Status.Ok) return status;
  status = layOut(image, options, layout);
  if (status !== Status.Ok) return status;
  status = buildHeader(image, options, layout, headerOf(image), min(HEADER_CAPACITY, image.geometry.clusterSize));
  if (status !== Status.Ok) return status;
  task.cursor = 0;
  task.stage = Stage.WriteTable;
  return stepCreate(image, task);
}

/** One slice of the refcount table a step. */
function writeTable(image: Image, task: Task, layout: NewLayout): Status {
  const geometry = image.geometry;
  const position = task.cursor << geometry.sliceBits;
  if (position === layout.tableClusters << geometry.clusterBits) {
    task.cursor = 0;
    task.stage = Stage.WriteBlocks;
    return stepCreate(image, task);
  }
  const entries = u32(1) << (geometry.sliceBits - 3);
  const first = task.cursor * entries;
  memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  for (let index: u32 = 0; index < entries && first + index < layout.blockCount; index++) {
    storeU64(image.scratch + (usize(index) << 3), (layout.firstBlockCluster + first + index) << geometry.clusterBits);
  }
  task.cursor++;
  return writeScratch(image, task, layout.tableOffset + position);
}

/** One slice of the refcount blocks a step: they lie one behind the other. */
function writeBlocks(image: Image, task: Task, layout: NewLayout): Status {
  const geometry = image.geometry;
  const position = task.cursor << geometry.sliceBits;
  if (position === layout.blockCount << geometry.clusterBits) {
    task.cursor = 0;
    task.stage = Stage.WriteMapping;
    return stepCreate(image, task);
  }
  const refcounts = u32((u64(8) << geometry.sliceBits) >> geometry.refcountOrder);
  const first = task.cursor * refcounts;
  memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  for (let index: u32 = 0; index < refcounts && first + index < layout.clusterCount; index++) {
    storeRefcount(image.scratch, index, geometry.refcountOrder, 1);
  }
  task.cursor++;
  return writeScratch(image, task, (layout.firstBlockCluster << geometry.clusterBits) + position);
}

/** One slice of the L1 table or of the L2 tables behind it a step. */
function writeMapping(image: Image, task: Task, layout: NewLayout): Status {
  const geometry = image.geometry;
  const hostOffset = layout.l1Offset + (task.cursor << geometry.sliceBits);
  if (hostOffset === layout.clusterCount << geometry.clusterBits) {
    task.stage = Stage.WriteHeaderTail;
    return stepCreate(image, task);
  }
  const options = changetype<CreateOptions>(image.page);
  memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  fillMapping(image, layout, hostOffset, unitsFor(options.virtualSize, geometry.clusterBits));
  task.cursor++;
  return writeScratch(image, task, hostOffset);
}

function writeScratch(image: Image, task: Task, hostOffset: u64): Status {
  const length = u32(1) << image.geometry.sliceBits;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.scratch, length);
  return parkOnOperation(task);
}

function headerOf(image: Image): usize {
  return image.page + PAGE_LENGTH - HEADER_CAPACITY;
}

function layoutOf(image: Image): NewLayout {
  return changetype<NewLayout>(image.exclusiveMemory);
}
