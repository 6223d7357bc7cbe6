/**
 * Replacing the header with its extensions and names, safely: what the old header does not look at is written first, then
 * one sector switches over.
 *
 *     0 ............ 512 .................... old end ................... end of the cluster
 *     fields, first    the rest of extensions,    free: names that changed
 *     extensions       backing file name          may lie here
 *     └─ one write ─┘  └─ only where nothing changes, or behind the old end ─┘
 *
 * The feature name table is the largest extension and means nothing to an engine. When a header cannot be replaced in
 * one step, a first step leaves that table out, which makes room; a second step puts it back when it can.
 */

import { PAGE_LENGTH } from '../abi/configuration';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU32, loadU64, storeU32 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { Owner, readModule, writeModule } from '../block';
import { requestFlush } from '../cache/write-order';
import { HEADER_LENGTH_V2, HeaderOffset, REFCOUNT_ORDER_V2 } from '../format/header';
import { ExtensionType } from '../format/header-extensions';
import {
  completeHeader,
  extensionsEnd,
  fieldsLength,
  findExtension,
  HeaderNames,
  writeVersion3Fields,
} from '../format/header-writer';
import { commitHeaderSector, HEADER_SECTOR_LENGTH, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { parkOnOperation, Task } from '../image/task';

enum Stage {
  Read = 0,
  Build = 1,
  Flush = 2,
  Switch = 3,
  Done = 4,
}

/** What changes, and where the rewrite stands. */
@unmanaged
export class HeaderChange {
  stage: u32 = 0;
  /** 2 or 3. */
  version: u32 = 0;
  /** The names of the backing file are replaced by those in `names`. */
  changesBacking: bool = false;
  /** So is the name of the data file. */
  changesDataFile: bool = false;
  /** The feature name table was left out to make room. */
  incomplete: bool = false;
  /** Bytes of the new header. */
  length: u32 = 0;
  names: HeaderNames = changetype<HeaderNames>(0);
}

/** Bytes of each of the two headers in the page, the old one first. */
const CAPACITY: u32 = PAGE_LENGTH / 2;

/** Ok when the header says what `change` wants, durably. Alone with the image; the page is used up. */
export function rewriteHeader(image: Image, task: Task, change: HeaderChange): Status {
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

function step(image: Image, task: Task, change: HeaderChange): Status {
  switch (change.stage) {
    case Stage.Read:
      change.stage = Stage.Build;
      readModule(image.operations, Owner.Task, changetype<usize>(task), 0, image.page, capacityOf(image));
      return parkOnOperation(task);
    case Stage.Build:
      return build(image, task, change);
    case Stage.Flush:
      change.stage = Stage.Switch;
      requestFlush(image.order, task);
      return Status.Miss;
    default:
      return switchOver(image, task, change);
  }
}

function build(image: Image, task: Task, change: HeaderChange): Status {
  const second = change.incomplete;
  change.incomplete = false;
  if (!place(image, change, true)) {
    if (second) {
      change.stage = Stage.Done;
      return Status.Ok;
    }
    change.incomplete = true;
    if (!place(image, change, false)) {
      const limit = capacityOf(image);
      return refuse(image.failure, Status.TooLarge, Structure.HeaderExtension, Field.Length, 0, change.length, limit);
    }
  }
  change.stage = Stage.Flush;
  if (change.length <= HEADER_SECTOR_LENGTH) return Status.Ok;
  const rest = newHeader(image) + HEADER_SECTOR_LENGTH;
  const length = change.length - HEADER_SECTOR_LENGTH;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), HEADER_SECTOR_LENGTH, rest, length);
  return parkOnOperation(task);
}

