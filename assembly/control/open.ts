/** Open: read the header and its extensions, judge every feature by name, get the cache ready. */

import { ConfigurationFlag, PAGE_LENGTH } from '../abi/configuration';
import { Field, Structure } from '../abi/failure';
import { OperationFile } from '../abi/operation';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU32, loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { flush, Owner, readModule, writeModule } from '../block';
import { openTableCache } from '../cache/table-cache';
import { openStaging } from '../cache/write-order';
import {
  AUTOCLEAR_KNOWN,
  AUTOCLEAR_RAW_DATA,
  FEATURE_ENTRY_SIZE,
  FEATURE_NAME_LENGTH,
  INCOMPATIBLE_COMPRESSION,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_DIRTY,
  INCOMPATIBLE_KNOWN,
} from '../format/features';
import {
  CRYPT_LUKS,
  CRYPT_NONE,
  checkSnapshotCount,
  checkSnapshots,
  HEADER_LENGTH_V3,
  HeaderOffset,
  MAXIMUM_NAME_LENGTH,
  MAXIMUM_SNAPSHOTS,
  readHeader,
} from '../format/header';
import { EXTENSION_HEADER_SIZE, ExtensionType, LUKS_POINTER_SIZE, paddedLength } from '../format/header-extensions';
import { loadTracked, startLoad } from '../image/bitmap-track';
import { Image, ImageState, MAXIMUM_HOST_OFFSET } from '../image/image';
import { parkOnOperation, Task } from '../image/task';
import { readBitmaps } from './bitmap-open';
import { judgeTable, startJudging } from './snapshot-find';
import { keepSelection, selectSnapshot, startSelection } from './snapshot-select';

enum Stage {
  ReadHeader = 0,
  Judge = 1,
  FlushHeader = 2,
  Ready = 3,
  Select = 4,
  LoadBitmaps = 5,
  JudgeSnapshots = 6,
}

const SECTOR: u32 = 512;

export function stepOpen(image: Image, task: Task): Status {
  switch (task.stage) {
    case Stage.ReadHeader:
      if (image.state !== ImageState.Fresh) return Status.Invalid;
      image.state = ImageState.Opening;
      if ((task.flags & RequestFlag.Snapshot) !== 0) {
        if ((task.flags & RequestFlag.Writable) !== 0) return Status.Invalid;
        const status = keepSelection(image);
        if (status !== Status.Ok) return status;
      }
      task.stage = Stage.Judge;
      readModule(image.operations, Owner.Task, changetype<usize>(task), 0, image.page, PAGE_LENGTH);
      return parkOnOperation(task);
    case Stage.Judge:
      return judge(image, task);
    case Stage.FlushHeader:
      task.stage = Stage.Ready;
      flush(image.operations, Owner.Task, changetype<usize>(task));
      return parkOnOperation(task);
    case Stage.Ready:
      return becomeReady(image, task);
    case Stage.JudgeSnapshots:
      return judgeSnapshots(image, task);
    case Stage.LoadBitmaps:
      return becomeOpen(image, task);
    default:
      return select(image, task);
  }
}

function judge(image: Image, task: Task): Status {
  const info = image.info;
  let status = readHeader(image.page, image.configuration.fileLength, info, image.geometry, image.failure);
  if (status !== Status.Ok) return status;
  status = countSnapshots(image, task);
  if (status !== Status.Ok) return status;
  status = readExtensions(image);
  if (status !== Status.Ok) return status;
  status = checkFeatures(image);
  if (status !== Status.Ok) return status;
  // Who only reads does without bitmaps that make no sense.
  const bitmaps = readBitmaps(image);
  image.bitmaps.damaged = bitmaps !== Status.Ok;
  if ((task.flags & RequestFlag.Inspect) !== 0) return becomeReady(image, task);
  status = refuseUnreadable(image, task);
  if (status !== Status.Ok) return status;
  if ((task.flags & RequestFlag.Writable) === 0) return becomeReady(image, task);

  status = refuseUnwritable(image, task);
  if (status !== Status.Ok) return status;
  if (bitmaps !== Status.Ok) return readBitmaps(image);
  if ((info.autoclearFeatures & ~AUTOCLEAR_KNOWN) === 0 || isDirty(image)) return becomeReady(image, task);
  return clearAutoclear(image, task);
}

