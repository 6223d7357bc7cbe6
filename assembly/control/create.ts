/**
 * Create: a new image in an empty file.
 *
 *     header | refcount table | refcount blocks | L1 table
 *
 * The header is written last, after a flush: a file that was cut off before that is no image.
 */

import { CreateOptions } from '../abi/create-options';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { flush, Owner, writeModule, writeZeroes } from '../block';
import { writeFeatureNames } from '../format/feature-names';
import { COMPATIBLE_LAZY_REFCOUNTS } from '../format/features';
import { l1EntriesFor, setGeometry } from '../format/geometry';
import {
  HEADER_LENGTH_KNOWN,
  HeaderOffset,
  MAGIC,
  MAXIMUM_CLUSTER_BITS,
  MAXIMUM_L1_LENGTH,
  MAXIMUM_REFCOUNT_TABLE_LENGTH,
  MINIMUM_CLUSTER_BITS,
  REFCOUNT_ORDER_V2,
} from '../format/header';
import { storeRefcount } from '../format/refcount-entry';
import { Image, ImageState } from '../image/image';
import { parkOnOperation, Task } from '../image/task';

enum Stage {
  Plan = 0,
  WriteTable = 1,
  WriteBlocks = 2,
  ZeroL1 = 3,
  FlushTables = 4,
  WriteHeader = 5,
  FlushHeader = 6,
  Done = 7,
}

const SECTOR: u32 = 512;
const FLAG_LAZY_REFCOUNTS: u32 = 1;

