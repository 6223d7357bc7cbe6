/**
 * Amend: one property of an image changes. Alone with the image; what the disk holds stays as it is.
 *
 * The header changes last, by one sector; a power cut leaves the old property or the new one.
 */

import { AMEND_NAMES_OFFSET, AmendKind, AmendOptions } from '../abi/amend-options';
import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { alignUp } from '../base/align';
import { storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { requestFlush } from '../cache/write-order';
import {
  AUTOCLEAR_RAW_DATA,
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_DIRTY,
} from '../format/features';
import { HEADER_LENGTH_V2, HeaderOffset, MAXIMUM_NAME_LENGTH, REFCOUNT_ORDER_V2 } from '../format/header';
import { HeaderNames } from '../format/header-writer';
import { EXCLUSIVE_LENGTH, enterExclusive } from '../image/exclusive';
import { changeFeatures } from '../image/header-bits';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { endLazyRefcounts } from '../image/lazy-refcounts';
import { mapRun } from '../image/mapping';
import { Task } from '../image/task';
import { Replacement, replaceEntries } from '../image/unmap';
import { RefcountChange, rebuildRefcounts } from './amend-refcounts';
import { HeaderChange, rewriteHeader } from './rewrite-header';

/** Of a downgrade, in `task.stage`. */
enum Stage {
  /** Is there anything that version 2 cannot hold? */
  Look = 0,
  Replace = 1,
  Flush = 2,
  Clean = 3,
  Rewrite = 4,
}

/** In `image.exclusiveMemory`. */
@unmanaged
class Amend {
  kind: u32 = 0;
  value: u32 = 0;
}

/** Where the parts of the state lie in the exclusive memory. */
const CHANGE_OFFSET: usize = 64;
const NAMES_OFFSET: usize = 256;
const BYTES_OFFSET: usize = 512;

export function stepAmend(image: Image, task: Task): Status {
  if (!task.entered) {
    const status = begin(image, task);
    if (status !== Status.Ok) return status;
  }
  const status = step(image, task, changetype<Amend>(image.exclusiveMemory));
  if (status === Status.Ok) task.committed = true;
  return status;
}

function begin(image: Image, task: Task): Status {
  let status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  if (!image.writable) return refuseAmend(image, Status.ReadOnly, Field.Kind, 0, 0);
  if (image.order.broken) return refuseAmend(image, Status.Broken, Field.Kind, 0, 0);
  const options = changetype<AmendOptions>(image.page);
  status = checkOptions(image, options);
  if (status !== Status.Ok) return status;
  memory.fill(image.exclusiveMemory, 0, EXCLUSIVE_LENGTH);
  const amend = changetype<Amend>(image.exclusiveMemory);
  amend.kind = options.kind;
  amend.value = options.value;
  const change = changeOf(image);
  change.version = options.kind === AmendKind.Downgrade ? 2 : options.kind === AmendKind.Upgrade ? 3 : image.version;
  change.changesBacking = options.kind === AmendKind.BackingFile;
  change.names = changetype<HeaderNames>(image.exclusiveMemory + NAMES_OFFSET);
  keepNames(image, options, change.names);
  task.entered = true;
  task.stage = 0;
  task.cursor = 0;
  const geometry = image.geometry;
  // All that the L1 table maps: what lies behind the end of the disk must make sense in the other version, too.
  const covered = u64(image.l1Size) << (geometry.clusterBits + geometry.l2Bits);
  task.guestEnd = max(alignUp(image.virtualSize, geometry.clusterSize), covered);
  return Status.Ok;
}

/** The page is needed for headers: the names move. */
function keepNames(image: Image, options: AmendOptions, names: HeaderNames): void {
  const bytes = image.exclusiveMemory + BYTES_OFFSET;
  const length = options.backingFileLength + options.backingFormatLength;
  memory.copy(bytes, image.page + AMEND_NAMES_OFFSET, length);
  names.backingFileAddress = u32(bytes);
  names.backingFileLength = options.backingFileLength;
  names.backingFormatAddress = u32(bytes) + options.backingFileLength;
  names.backingFormatLength = options.backingFormatLength;
}

function checkOptions(image: Image, options: AmendOptions): Status {
  const info = image.info;
  if ((info.incompatibleFeatures & INCOMPATIBLE_CORRUPT) !== 0) return refuseFeature(image, Field.CorruptBit);
  // Without TablesOnly it was repaired when it was opened.
  const dirty = (info.incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0;
  if (dirty && image.tablesOnly)
    return refuse(image.failure, Status.Unsupported, Structure.Header, Field.Dirty, 0, 0, 0);
  switch (options.kind) {
    case AmendKind.Upgrade:
      // Version 3 wants more of every snapshot than version 2 has.
      if (image.version === 2 && info.snapshotCount !== 0) return refuseFeature(image, Field.InternalSnapshots);
      return Status.Ok;
    case AmendKind.Downgrade:
      return checkDowngrade(image);
    case AmendKind.LazyRefcounts:
      if (options.value > 1) return refuseAmend(image, Status.Invalid, Field.CompatibleFeatures, options.value, 1);
      if (image.version === 2 && options.value === 1) return refuseAmend(image, Status.Invalid, Field.Version, 2, 3);
      return Status.Ok;
    case AmendKind.BackingFile:
      return checkNames(image, options);
    case AmendKind.DataFileRaw:
      // Only the way back: nobody knows what a data file holds where the image says zeros.
      if (options.value !== 0) return refuseAmend(image, Status.Invalid, Field.DataFile, options.value, 0);
      return Status.Ok;
    case AmendKind.RefcountOrder:
      if (options.value > 6) return refuseAmend(image, Status.Invalid, Field.RefcountOrder, options.value, 6);
      if (image.version === 2 && options.value !== REFCOUNT_ORDER_V2) {
        return refuseAmend(image, Status.Invalid, Field.RefcountOrder, options.value, REFCOUNT_ORDER_V2);
      }
      return Status.Ok;
    default:
      return refuseAmend(image, Status.Invalid, Field.Kind, options.kind, AmendKind.RefcountOrder);
  }
}

function checkNames(image: Image, options: AmendOptions): Status {
  const file = options.backingFileLength;
  const format = options.backingFormatLength;
  if (file > MAXIMUM_NAME_LENGTH) return refuseAmend(image, Status.Invalid, Field.BackingFileLength, file, 1023);
  if (format > MAXIMUM_NAME_LENGTH) return refuseAmend(image, Status.Invalid, Field.BackingFormatLength, format, 1023);
  if (file === 0 && format !== 0) return refuseAmend(image, Status.Invalid, Field.BackingFile, 0, 1);
  const raw = (image.info.autoclearFeatures & AUTOCLEAR_RAW_DATA) !== 0;
  return raw && file !== 0 ? refuseFeature(image, Field.DataFile) : Status.Ok;
}

function checkDowngrade(image: Image): Status {
  const info = image.info;
  const order = image.geometry.refcountOrder;
  if (order !== REFCOUNT_ORDER_V2) {
    return refuseAmend(image, Status.Invalid, Field.RefcountOrder, order, REFCOUNT_ORDER_V2);
  }
  const features = info.incompatibleFeatures & ~INCOMPATIBLE_DIRTY;
  if (features !== 0) {
    const field = (features & INCOMPATIBLE_DATA_FILE) !== 0 ? Field.DataFile : Field.IncompatibleFeatures;
    return refuse(image.failure, Status.Unsupported, Structure.Request, field, 0, features, 0);
  }
  if (info.snapshotCount !== 0) return refuseFeature(image, Field.InternalSnapshots);
  return image.bitmaps.count === 0 ? Status.Ok : refuseFeature(image, Field.Bitmaps);
}

function step(image: Image, task: Task, amend: Amend): Status {
  switch (amend.kind) {
    case AmendKind.Upgrade:
      return setVersion(image, task, 3);
    case AmendKind.Downgrade:
      return downgrade(image, task);
    case AmendKind.LazyRefcounts:
      return setLazyRefcounts(image, task, amend.value !== 0);
    case AmendKind.BackingFile:
      return rewriteHeader(image, task, changeOf(image));
    case AmendKind.DataFileRaw: {
      const features = image.info.autoclearFeatures & ~AUTOCLEAR_RAW_DATA;
      const status = storeFeatures(image, task, HeaderOffset.AutoclearFeatures, image.info.autoclearFeatures, features);
      if (status === Status.Ok) image.info.autoclearFeatures = features;
      return status;
    }
    default: {
      const change = changetype<RefcountChange>(image.exclusiveMemory + CHANGE_OFFSET);
      change.order = amend.value;
      return rebuildRefcounts(image, task, change);
    }
  }
}

function setVersion(image: Image, task: Task, version: u32): Status {
  if (image.version === version) return Status.Ok;
  const status = rewriteHeader(image, task, changeOf(image));
  if (status !== Status.Ok) return status;
  image.version = version;
  image.info.version = version;
  image.info.compatibleFeatures = 0;
  image.info.autoclearFeatures = 0;
  image.info.headerLength = version === 2 ? HEADER_LENGTH_V2 : image.info.headerLength;
  return Status.Ok;
}

/** Zero clusters become unallocated first, which is the same as long as no backing file shows through. */
function downgrade(image: Image, task: Task): Status {
  if (image.version === 2) return Status.Ok;
  let status: Status = Status.Ok;
  if (task.stage <= u32(Stage.Replace)) {
    status = replaceZeroes(image, task);
    if (status !== Status.Ok) return status;
    task.stage = Stage.Clean;
    endLazyRefcounts(image);
    requestFlush(image.order, task);
    return Status.Miss;
  }
  if (task.stage === Stage.Clean) {
    status = changeFeatures(image, task, 0, INCOMPATIBLE_DIRTY);
    if (status !== Status.Ok) return status;
    task.stage = Stage.Rewrite;
  }
  return setVersion(image, task, 2);
}

/** Twice over all that is mapped: the first time nothing changes. */
function replaceZeroes(image: Image, task: Task): Status {
  while (true) {
    while (task.cursor < task.guestEnd) {
      let status = mapRun(image, task, task.cursor, task.guestEnd - task.cursor);
      if (status !== Status.Ok) return status;
      const kind = image.run.kind;
      const zero = kind === ExtentKind.ZeroPlain || kind === ExtentKind.ZeroAllocated;
      if (zero && image.info.backingFileLength !== 0) return refuseFeature(image, Field.BackingFile);
      if (!zero || task.stage === Stage.Look) {
        task.cursor += image.run.length;
        continue;
      }
      status = replaceEntries(image, task, Replacement.Unallocated);
      if (status !== Status.Ok) return status;
    }
    if (task.stage === Stage.Replace) return Status.Ok;
    task.stage = Stage.Replace;
    task.cursor = 0;
  }
}

function setLazyRefcounts(image: Image, task: Task, wanted: bool): Status {
  if (image.version < 3) return Status.Ok;
  const info = image.info;
  const features = wanted
    ? info.compatibleFeatures | COMPATIBLE_LAZY_REFCOUNTS
    : info.compatibleFeatures & ~COMPATIBLE_LAZY_REFCOUNTS;
  if (!wanted && (info.incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0) {
    // Without the promise to repair, the refcounts have to be right.
    if (task.stage === 0) {
      task.stage = 1;
      endLazyRefcounts(image);
      requestFlush(image.order, task);
      return Status.Miss;
    }
    const status = changeFeatures(image, task, 0, INCOMPATIBLE_DIRTY);
    if (status !== Status.Ok) return status;
  }
  const status = storeFeatures(image, task, HeaderOffset.CompatibleFeatures, info.compatibleFeatures, features);
  if (status === Status.Ok) info.compatibleFeatures = features;
  return status;
}

/** Stores feature bits in the header; Ok at once when they are what they were. */
function storeFeatures(image: Image, task: Task, offset: HeaderOffset, before: u64, features: u64): Status {
  if (before === features) return Status.Ok;
  const status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU64(image.headerSector + offset, features);
  return commitHeaderSector(image, task);
}

function changeOf(image: Image): HeaderChange {
  return changetype<HeaderChange>(image.exclusiveMemory + CHANGE_OFFSET);
}

function refuseAmend(image: Image, status: Status, field: Field, found: u64, limit: u64): Status {
  return refuse(image.failure, status, Structure.Request, field, 0, found, limit);
}

function refuseFeature(image: Image, field: Field): Status {
  return refuse(image.failure, Status.Unsupported, Structure.Request, field, 0, 0, 0);
}