/** As QEMU: who may repair the image goes on with as many snapshots as there may be. */
function countSnapshots(image: Image, task: Task): Status {
  const info = image.info;
  const repairs: u32 = RequestFlag.Writable | RequestFlag.TablesOnly;
  image.overhangingSnapshots = 0;
  if ((task.flags & (repairs | RequestFlag.Inspect)) !== repairs) return checkSnapshotCount(info, image.failure);
  if (info.snapshotCount <= MAXIMUM_SNAPSHOTS) return Status.Ok;
  image.overhangingSnapshots = info.snapshotCount - MAXIMUM_SNAPSHOTS;
  info.snapshotCount = MAXIMUM_SNAPSHOTS;
  return checkSnapshots(info, image.geometry, image.failure);
}

/** Notes where names lie in the page; every length is checked before anything is looked at. */
function readExtensions(image: Image): Status {
  const info = image.info;
  const page = image.page;
  info.backingFormatLength = 0;
  info.dataFileLength = 0;
  info.featureNamesLength = 0;
  info.encryptionHeaderOffset = 0;
  info.encryptionHeaderLength = 0;
  image.bitmaps.extensionAddress = 0;
  const nameOffset = info.backingFileLength === 0 ? 0 : loadU64(page + HeaderOffset.BackingFileOffset);
  const clusterEnd = nameOffset === 0 ? u64(image.geometry.clusterSize) : nameOffset;
  const end = min(clusterEnd, info.fileLength);
  let offset = u64(info.headerLength);
  while (offset + EXTENSION_HEADER_SIZE <= end) {
    if (offset + EXTENSION_HEADER_SIZE > PAGE_LENGTH)
      return refuseExtension(image, Status.TooLarge, offset, offset, PAGE_LENGTH);
    const type = loadU32(page + usize(offset));
    const length = loadU32(page + usize(offset) + 4);
    if (type === ExtensionType.End) break;
    offset += EXTENSION_HEADER_SIZE;
    if (u64(length) > end - offset) return refuseExtension(image, Status.Corrupt, offset, length, end - offset);
    if (offset + length > PAGE_LENGTH) return refuseExtension(image, Status.TooLarge, offset, length, PAGE_LENGTH);
    const status = noteExtension(image, type, offset, length);
    if (status !== Status.Ok) return status;
    offset += paddedLength(length);
  }
  if (info.backingFileLength !== 0) {
    if (nameOffset + info.backingFileLength > PAGE_LENGTH) {
      return refuseExtension(image, Status.TooLarge, nameOffset, info.backingFileLength, PAGE_LENGTH);
    }
    info.backingFileAddress = u32(page) + u32(nameOffset);
  }
  return Status.Ok;
}

function noteExtension(image: Image, type: u32, offset: u64, length: u32): Status {
  const info = image.info;
  const address = u32(image.page) + u32(offset);
  switch (type) {
    case ExtensionType.BackingFormat:
      if (length > MAXIMUM_NAME_LENGTH)
        return refuseExtension(image, Status.Corrupt, offset, length, MAXIMUM_NAME_LENGTH);
      info.backingFormatAddress = address;
      info.backingFormatLength = length;
      break;
    case ExtensionType.DataFile:
      if (length > MAXIMUM_NAME_LENGTH)
        return refuseExtension(image, Status.Corrupt, offset, length, MAXIMUM_NAME_LENGTH);
      info.dataFileAddress = address;
      info.dataFileLength = length;
      break;
    case ExtensionType.FeatureNames:
      info.featureNamesAddress = address;
      info.featureNamesLength = length;
      break;
    case ExtensionType.LuksHeader:
      // What is wrong with it is no business of those who only look at the header.
      if (length !== LUKS_POINTER_SIZE) break;
      info.encryptionHeaderOffset = loadU64(address);
      info.encryptionHeaderLength = loadU64(address + 8);
      break;
    case ExtensionType.Bitmaps:
      image.bitmaps.extensionAddress = address;
      image.bitmaps.extensionLength = length;
      break;
    default:
      break;
  }
  return Status.Ok;
}