export function stepCreate(image: Image, task: Task): Status {
  const address = changetype<usize>(task);
  switch (task.stage) {
    case Stage.Plan:
      return plan(image, task);
    case Stage.WriteTable:
      return writeTable(image, task);
    case Stage.WriteBlocks:
      return writeBlocks(image, task);
    case Stage.ZeroL1:
      task.stage = Stage.FlushTables;
      if (image.l1Size === 0) return stepCreate(image, task);
      writeZeroes(image.operations, address, image.l1Offset, image.l1Size << 3);
      return parkOnOperation(task);
    case Stage.FlushTables:
      task.stage = Stage.WriteHeader;
      flush(image.operations, Owner.Task, address);
      return parkOnOperation(task);
    case Stage.WriteHeader:
      task.stage = Stage.FlushHeader;
      writeModule(image.operations, Owner.Task, address, 0, image.scratch, writeHeader(image));
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

/** Checks the options and lays the structures out; the image record keeps the result. */
function plan(image: Image, task: Task): Status {
  if (image.state !== ImageState.Fresh) return refuseOption(image, Field.Kind, image.state, ImageState.Fresh);
  image.state = ImageState.Opening;
  const options = changetype<CreateOptions>(image.page);
  const status = checkOptions(image, options);
  if (status !== Status.Ok) return status;
  setGeometry(image.geometry, options.clusterBits, options.refcountOrder, false);
  const geometry = image.geometry;
  const l1Size = l1EntriesFor(geometry, options.virtualSize);
  if (l1Size > MAXIMUM_L1_LENGTH >> 3) {
    const largest = (MAXIMUM_L1_LENGTH >> 3) << (geometry.clusterBits + geometry.l2Bits);
    return refuseOption(image, Field.Size, options.virtualSize, largest);
  }
  const l1Clusters = clustersFor(image, l1Size << 3);
  let blocks: u64 = 1;
  let tableClusters: u64 = 1;
  while (true) {
    const total = 1 + tableClusters + blocks + l1Clusters;
    const neededBlocks = ((total - 1) >> geometry.blockBits) + 1;
    const neededTable = clustersFor(image, neededBlocks << 3);
    if (neededBlocks <= blocks && neededTable <= tableClusters) break;
    blocks = neededBlocks;
    tableClusters = neededTable;
  }
  if (tableClusters << geometry.clusterBits > MAXIMUM_REFCOUNT_TABLE_LENGTH) {
    return refuseOption(image, Field.RefcountTableClusters, tableClusters, MAXIMUM_REFCOUNT_TABLE_LENGTH);
  }
  image.version = options.version;
  image.virtualSize = options.virtualSize;
  image.info.compatibleFeatures = (options.flags & FLAG_LAZY_REFCOUNTS) !== 0 ? COMPATIBLE_LAZY_REFCOUNTS : 0;
  image.refcountTableOffset = geometry.clusterSize;
  image.refcountTableClusters = u32(tableClusters);
  image.growthBlockCount = u32(blocks);
  image.growthCluster = 1 + tableClusters;
  image.l1Offset = (1 + tableClusters + blocks) << geometry.clusterBits;
  image.l1Size = u32(l1Size);
  // All clusters in use: what the refcount blocks say.
  image.frontier = 1 + tableClusters + blocks + l1Clusters;
  task.cursor = 0;
  task.stage = Stage.WriteTable;
  return stepCreate(image, task);
}

function checkOptions(image: Image, options: CreateOptions): Status {
  if (options.version !== 2 && options.version !== 3) return refuseOption(image, Field.Version, options.version, 3);
  const bits = options.clusterBits;
  if (bits < MINIMUM_CLUSTER_BITS || bits > MAXIMUM_CLUSTER_BITS) {
    return refuseOption(image, Field.ClusterBits, bits, MAXIMUM_CLUSTER_BITS);
  }
  if (!isAligned(options.virtualSize, SECTOR) || options.virtualSize > 0x7fffffffffffffff) {
    return refuseOption(image, Field.Size, options.virtualSize, SECTOR);
  }
  if (options.refcountOrder > 6 || (options.version === 2 && options.refcountOrder !== REFCOUNT_ORDER_V2)) {
    return refuseOption(image, Field.RefcountOrder, options.refcountOrder, REFCOUNT_ORDER_V2);
  }
  if (options.version === 2 && options.flags !== 0)
    return refuseOption(image, Field.CompatibleFeatures, options.flags, 0);
  return Status.Ok;
}

/** One slice of the refcount table a step. */
function writeTable(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const position = task.cursor << geometry.sliceBits;
  if (position === u64(image.refcountTableClusters) << geometry.clusterBits) {
    task.cursor = 0;
    task.stage = Stage.WriteBlocks;
    return stepCreate(image, task);
  }
  const entries = u32(1) << (geometry.sliceBits - 3);
  const first = task.cursor * entries;
  memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  for (let index: u32 = 0; index < entries && first + index < image.growthBlockCount; index++) {
    storeU64(image.scratch + (usize(index) << 3), (image.growthCluster + first + index) << geometry.clusterBits);
  }
  task.cursor++;
  return writeScratch(image, task, image.refcountTableOffset + position);
}

/** One slice of the refcount blocks a step: they lie one behind the other. */
function writeBlocks(image: Image, task: Task): Status {
  const geometry = image.geometry;
  const position = task.cursor << geometry.sliceBits;
  if (position === u64(image.growthBlockCount) << geometry.clusterBits) {
    task.stage = Stage.ZeroL1;
    return stepCreate(image, task);
  }
  const refcounts = u32((u64(8) << geometry.sliceBits) >> geometry.refcountOrder);
  const first = task.cursor * refcounts;
  memory.fill(image.scratch, 0, usize(1) << geometry.sliceBits);
  for (let index: u32 = 0; index < refcounts && first + index < image.frontier; index++) {
    storeRefcount(image.scratch, index, geometry.refcountOrder, 1);
  }
  task.cursor++;
  return writeScratch(image, task, (image.growthCluster << geometry.clusterBits) + position);
}

/** Builds the header in the scratch buffer; returns its length with extensions. */
function writeHeader(image: Image): u32 {
  const address = image.scratch;
  const geometry = image.geometry;
  memory.fill(address, 0, SECTOR);
  storeU32(address + HeaderOffset.Magic, MAGIC);
  storeU32(address + HeaderOffset.Version, image.version);
  storeU32(address + HeaderOffset.ClusterBits, geometry.clusterBits);
  storeU64(address + HeaderOffset.Size, image.virtualSize);
  storeU32(address + HeaderOffset.L1Size, image.l1Size);
  storeU64(address + HeaderOffset.L1TableOffset, image.l1Offset);
  storeU64(address + HeaderOffset.RefcountTableOffset, image.refcountTableOffset);
  storeU32(address + HeaderOffset.RefcountTableClusters, image.refcountTableClusters);
  // An extension of type and length 0, zeros already, ends the list.
  if (image.version === 2) return SECTOR;
  storeU64(address + HeaderOffset.CompatibleFeatures, image.info.compatibleFeatures);
  storeU32(address + HeaderOffset.RefcountOrder, geometry.refcountOrder);
  storeU32(address + HeaderOffset.HeaderLength, HEADER_LENGTH_KNOWN);
  writeFeatureNames(address + HEADER_LENGTH_KNOWN);
  return SECTOR;
}

function writeScratch(image: Image, task: Task, hostOffset: u64): Status {
  const length = u32(1) << image.geometry.sliceBits;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), hostOffset, image.scratch, length);
  return parkOnOperation(task);
}

function clustersFor(image: Image, length: u64): u64 {
  return (length + image.geometry.clusterSize - 1) >> image.geometry.clusterBits;
}

function refuseOption(image: Image, field: Field, found: u64, limit: u64): Status {
  return refuse(image.failure, Status.Invalid, Structure.Request, field, 0, found, limit);
}
