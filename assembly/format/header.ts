/**
 * The header (specification, "Header"): where each field lies and what it may be. Everything is checked against the
 * format's limits (QEMU's where the specification has none, block/qcow2.h) and against the file's length, before any
 * value is used for arithmetic.
 */

import { Failure, Field, Structure } from '../abi/failure';
import { ImageInfo } from '../abi/image-info';
import { Status } from '../abi/status';
import { loadU32, loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { INCOMPATIBLE_EXTENDED_L2 } from './features';
import { Geometry, l1EntriesFor, setGeometry } from './geometry';
import { MINIMUM_EXTENDED_CLUSTER_BITS } from './l2-subclusters';

/** Bytes from the start of the file. */
export enum HeaderOffset {
  Magic = 0,
  Version = 4,
  BackingFileOffset = 8,
  BackingFileLength = 16,
  ClusterBits = 20,
  Size = 24,
  CryptMethod = 32,
  L1Size = 36,
  L1TableOffset = 40,
  RefcountTableOffset = 48,
  RefcountTableClusters = 56,
  SnapshotCount = 60,
  SnapshotsOffset = 64,
  IncompatibleFeatures = 72,
  CompatibleFeatures = 80,
  AutoclearFeatures = 88,
  RefcountOrder = 96,
  HeaderLength = 100,
  CompressionType = 104,
}

/** "QFI\xfb". */
export const MAGIC: u32 = 0x514649fb;
export const HEADER_LENGTH_V2: u32 = 72;
export const HEADER_LENGTH_V3: u32 = 104;
/** The longest header whose fields are known: with the compression type. */
export const HEADER_LENGTH_KNOWN: u32 = 112;
/** Values of the encryption method; 1 is AES-CBC, which has no header of its own. */
export const CRYPT_NONE: u32 = 0;
export const CRYPT_LUKS: u32 = 2;
/** 16-bit refcounts, all that version 2 has. */
export const REFCOUNT_ORDER_V2: u32 = 4;

export const MINIMUM_CLUSTER_BITS: u32 = 9;
export const MAXIMUM_CLUSTER_BITS: u32 = 21;
export const MAXIMUM_L1_LENGTH: u64 = 33554432;
export const MAXIMUM_REFCOUNT_TABLE_LENGTH: u64 = 8388608;
export const MAXIMUM_SNAPSHOTS: u32 = 65536;
export const MAXIMUM_NAME_LENGTH: u32 = 1023;
/** Bytes of a snapshot table entry without its names and extra data. */
const MINIMUM_SNAPSHOT_ENTRY: u64 = 40;

/**
 * Reads the header at `address`, of which `available` bytes are of the file, into `info` and `geometry`. Ok when every
 * field is possible; features are judged elsewhere.
 */
export function readHeader(
  address: usize,
  available: u64,
  info: ImageInfo,
  geometry: Geometry,
  failure: Failure,
): Status {
  if (available < 8 || loadU32(address) !== MAGIC) {
    const found: u64 = available < 4 ? 0 : loadU32(address);
    return refuse(failure, Status.NotQcow2, Structure.Header, Field.Magic, 0, found, MAGIC);
  }
  info.fileLength = available;
  info.version = loadU32(address + HeaderOffset.Version);
  if (info.version < 2 || info.version > 3) {
    return refuseField(failure, Status.Unsupported, Field.Version, HeaderOffset.Version, info.version, 3);
  }
  const needed = info.version === 2 ? HEADER_LENGTH_V2 : HEADER_LENGTH_V3;
  if (available < needed) return refuseField(failure, Status.Corrupt, Field.Truncated, 0, available, needed);

  const clusterBits = loadU32(address + HeaderOffset.ClusterBits);
  if (clusterBits < MINIMUM_CLUSTER_BITS || clusterBits > MAXIMUM_CLUSTER_BITS) {
    return refuseField(
      failure,
      Status.Corrupt,
      Field.ClusterBits,
      HeaderOffset.ClusterBits,
      clusterBits,
      MAXIMUM_CLUSTER_BITS,
    );
  }
  info.clusterBits = clusterBits;
  const status = info.version === 2 ? setVersion2(info) : readVersion3(address, info, failure);
  if (status !== Status.Ok) return status;
  const extended = (info.incompatibleFeatures & INCOMPATIBLE_EXTENDED_L2) !== 0;
  if (extended && clusterBits < MINIMUM_EXTENDED_CLUSTER_BITS) {
    return refuseField(
      failure,
      Status.Corrupt,
      Field.ExtendedL2,
      HeaderOffset.ClusterBits,
      clusterBits,
      MINIMUM_EXTENDED_CLUSTER_BITS,
    );
  }
  setGeometry(geometry, clusterBits, info.refcountOrder, extended);

  readFields(address, info);
  return checkFields(address, info, geometry, failure);
}

function setVersion2(info: ImageInfo): Status {
  info.incompatibleFeatures = 0;
  info.compatibleFeatures = 0;
  info.autoclearFeatures = 0;
  info.refcountOrder = REFCOUNT_ORDER_V2;
  info.headerLength = HEADER_LENGTH_V2;
  info.compressionType = 0;
  return Status.Ok;
}

function readVersion3(address: usize, info: ImageInfo, failure: Failure): Status {
  info.incompatibleFeatures = loadU64(address + HeaderOffset.IncompatibleFeatures);
  info.compatibleFeatures = loadU64(address + HeaderOffset.CompatibleFeatures);
  info.autoclearFeatures = loadU64(address + HeaderOffset.AutoclearFeatures);
  info.refcountOrder = loadU32(address + HeaderOffset.RefcountOrder);
  info.headerLength = loadU32(address + HeaderOffset.HeaderLength);
  const length = info.headerLength;
  if (length < HEADER_LENGTH_V3 || (length & 7) !== 0 || length > u32(1) << info.clusterBits) {
    return refuseField(
      failure,
      Status.Corrupt,
      Field.HeaderLength,
      HeaderOffset.HeaderLength,
      length,
      u64(1) << info.clusterBits,
    );
  }
  if (length > info.fileLength)
    return refuseField(failure, Status.Corrupt, Field.Truncated, 0, info.fileLength, length);
  if (info.refcountOrder > 6) {
    return refuseField(failure, Status.Corrupt, Field.RefcountOrder, HeaderOffset.RefcountOrder, info.refcountOrder, 6);
  }
  info.compressionType = length > HEADER_LENGTH_V3 ? load<u8>(address + HeaderOffset.CompressionType) : 0;
  return Status.Ok;
}

function readFields(address: usize, info: ImageInfo): void {
  // QEMU counts whole sectors: the part of a sector behind the last one does not exist.
  info.virtualSize = loadU64(address + HeaderOffset.Size) & ~u64(511);
  info.cryptMethod = loadU32(address + HeaderOffset.CryptMethod);
  info.l1Size = loadU32(address + HeaderOffset.L1Size);
  info.l1TableOffset = loadU64(address + HeaderOffset.L1TableOffset);
  info.refcountTableOffset = loadU64(address + HeaderOffset.RefcountTableOffset);
  info.refcountTableClusters = loadU32(address + HeaderOffset.RefcountTableClusters);
  info.snapshotCount = loadU32(address + HeaderOffset.SnapshotCount);
  info.snapshotsOffset = loadU64(address + HeaderOffset.SnapshotsOffset);
}

function checkFields(address: usize, info: ImageInfo, geometry: Geometry, failure: Failure): Status {
  if (info.cryptMethod > CRYPT_LUKS) {
    const method = info.cryptMethod;
    return refuseField(failure, Status.Corrupt, Field.CryptMethod, HeaderOffset.CryptMethod, method, CRYPT_LUKS);
  }
  let status = checkBacking(address, info, geometry, failure);
  if (status !== Status.Ok) return status;
  status = checkL1(info, geometry, failure);
  if (status !== Status.Ok) return status;
  status = checkRefcountTable(info, geometry, failure);
  if (status !== Status.Ok) return status;
  return checkSnapshots(info, geometry, failure);
}

/** The name lies in the first cluster, behind the header. */
function checkBacking(address: usize, info: ImageInfo, geometry: Geometry, failure: Failure): Status {
  const offset = loadU64(address + HeaderOffset.BackingFileOffset);
  const length = loadU32(address + HeaderOffset.BackingFileLength);
  info.backingFileLength = 0;
  if (offset === 0) return Status.Ok;
  if (length > MAXIMUM_NAME_LENGTH) {
    return refuseField(
      failure,
      Status.Corrupt,
      Field.BackingFileLength,
      HeaderOffset.BackingFileLength,
      length,
      MAXIMUM_NAME_LENGTH,
    );
  }
  const end = min(u64(geometry.clusterSize), info.fileLength);
  if (offset < info.headerLength || offset > end || u64(length) > end - offset) {
    return refuseField(failure, Status.Corrupt, Field.BackingFileOffset, HeaderOffset.BackingFileOffset, offset, end);
  }
  info.backingFileLength = length;
  return Status.Ok;
}

function checkL1(info: ImageInfo, geometry: Geometry, failure: Failure): Status {
  const length = u64(info.l1Size) << 3;
  if (length > MAXIMUM_L1_LENGTH) {
    return refuseField(failure, Status.Corrupt, Field.L1Size, HeaderOffset.L1Size, info.l1Size, MAXIMUM_L1_LENGTH >> 3);
  }
  // Sizes near 2^64 would overflow the count of entries; they need far more entries than the table may have.
  const needed = l1EntriesFor(geometry, info.virtualSize);
  if (info.virtualSize > 0x7fffffffffffffff || needed > info.l1Size) {
    const covered = u64(info.l1Size) << (geometry.clusterBits + geometry.l2Bits);
    return refuseField(failure, Status.Corrupt, Field.Size, HeaderOffset.Size, info.virtualSize, covered);
  }
  return checkTable(
    failure,
    Field.L1TableOffset,
    HeaderOffset.L1TableOffset,
    info.l1TableOffset,
    length,
    info,
    geometry,
  );
}

function checkRefcountTable(info: ImageInfo, geometry: Geometry, failure: Failure): Status {
  const clusters = info.refcountTableClusters;
  const limit = MAXIMUM_REFCOUNT_TABLE_LENGTH >> geometry.clusterBits;
  if (clusters === 0 || clusters > limit) {
    return refuseField(
      failure,
      Status.Corrupt,
      Field.RefcountTableClusters,
      HeaderOffset.RefcountTableClusters,
      clusters,
      limit,
    );
  }
  // The last cluster of a file may be cut short.
  const length = (u64(clusters - 1) << geometry.clusterBits) + 1;
  return checkTable(
    failure,
    Field.RefcountTableOffset,
    HeaderOffset.RefcountTableOffset,
    info.refcountTableOffset,
    length,
    info,
    geometry,
  );
}

/** Judges where the snapshot table lies; once more when its length has become another. */
export function checkSnapshots(info: ImageInfo, geometry: Geometry, failure: Failure): Status {
  if (info.snapshotCount === 0) {
    // Whatever the field says: nothing there is a table, to be read or to be released.
    info.snapshotsOffset = 0;
    return Status.Ok;
  }
  // Not even where the table must end is known: see `checkSnapshotCount`.
  if (info.snapshotCount > MAXIMUM_SNAPSHOTS) return Status.Ok;
  return checkTable(
    failure,
    Field.SnapshotsOffset,
    HeaderOffset.SnapshotsOffset,
    info.snapshotsOffset,
    u64(info.snapshotCount) * MINIMUM_SNAPSHOT_ENTRY,
    info,
    geometry,
  );
}

/** More snapshots than a table may have; a repair drops those. */
export function checkSnapshotCount(info: ImageInfo, failure: Failure): Status {
  const count = info.snapshotCount;
  if (count <= MAXIMUM_SNAPSHOTS) return Status.Ok;
  const field = Field.SnapshotCount;
  return refuseField(failure, Status.Corrupt, field, HeaderOffset.SnapshotCount, count, MAXIMUM_SNAPSHOTS);
}

/** A table that has bytes begins at a cluster behind the header's and ends inside the file. */
function checkTable(
  failure: Failure,
  field: Field,
  fieldOffset: HeaderOffset,
  offset: u64,
  length: u64,
  info: ImageInfo,
  geometry: Geometry,
): Status {
  if (length === 0) return Status.Ok;
  const wrong = (offset & (u64(geometry.clusterSize) - 1)) !== 0 || offset < geometry.clusterSize;
  if (wrong || offset > info.fileLength || length > info.fileLength - offset) {
    return refuseField(failure, Status.Corrupt, field, fieldOffset, offset, info.fileLength);
  }
  return Status.Ok;
}

function refuseField(failure: Failure, status: Status, field: Field, offset: u32, found: u64, limit: u64): Status {
  return refuse(failure, status, Structure.Header, field, offset, found, limit);
}