/** Builds the new header so that its writing does not disturb the old one; false when there is no way. */
function place(image: Image, change: HeaderChange, withFeatureNames: bool): bool {
  const old = image.page;
  const capacity = capacityOf(image);
  const fields = fieldsLength(old);
  if (fields > capacity) return false;
  const nameOffset = loadU64(old + HeaderOffset.BackingFileOffset);
  const nameLength = nameOffset === 0 ? 0 : loadU32(old + HeaderOffset.BackingFileLength);
  if (nameOffset + nameLength > capacity) return false;
  const keptEnd = old + (nameOffset === 0 ? capacity : u32(nameOffset));
  const chainEnd = u32(extensionsEnd(old + fields, keptEnd) - old);
  const nameEnd = u32(nameOffset) + nameLength;
  const names = changetype<HeaderNames>(image.scratch);
  gatherNames(change, names, old, fields, keptEnd, u32(nameOffset), nameLength);
  for (let attempt: u32 = 0; attempt < 3; attempt++) {
    copyFields(image, change, old, fields);
    const at = placeOfName(attempt, max(chainEnd, nameEnd), withFeatureNames);
    change.length = completeHeader(newHeader(image), capacity, names, old + fields, keptEnd, at, withFeatureNames);
    if (change.length === 0) continue;
    keepGap(image, change.length);
    const same = isSame(image, HEADER_SECTOR_LENGTH, chainEnd, change.length);
    if (same && isSame(image, u32(nameOffset), nameEnd, change.length)) return true;
  }
  return false;
}

/** Where a backing file name may begin: at once behind the extensions, or also behind everything that is there now. */
function placeOfName(attempt: u32, oldEnd: u32, withFeatureNames: bool): u32 {
  if (attempt === 1) return oldEnd;
  // The feature name table comes back into the room in front of the name.
  if (attempt === 0 && !withFeatureNames) return max(oldEnd, HEADER_SECTOR_LENGTH * 2);
  return 0;
}

/** Between the extensions and the backing file name nobody looks: there the old bytes may stay. */
function keepGap(image: Image, length: u32): void {
  const header = newHeader(image);
  const nameOffset = u32(loadU64(header + HeaderOffset.BackingFileOffset));
  if (nameOffset === 0) return;
  const end = u32(extensionsEnd(header + fieldsLength(header), header + length) - header);
  const start = max(end, HEADER_SECTOR_LENGTH);
  if (start < nameOffset) memory.copy(header + start, image.page + start, nameOffset - start);
}

/** From `start` to `end` the old header is looked at: there the new one is the same, but for the first sector. */
function isSame(image: Image, start: u32, end: u32, length: u32): bool {
  const first = max(start, HEADER_SECTOR_LENGTH);
  const last = min(end, length);
  if (last <= first) return true;
  return memory.compare(image.page + first, newHeader(image) + first, last - first) === 0;
}

function gatherNames(
  change: HeaderChange,
  names: HeaderNames,
  old: usize,
  fields: u32,
  keptEnd: usize,
  nameOffset: u32,
  nameLength: u32,
): void {
  if (change.changesBacking) {
    memory.copy(changetype<usize>(names), changetype<usize>(change.names), offsetof<HeaderNames>());
  } else {
    names.backingFileAddress = u32(old) + nameOffset;
    names.backingFileLength = nameLength;
    const format = findExtension(old + fields, keptEnd, ExtensionType.BackingFormat);
    names.backingFormatAddress = u32(format) + 8;
    names.backingFormatLength = format === 0 ? 0 : loadU32(format + 4);
  }
  if (change.changesDataFile) {
    names.dataFileAddress = change.names.dataFileAddress;
    names.dataFileLength = change.names.dataFileLength;
    return;
  }
  const data = findExtension(old + fields, keptEnd, ExtensionType.DataFile);
  names.dataFileAddress = u32(data) + 8;
  names.dataFileLength = data === 0 ? 0 : loadU32(data + 4);
}

/** The old fields, unknown ones too, in the version that is wanted. */
function copyFields(image: Image, change: HeaderChange, old: usize, fields: u32): void {
  const header = newHeader(image);
  memory.fill(header, 0, capacityOf(image));
  const version = loadU32(old + HeaderOffset.Version);
  memory.copy(header, old, change.version === 2 ? HEADER_LENGTH_V2 : fields);
  storeU32(header + HeaderOffset.Version, change.version);
  if (version === 2 && change.version === 3) writeVersion3Fields(header, REFCOUNT_ORDER_V2);
}

function switchOver(image: Image, task: Task, change: HeaderChange): Status {
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  memory.copy(image.headerSector, newHeader(image), HEADER_SECTOR_LENGTH);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  // Whoever cancels the second round would be told that nothing has changed.
  task.committed = true;
  change.stage = change.incomplete && change.version === 3 ? Stage.Read : Stage.Done;
  return Status.Ok;
}

function newHeader(image: Image): usize {
  return image.page + CAPACITY;
}

function capacityOf(image: Image): u32 {
  return min(CAPACITY, image.geometry.clusterSize);
}
