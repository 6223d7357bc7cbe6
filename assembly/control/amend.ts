/**
 * Amend: one property of an image changes. Alone with the image; what the disk holds stays as it is.
 *
 * The header changes last, by one sector; a power cut leaves the old property or the new one.
 */

import { AMEND_NAMES_OFFSET, AmendKind, AmendOptions } from '../abi/amend-options';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { alignUp } from '../base/align';
import { storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { requestFlush } from '../cache/write-order';
import {
  AUTOCLEAR_RAW_DATA,
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_COMPRESSION,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_DIRTY,
} from '../format/features';
import { HEADER_LENGTH_V2, HeaderOffset, MAXIMUM_NAME_LENGTH, REFCOUNT_ORDER_V2 } from '../format/header';
import { HeaderNames } from '../format/header-writer';
import { repairedExtraData, SNAPSHOT_ALIGNMENT } from '../format/snapshot-table';
import { EXCLUSIVE_LENGTH, enterExclusive } from '../image/exclusive';
import { changeFeatures } from '../image/header-bits';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { endLazyRefcounts } from '../image/lazy-refcounts';
import { checkTableOverlap } from '../image/overlap';
import { settle } from '../image/settle';
import {
  abandonTableCopy,
  isTableSwitched,
  startTableCopy,
  stepTableCopy,
  TableCopy,
} from '../image/snapshot-table-copy';
import { Task } from '../image/task';
import { RefcountChange, rebuildRefcounts } from './amend-refcounts';
import { startSweep, stepSweep, TableSweep } from './amend-tables';
import { abandonZeroes, ZeroClusters } from './amend-zeroes';
import { HeaderChange, rewriteHeader } from './rewrite-header';
import { EntryCursor, needEntry, nextEntry, openEntries } from './snapshot-entry';
import { SnapshotState } from './snapshot-state';
import { TableReferences } from './table-references';

/** Of a downgrade, in `task.stage`. */
enum Stage {
  /** Is there anything that version 2 cannot hold? */
  Look = 0,
  Replace = 1,
  Flush = 2,
  Clean = 3,
  Rewrite = 4,
}

/** Of an upgrade. */
enum UpgradeStage {
  /** What the snapshots say is looked at. */
  Look = 0,
  /** Nothing may be on its way to being free before the table moves. */
  Settle = 1,
  Copy = 2,
  Rewrite = 3,
}

/** In `image.exclusiveMemory`. */
@unmanaged
class Amend {
  kind: u32 = 0;
  value: u32 = 0;
  /** The walk of an upgrade or a downgrade has begun. */
  walks: bool = false;
  /** Upgrade: entries of the snapshot table lack something. */
  lacks: bool = false;
  /** Bytes of that table when they do not. */
  tableLength: u64 = 0;
}

/** Where the parts of the state lie in the exclusive memory. */
const CHANGE_OFFSET: usize = 64;
const NAMES_OFFSET: usize = 256;
const BYTES_OFFSET: usize = 512;
const SWEEP_OFFSET: usize = 2560;
const CURSOR_OFFSET: usize = 2688;
const STATE_OFFSET: usize = 2944;
const REFERENCES_OFFSET: usize = 3200;
const REFERENCES_CURSOR_OFFSET: usize = 3264;
const ZEROES_OFFSET: usize = 3520;
const COPY_OFFSET: usize = 3584;

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
  change.changesDataFile = options.kind === AmendKind.DataFile;
  change.names = changetype<HeaderNames>(image.exclusiveMemory + NAMES_OFFSET);
  if (change.changesBacking) keepBackingNames(image, options, change.names);
  if (change.changesDataFile) keepDataFileName(image, options, change.names);
  task.entered = true;
  task.stage = 0;
  return Status.Ok;
}

