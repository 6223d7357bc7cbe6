/** Create: are the options possible, and where does what lie? */

import { CREATE_NAMES_OFFSET, CreateFlag, CreateOptions } from '../abi/create-options';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned, unitsFor } from '../base/align';
import { refuse } from '../base/refuse';
import { l1EntriesFor, setGeometry } from '../format/geometry';
import {
  MAXIMUM_CLUSTER_BITS,
  MAXIMUM_L1_LENGTH,
  MAXIMUM_NAME_LENGTH,
  MAXIMUM_REFCOUNT_TABLE_LENGTH,
  MINIMUM_CLUSTER_BITS,
  REFCOUNT_ORDER_V2,
} from '../format/header';
import { MINIMUM_EXTENDED_CLUSTER_BITS } from '../format/l2-subclusters';
import { Image } from '../image/image';

const SECTOR: u32 = 512;
const KNOWN_FLAGS: u32 =
  CreateFlag.LazyRefcounts | CreateFlag.ExtendedL2 | CreateFlag.DataFile | CreateFlag.DataFileRaw;

/** Where the structures of the new image lie. Offsets are bytes, the rest counts clusters, but for the L1 table's entries. */
@unmanaged
export class NewLayout {
  tableOffset: u64 = 0;
  tableClusters: u64 = 0;
  firstBlockCluster: u64 = 0;
  blockCount: u64 = 0;
  l1Offset: u64 = 0;
  /** All clusters in use: what the refcount blocks say. */
  clusterCount: u64 = 0;
  l1Size: u32 = 0;
  /** First L2 table, and how many there are: all, or none. They lie behind the L1 table. */
  firstTableCluster: u64 = 0;
  mappedTables: u64 = 0;
  /** Bytes of header, extensions and backing file name. */
  headerLength: u32 = 0;
}

/** Refuses what the format does not allow, as QEMU does. */
export function checkOptions(image: Image, options: CreateOptions): Status {
  if (options.version !== 2 && options.version !== 3) return refuseField(image, Field.Version, options.version, 3);
  const bits = options.clusterBits;
  if (bits < MINIMUM_CLUSTER_BITS || bits > MAXIMUM_CLUSTER_BITS) {
    return refuseField(image, Field.ClusterBits, bits, MAXIMUM_CLUSTER_BITS);
  }
  if (!isAligned(options.virtualSize, SECTOR) || options.virtualSize > 0x7fffffffffffffff) {
    return refuseField(image, Field.Size, options.virtualSize, SECTOR);
  }
  if (options.refcountOrder > 6 || (options.version === 2 && options.refcountOrder !== REFCOUNT_ORDER_V2)) {
    return refuseField(image, Field.RefcountOrder, options.refcountOrder, REFCOUNT_ORDER_V2);
  }
  const flags = options.flags;
  if ((flags & ~KNOWN_FLAGS) !== 0 || (options.version === 2 && flags !== 0)) {
    return refuseField(image, Field.CompatibleFeatures, flags, options.version === 2 ? 0 : KNOWN_FLAGS);
  }
  if (options.compressionType > 1 || (options.version === 2 && options.compressionType !== 0)) {
    return refuseField(image, Field.CompressionType, options.compressionType, u64(options.version > 2));
  }
  if ((flags & CreateFlag.ExtendedL2) !== 0 && bits < MINIMUM_EXTENDED_CLUSTER_BITS) {
    return refuseField(image, Field.ExtendedL2, bits, MINIMUM_EXTENDED_CLUSTER_BITS);
  }
  return checkNames(image, options);
}

function checkNames(image: Image, options: CreateOptions): Status {
  const backing = options.backingFileLength;
  if (backing > MAXIMUM_NAME_LENGTH) {
    return refuseField(image, Field.BackingFileLength, backing, MAXIMUM_NAME_LENGTH);
  }
  const format = options.backingFormatLength;
  if (format > MAXIMUM_NAME_LENGTH) return refuseField(image, Field.BackingFormatLength, format, MAXIMUM_NAME_LENGTH);
  if (format !== 0 && backing === 0) return refuseField(image, Field.BackingFile, 0, 1);
  const data = options.dataFileLength;
  if (data > MAXIMUM_NAME_LENGTH) return refuseField(image, Field.DataFile, data, MAXIMUM_NAME_LENGTH);
  const hasData = (options.flags & CreateFlag.DataFile) !== 0;
  if (!hasData && (data !== 0 || (options.flags & CreateFlag.DataFileRaw) !== 0)) {
    return refuseField(image, Field.DataFile, data, 0);
  }
  // A raw file shows zeros where nothing was written; a backing file would show through in the image.
  if (backing !== 0 && (options.flags & CreateFlag.DataFileRaw) !== 0)
    return refuseField(image, Field.BackingFile, 1, 0);
  return Status.Ok;
}

/** Address of the first name. */
export function createNames(image: Image): u32 {
  return u32(image.page) + CREATE_NAMES_OFFSET;
}

/** Sizes and places of everything; the refcount blocks count themselves and the table. */
export function layOut(image: Image, options: CreateOptions, layout: NewLayout): Status {
  setGeometry(
    image.geometry,
    options.clusterBits,
    options.refcountOrder,
    (options.flags & CreateFlag.ExtendedL2) !== 0,
  );
  const geometry = image.geometry;
  const bits = geometry.clusterBits;
  const l1Size = l1EntriesFor(geometry, options.virtualSize);
  if (l1Size > MAXIMUM_L1_LENGTH >> 3) {
    return refuseField(
      image,
      Field.Size,
      options.virtualSize,
      (MAXIMUM_L1_LENGTH >> 3) << (geometry.clusterBits + geometry.l2Bits),
    );
  }
  const l1Clusters = unitsFor(l1Size << 3, bits);
  // What others write to a raw data file is to be seen, so all of it is mapped from the beginning, as QEMU does.
  const tables = (options.flags & CreateFlag.DataFileRaw) !== 0 ? l1Size : 0;
  let blocks: u64 = 1;
  let tableClusters: u64 = 1;
  while (true) {
    const total = 1 + tableClusters + blocks + l1Clusters + tables;
    const neededBlocks = ((total - 1) >> geometry.blockBits) + 1;
    const neededTable = unitsFor(neededBlocks << 3, bits);
    if (neededBlocks <= blocks && neededTable <= tableClusters) break;
    blocks = neededBlocks;
    tableClusters = neededTable;
  }
  if (tableClusters << bits > MAXIMUM_REFCOUNT_TABLE_LENGTH) {
    return refuseField(image, Field.RefcountTableClusters, tableClusters, MAXIMUM_REFCOUNT_TABLE_LENGTH);
  }
  layout.tableOffset = geometry.clusterSize;
  layout.tableClusters = tableClusters;
  layout.firstBlockCluster = 1 + tableClusters;
  layout.blockCount = blocks;
  layout.l1Offset = (1 + tableClusters + blocks) << bits;
  layout.l1Size = u32(l1Size);
  layout.firstTableCluster = 1 + tableClusters + blocks + l1Clusters;
  layout.mappedTables = tables;
  layout.clusterCount = layout.firstTableCluster + tables;
  return Status.Ok;
}

/** The request came at the wrong time. */
export function refuseOption(image: Image, found: u64, limit: u64): Status {
  return refuseField(image, Field.Kind, found, limit);
}

function refuseField(image: Image, field: Field, found: u64, limit: u64): Status {
  return refuse(image.failure, Status.Invalid, Structure.Request, field, 0, found, limit);
}