/** What nobody may ignore, not even `info`. */
function checkFeatures(image: Image): Status {
  const info = image.info;
  const unknown = info.incompatibleFeatures & ~INCOMPATIBLE_KNOWN;
  if (unknown !== 0) {
    const status = refuse(
      image.failure,
      Status.Unsupported,
      Structure.Header,
      Field.IncompatibleFeatures,
      HeaderOffset.IncompatibleFeatures,
      unknown,
      INCOMPATIBLE_KNOWN,
    );
    nameFeature(image, u32(ctz(unknown)));
    return status;
  }
  const zstd = (info.incompatibleFeatures & INCOMPATIBLE_COMPRESSION) !== 0;
  const byteThere = info.headerLength > HEADER_LENGTH_V3;
  if (info.compressionType > 1 || zstd !== (info.compressionType !== 0) || (zstd && !byteThere)) {
    return refuse(
      image.failure,
      Status.Corrupt,
      Structure.Header,
      Field.CompressionType,
      HeaderOffset.CompressionType,
      info.compressionType,
      u64(zstd),
    );
  }
  return Status.Ok;
}

/** Looks the bit up in the feature name table, for the message. */
function nameFeature(image: Image, bit: u32): void {
  const info = image.info;
  const INCOMPATIBLE_KIND: u8 = 0;
  for (let at: u32 = 0; at + FEATURE_ENTRY_SIZE <= info.featureNamesLength; at += FEATURE_ENTRY_SIZE) {
    const entry: usize = info.featureNamesAddress + at;
    if (load<u8>(entry) !== INCOMPATIBLE_KIND || load<u8>(entry + 1) !== u8(bit)) continue;
    let length: u32 = 0;
    while (length < FEATURE_NAME_LENGTH && load<u8>(entry + 2 + length) !== 0) length++;
    image.failure.nameAddress = u32(entry) + 2;
    image.failure.nameLength = length;
    return;
  }
}

function refuseUnreadable(image: Image, task: Task): Status {
  const info = image.info;
  const guest = (task.flags & RequestFlag.TablesOnly) === 0;
  if ((info.incompatibleFeatures & INCOMPATIBLE_DATA_FILE) !== 0) {
    image.hasDataFile = true;
    image.isDataRaw = (info.autoclearFeatures & AUTOCLEAR_RAW_DATA) !== 0;
    const opened = (image.configuration.flags & ConfigurationFlag.DataFile) !== 0;
    if (guest && !opened) return refuseFeature(image, Field.DataFile);
  }
  if (guest && info.cryptMethod !== CRYPT_NONE) return refuseFeature(image, Field.Encryption);
  const luks = checkEncryption(image);
  if (luks !== Status.Ok) return luks;
  const backed = info.backingFileLength !== 0 && guest;
  image.hasBacking = backed && (image.configuration.flags & ConfigurationFlag.Backing) !== 0;
  if (backed && !image.hasBacking) return refuseFeature(image, Field.BackingFile);
  return Status.Ok;
}

/** Who counts references has to know which clusters the LUKS header has. As QEMU: no other method has one. */
function checkEncryption(image: Image): Status {
  const info = image.info;
  const offset = info.encryptionHeaderOffset;
  const clusterSize = image.geometry.clusterSize;
  const told = info.encryptionHeaderLength !== 0;
  const placed = told && offset !== 0 && isAligned(offset, clusterSize);
  if (info.cryptMethod === CRYPT_LUKS ? placed : !told) return Status.Ok;
  const structure = Structure.HeaderExtension;
  return refuse(image.failure, Status.Corrupt, structure, Field.Encryption, info.headerLength, offset, clusterSize);
}

function isDirty(image: Image): bool {
  return (image.info.incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0;
}

function refuseUnwritable(image: Image, task: Task): Status {
  if ((task.flags & RequestFlag.TablesOnly) !== 0) return Status.Ok;
  const info = image.info;
  if ((info.incompatibleFeatures & INCOMPATIBLE_CORRUPT) !== 0) return refuseFeature(image, Field.CorruptBit);
  const lazy = (image.configuration.flags & ConfigurationFlag.LazyRefcounts) !== 0;
  if (lazy && info.version < 3) return refuseFeature(image, Field.CompatibleFeatures);
  // A snapshot's clusters could not stay where they are.
  if (image.hasDataFile && info.snapshotCount !== 0) return refuseFeature(image, Field.InternalSnapshots);
  const copies = (image.configuration.flags & ConfigurationFlag.Scratch) !== 0;
  if (info.snapshotCount !== 0 && !copies) return refuseFeature(image, Field.InternalSnapshots);
  if (image.hasBacking && !copies) return refuseFeature(image, Field.BackingFile);
  return Status.Ok;
}

/** The specification asks every writer to clear the bits that it does not know, before its first change. */
function clearAutoclear(image: Image, task: Task): Status {
  const info = image.info;
  info.autoclearFeatures &= AUTOCLEAR_KNOWN;
  storeU64(image.page + HeaderOffset.AutoclearFeatures, info.autoclearFeatures);
  task.stage = Stage.FlushHeader;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), 0, image.page, SECTOR);
  return parkOnOperation(task);
}