/** The page is needed for headers: the names move. */
function keepBackingNames(image: Image, options: AmendOptions, names: HeaderNames): void {
  const bytes = image.exclusiveMemory + BYTES_OFFSET;
  const length = options.backingFileLength + options.backingFormatLength;
  memory.copy(bytes, image.page + AMEND_NAMES_OFFSET, length);
  names.backingFileAddress = u32(bytes);
  names.backingFileLength = options.backingFileLength;
  names.backingFormatAddress = u32(bytes) + options.backingFileLength;
  names.backingFormatLength = options.backingFormatLength;
}

function keepDataFileName(image: Image, options: AmendOptions, names: HeaderNames): void {
  const bytes = image.exclusiveMemory + BYTES_OFFSET;
  memory.copy(bytes, image.page + AMEND_NAMES_OFFSET, options.dataFileLength);
  names.dataFileAddress = u32(bytes);
  names.dataFileLength = options.dataFileLength;
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
      return Status.Ok;
    case AmendKind.Downgrade:
      if (options.value > 1) return refuseAmend(image, Status.Invalid, Field.Kind, options.value, 1);
      return checkDowngrade(image, options.value !== 0);
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
    case AmendKind.DataFile: {
      const length = options.dataFileLength;
      if (length > MAXIMUM_NAME_LENGTH) return refuseAmend(image, Status.Invalid, Field.DataFile, length, 1023);
      const has = (info.incompatibleFeatures & INCOMPATIBLE_DATA_FILE) !== 0;
      return has ? Status.Ok : refuseAmend(image, Status.Invalid, Field.DataFile, length, 0);
    }
    default:
      return refuseAmend(image, Status.Invalid, Field.Kind, options.kind, AmendKind.DataFile);
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

function checkDowngrade(image: Image, looksOnly: bool): Status {
  const info = image.info;
  const order = image.geometry.refcountOrder;
  if (order !== REFCOUNT_ORDER_V2 && !looksOnly) {
    return refuseAmend(image, Status.Invalid, Field.RefcountOrder, order, REFCOUNT_ORDER_V2);
  }
  // Another type of compression says nothing where nothing is compressed, which remains to be seen.
  const features = info.incompatibleFeatures & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION);
  if (features !== 0) {
    return refuse(image.failure, Status.Unsupported, Structure.Request, Field.NewerFeatures, 0, features, 0);
  }
  return image.bitmaps.count === 0 ? Status.Ok : refuseFeature(image, Field.NewerBitmaps);
}

function step(image: Image, task: Task, amend: Amend): Status {
  switch (amend.kind) {
    case AmendKind.Upgrade:
      return upgrade(image, task, amend);
    case AmendKind.Downgrade:
      return downgrade(image, task, amend);
    case AmendKind.LazyRefcounts:
      return setLazyRefcounts(image, task, amend.value !== 0);
    case AmendKind.DataFile:
      return rewriteHeader(image, task, changeOf(image));
    case AmendKind.BackingFile: {
      const status = rewriteHeader(image, task, changeOf(image));
      // From now on zero clusters hide something, or nothing.
      if (status === Status.Ok) image.info.backingFileLength = changeOf(image).names.backingFileLength;
      return status;
    }
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
  image.info.incompatibleFeatures = 0;
  image.info.compressionType = 0;
  image.info.compatibleFeatures = 0;
  image.info.autoclearFeatures = 0;
  image.info.headerLength = version === 2 ? HEADER_LENGTH_V2 : image.info.headerLength;
  return Status.Ok;
}

/** Version 3 wants of every snapshot how large the disk was, which a table of version 2 may say, too. */
function upgrade(image: Image, task: Task, amend: Amend): Status {
  if (image.version === 3) return Status.Ok;
  let status: Status = Status.Ok;
  if (task.stage === UpgradeStage.Look) {
    status = lookAtSnapshots(image, task, amend);
    if (status !== Status.Ok) return status;
    task.stage = amend.lacks ? UpgradeStage.Settle : UpgradeStage.Rewrite;
  }
  if (task.stage === UpgradeStage.Settle) {
    status = settle(image, task);
    if (status !== Status.Ok) return status;
    task.stage = UpgradeStage.Copy;
  }
  const copy = copyOf(image);
  while (task.stage === UpgradeStage.Copy) {
    status = stepTableCopy(image, task, copy);
    // From here on there is no way back: cancelling comes too late.
    if (isTableSwitched(copy)) task.committed = true;
    if (copy.changed) continue;
    if (status !== Status.Ok) return status;
    task.stage = UpgradeStage.Rewrite;
  }
  return setVersion(image, task, 3);
}

/** How long the table becomes when every entry has what it must have. */
function lookAtSnapshots(image: Image, task: Task, amend: Amend): Status {
  const cursor = changetype<EntryCursor>(image.exclusiveMemory + CURSOR_OFFSET);
  if (!amend.walks) openEntries(image, cursor);
  amend.walks = true;
  while (cursor.index < image.info.snapshotCount) {
    const status = needEntry(image, task, cursor);
    if (status !== Status.Ok) return status;
    const extra = cursor.extraLength;
    const repaired = repairedExtraData(3, extra);
    if (repaired !== extra) amend.lacks = true;
    amend.tableLength += alignUp(cursor.end - cursor.start - extra + repaired, SNAPSHOT_ALIGNMENT);
    nextEntry(cursor);
  }
  const start = image.info.snapshotsOffset;
  startTableCopy(copyOf(image), 3, cursor.start - start, amend.tableLength);
  // The old one may be released: what is in use as something else must never be.
  return amend.lacks ? checkTableOverlap(image, start, cursor.start - start) : Status.Ok;
}

/** An amendment failed: what nothing names goes back. Miss: call again. */
export function abandonAmend(image: Image, task: Task): Status {
  if (image.exclusiveOwner !== task || !task.entered || task.committed) return Status.Ok;
  const kind = changetype<Amend>(image.exclusiveMemory).kind;
  if (kind === AmendKind.Downgrade) return abandonZeroes(image, task, zeroesOf(image));
  const copies = kind === AmendKind.Upgrade && task.stage === UpgradeStage.Copy;
  if (!copies || task.leak || image.order.broken) return Status.Ok;
  return abandonTableCopy(image, task, copyOf(image));
}

/** Zero clusters go first, see amend-zeroes.ts. */
function downgrade(image: Image, task: Task, amend: Amend): Status {
  if (image.version === 2) return Status.Ok;
  let status: Status = Status.Ok;
  while (task.stage <= u32(Stage.Replace)) {
    status = sweepZeroes(image, task, amend);
    if (status !== Status.Ok) return status;
    if (amend.value !== 0) return Status.Ok;
    if (task.stage === Stage.Look) {
      task.stage = Stage.Replace;
      amend.walks = false;
      continue;
    }
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

/** Once over the tables of the disk and of all snapshots; in the first stage nothing changes. */
function sweepZeroes(image: Image, task: Task, amend: Amend): Status {
  const memory = image.exclusiveMemory;
  const sweep = changetype<TableSweep>(memory + SWEEP_OFFSET);
  if (!amend.walks) {
    sweep.cursor = changetype<EntryCursor>(memory + CURSOR_OFFSET);
    sweep.state = changetype<SnapshotState>(memory + STATE_OFFSET);
    sweep.references = changetype<TableReferences>(memory + REFERENCES_OFFSET);
    sweep.references.cursor = changetype<EntryCursor>(memory + REFERENCES_CURSOR_OFFSET);
    sweep.zeroes = zeroesOf(image);
    startSweep(image, sweep, task.stage === Stage.Replace);
    amend.walks = true;
  }
  return stepSweep(image, task, sweep);
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

function zeroesOf(image: Image): ZeroClusters {
  return changetype<ZeroClusters>(image.exclusiveMemory + ZEROES_OFFSET);
}

function copyOf(image: Image): TableCopy {
  return changetype<TableCopy>(image.exclusiveMemory + COPY_OFFSET);
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