/** Everything that is known without looking at a table. */
function becomeReady(image: Image, task: Task): Status {
  const info = image.info;
  const geometry = image.geometry;
  image.version = info.version;
  image.virtualSize = info.virtualSize;
  image.fileLength = info.fileLength;
  image.dataFileLength = image.configuration.dataFileLength;
  image.operations.dataFile = image.hasDataFile ? OperationFile.Data : OperationFile.Image;
  image.l1Offset = info.l1TableOffset;
  image.l1Size = info.l1Size;
  image.refcountTableOffset = info.refcountTableOffset;
  image.refcountTableClusters = info.refcountTableClusters;
  const fileClusters = (info.fileLength + geometry.clusterSize - 1) >> geometry.clusterBits;
  const zeroBeyondEnd = (image.configuration.flags & ConfigurationFlag.ZeroBeyondEnd) !== 0;
  image.virginOffset = zeroBeyondEnd ? fileClusters << geometry.clusterBits : 0xffffffffffffffff;
  // A regular file grows behind its end, and what is free in front of it is found by and by. A device cannot grow: there
  // the frontier itself walks over everything once.
  image.frontier = zeroBeyondEnd ? fileClusters : 0;
  image.frontierEnd = zeroBeyondEnd
    ? MAXIMUM_HOST_OFFSET >> geometry.clusterBits
    : info.fileLength >> geometry.clusterBits;
  image.scanCluster = 0;
  image.scanEnd = image.frontier;
  openTableCache(image.cache, image.cacheMemory, image.cacheLength, geometry.sliceBits);
  openStaging(image.order);
  if ((task.flags & RequestFlag.Inspect) !== 0) {
    image.state = ImageState.Inspected;
    return Status.Ok;
  }
  image.writable = (task.flags & RequestFlag.Writable) !== 0;
  image.tablesOnly = (task.flags & RequestFlag.TablesOnly) !== 0;
  if ((task.flags & RequestFlag.Snapshot) !== 0) {
    task.stage = Stage.Select;
    startSelection(image);
    return select(image, task);
  }
  task.stage = Stage.JudgeSnapshots;
  startJudging(image);
  return judgeSnapshots(image, task);
}

/** As QEMU: an image whose snapshots cannot be read is only opened to be repaired. */
function judgeSnapshots(image: Image, task: Task): Status {
  if (!image.tablesOnly) {
    const status = judgeTable(image, task);
    if (status !== Status.Ok) return status;
    // It is repaired then, which cuts off what is wrong with the snapshots: that must have been refused before.
    if (image.writable && isDirty(image)) return refuseFeature(image, Field.Dirty);
  }
  task.stage = Stage.LoadBitmaps;
  startLoad(image);
  return becomeOpen(image, task);
}

/** Who writes has to know which bitmaps note it. */
function becomeOpen(image: Image, task: Task): Status {
  if (image.writable) {
    const status = loadTracked(image, task);
    if (status !== Status.Ok) return status;
  }
  image.state = ImageState.Open;
  return Status.Ok;
}

function select(image: Image, task: Task): Status {
  const status = selectSnapshot(image, task);
  if (status === Status.Ok) image.state = ImageState.Open;
  return status;
}

function refuseFeature(image: Image, field: Field): Status {
  return refuse(image.failure, Status.Unsupported, Structure.Header, field, 0, 0, 0);
}

function refuseExtension(image: Image, status: Status, offset: u64, found: u64, limit: u64): Status {
  return refuse(image.failure, status, Structure.HeaderExtension, Field.ExtensionLength, offset, found, limit);
}
