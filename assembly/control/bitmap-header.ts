/**
 * The bitmaps extension in the header is made, changed or removed. Bytes that nobody looks at yet go first; every step
 * is durable before the next one:
 *
 *   change   the extension's data, one sector (in two sectors: autoclear bit off, data, bit on)
 *   make     data and end mark behind the old end mark, then the extension's type over the old end mark, then the bit
 *   remove   the bit off, then an end mark over the extension when it is the last one
 *
 * Without the autoclear bit the extension counts for nothing: a power cut leaves the old bitmaps or the new ones, and
 * where that is impossible none.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { alignUp } from '../base/align';
import { loadU32, loadU64, storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { flush, Owner, readModule, writeModule } from '../block';
import { BITMAPS_EXTENSION_LENGTH, BitmapsExtension } from '../format/bitmap-directory';
import { AUTOCLEAR_BITMAPS } from '../format/features';
import { HeaderOffset, MAXIMUM_NAME_LENGTH } from '../format/header';
import { EXTENSION_HEADER_SIZE, ExtensionType, paddedLength } from '../format/header-extensions';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { parkOnOperation, Task } from '../image/task';
import { BitmapWork, SECTORS_LENGTH, sectors } from './bitmap-work';

/** `BitmapWork.headerStage`. */
enum Stage {
  ReadHeader = 0,
  Walk = 1,
  Planned = 2,
  ClearBit = 3,
  ReadName = 4,
  WriteName = 5,
  FlushName = 6,
  MoveName = 7,
  ReadData = 8,
  WriteData = 9,
  FlushData = 10,
  ReadType = 11,
  WriteType = 12,
  FlushType = 13,
  SetBit = 14,
  Done = 15,
}

const SECTOR: u64 = 512;
/** Type, length and data, and an end mark behind them. */
const WHOLE_LENGTH: u64 = 32;
const END_LENGTH: u64 = 8;

/** Finds the extension, or room for it when `adds`. Ok when all is known; nothing is changed. */
export function planHeader(image: Image, task: Task, work: BitmapWork, adds: bool): Status {
  while (work.headerStage < u32(Stage.Planned)) {
    if (work.headerStage === u32(Stage.ReadHeader)) {
      if (!work.sectorLoaded) return readSectors(image, task, work, 0);
      takeHeader(image, work);
      continue;
    }
    const status = walk(image, task, work, adds);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

/** Makes the header say what `work.new…` says; no bitmaps when `newCount` is 0. Ok when that is durable. */
export function switchHeader(image: Image, task: Task, work: BitmapWork): Status {
  if (image.order.broken) return refuse(image.failure, Status.Broken, Structure.File, Field.None, 0, 0, 0);
  while (work.headerStage !== u32(Stage.Done)) {
    const status = step(image, task, work);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

/**
 * Whether a failure now leaves a header of which nobody knows which bitmaps it names. Without the autoclear bit it names
 * none, whatever else is half done; the bit itself is the business of header-sector.ts.
 */
export function isHeaderUnknown(work: BitmapWork): bool {
  if (!work.replaces || work.newCount === 0 || work.headerStage === u32(Stage.Done)) return false;
  return work.headerStage >= u32(splits(work) ? Stage.ReadName : Stage.FlushData);
}

/** The extension's data lies in two sectors. */
function splits(work: BitmapWork): bool {
  const start = work.extensionOffset + EXTENSION_HEADER_SIZE;
  return start / SECTOR !== (start + BITMAPS_EXTENSION_LENGTH - 1) / SECTOR;
}

function takeHeader(image: Image, work: BitmapWork): void {
  const header = sectors(image);
  work.nameOffset = loadU64(header + HeaderOffset.BackingFileOffset);
  work.nameLength = loadU32(header + HeaderOffset.BackingFileLength);
  work.autoclear = (loadU64(header + HeaderOffset.AutoclearFeatures) & AUTOCLEAR_BITMAPS) !== 0;
  work.extensionOffset = loadU32(header + HeaderOffset.HeaderLength);
  work.extensionLimit = work.nameOffset === 0 ? u64(image.geometry.clusterSize) : work.nameOffset;
  work.extensionThere = false;
  work.cursor = work.extensionOffset;
  work.headerStage = Stage.Walk;
}

/** Looks at one extension. `cursor` is where the next one begins. */
function walk(image: Image, task: Task, work: BitmapWork, adds: bool): Status {
  const at = work.cursor;
  let type: u32 = ExtensionType.End;
  let length: u32 = 0;
  const there = at + EXTENSION_HEADER_SIZE <= work.extensionLimit;
  if (there) {
    if (!work.sectorLoaded || work.index !== u32(at / SECTOR)) return readSectors(image, task, work, at);
    const address = sectors(image) + usize(at & (SECTOR - 1));
    type = loadU32(address);
    length = loadU32(address + 4);
  }
  if (type === ExtensionType.End) {
    work.replaces = work.extensionThere && work.autoclear;
    if (work.extensionThere) work.extensionLast = work.cursor === work.extensionOffset + WHOLE_LENGTH;
    else if (adds && !findRoom(image, work, at, there)) return refuseRoom(image, work);
    else work.extensionOffset = at;
    work.headerStage = Stage.Planned;
    return Status.Ok;
  }
  if (length > work.extensionLimit - at - EXTENSION_HEADER_SIZE) return refuseRoom(image, work);
  if (type === ExtensionType.Bitmaps) {
    if (length !== BITMAPS_EXTENSION_LENGTH) return refuseRoom(image, work);
    work.extensionThere = true;
    work.extensionOffset = at;
  }
  work.cursor = at + EXTENSION_HEADER_SIZE + paddedLength(length);
  return Status.Ok;
}

/** A new extension at `at`: the backing file's name moves out of its way, to sectors of its own, when there is an end mark. */
function findRoom(image: Image, work: BitmapWork, at: u64, marked: bool): bool {
  if (at + WHOLE_LENGTH + END_LENGTH <= work.extensionLimit || at + WHOLE_LENGTH === work.extensionLimit) {
    work.nameLength = 0;
    return true;
  }
  if (work.nameOffset === 0 || work.nameLength > MAXIMUM_NAME_LENGTH || !marked) return false;
  const behind = max(work.nameOffset + work.nameLength, at + WHOLE_LENGTH + END_LENGTH);
  work.extensionLimit = alignUp(behind, SECTOR);
  return work.extensionLimit + alignUp(work.nameLength, SECTOR) <= image.geometry.clusterSize;
}

function step(image: Image, task: Task, work: BitmapWork): Status {
  const removes = work.newCount === 0;
  switch (work.headerStage) {
    case Stage.Planned:
      work.headerStage = Stage.ClearBit;
      return Status.Ok;
    case Stage.ClearBit:
      if (work.autoclear && (removes || splits(work) || !work.extensionThere))
        return changeBit(image, task, work, false);
      work.headerStage = Stage.ReadName;
      return Status.Ok;
    case Stage.ReadName:
      if (removes || work.extensionThere || work.nameLength === 0) {
        work.headerStage = removes ? Stage.ReadType : Stage.ReadData;
        return Status.Ok;
      }
      work.headerStage = Stage.WriteName;
      return readSectors(image, task, work, work.nameOffset);
    case Stage.WriteName:
      return writeName(image, task, work);
    case Stage.FlushName:
      return flushTo(image, task, work, Stage.MoveName);
    case Stage.MoveName:
      return moveName(image, task, work);
    case Stage.ReadData:
      work.headerStage = Stage.WriteData;
      return readSectors(image, task, work, work.extensionOffset + EXTENSION_HEADER_SIZE);
    case Stage.WriteData:
      return writeData(image, task, work);
    case Stage.FlushData:
      return flushTo(image, task, work, work.extensionThere ? Stage.SetBit : Stage.ReadType);
    case Stage.ReadType:
      if (removes && !work.extensionLast) {
        work.headerStage = Stage.Done;
        return Status.Ok;
      }
      work.headerStage = Stage.WriteType;
      return readSectors(image, task, work, work.extensionOffset);
    case Stage.WriteType:
      return writeType(image, task, work, removes);
    case Stage.FlushType:
      return flushTo(image, task, work, removes ? Stage.Done : Stage.SetBit);
    default:
      return setBit(image, task, work);
  }
}

function setBit(image: Image, task: Task, work: BitmapWork): Status {
  if (!work.autoclear) return changeBit(image, task, work, true);
  work.headerStage = Stage.Done;
  return Status.Ok;
}

/** The autoclear bit, in the first sector; Ok when it is durable. */
function changeBit(image: Image, task: Task, work: BitmapWork, set: bool): Status {
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  const address = image.headerSector + HeaderOffset.AutoclearFeatures;
  const others = loadU64(address) & ~AUTOCLEAR_BITMAPS;
  const bits = set ? others | AUTOCLEAR_BITMAPS : others;
  storeU64(address, bits);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  image.info.autoclearFeatures = bits;
  work.autoclear = set;
  return Status.Ok;
}

/** The name again, in sectors of its own; the old one still counts. */
function writeName(image: Image, task: Task, work: BitmapWork): Status {
  const buffer = sectors(image);
  memory.copy(buffer, buffer + usize(work.nameOffset & (SECTOR - 1)), work.nameLength);
  work.headerStage = Stage.FlushName;
  const length = u32(alignUp(work.nameLength, SECTOR));
  writeModule(image.operations, Owner.Task, changetype<usize>(task), work.extensionLimit, buffer, length);
  return parkOnOperation(task);
}

function moveName(image: Image, task: Task, work: BitmapWork): Status {
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU64(image.headerSector + HeaderOffset.BackingFileOffset, work.extensionLimit);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  work.headerStage = Stage.ReadData;
  return Status.Ok;
}

/** The extension's data; behind new ones an end mark, as the extension's type will stand where the old one was. */
function writeData(image: Image, task: Task, work: BitmapWork): Status {
  const start = work.extensionOffset + EXTENSION_HEADER_SIZE;
  const data = sectors(image) + usize(start & (SECTOR - 1));
  storeU32(data + BitmapsExtension.Count, work.newCount);
  storeU32(data + BitmapsExtension.Count + 4, 0);
  storeU64(data + BitmapsExtension.DirectoryLength, work.newDirectoryLength);
  storeU64(data + BitmapsExtension.DirectoryOffset, work.newDirectoryOffset);
  let end = start + BITMAPS_EXTENSION_LENGTH;
  if (!work.extensionThere && end + END_LENGTH <= work.extensionLimit) {
    storeU64(data + BITMAPS_EXTENSION_LENGTH, 0);
    end += END_LENGTH;
  }
  work.headerStage = Stage.FlushData;
  return writeSectors(image, task, start, end);
}

/** Eight bytes that never lie in two sectors. */
function writeType(image: Image, task: Task, work: BitmapWork, removes: bool): Status {
  const address = sectors(image) + usize(work.extensionOffset & (SECTOR - 1));
  storeU32(address, removes ? ExtensionType.End : ExtensionType.Bitmaps);
  storeU32(address + 4, removes ? 0 : BITMAPS_EXTENSION_LENGTH);
  work.headerStage = Stage.FlushType;
  return writeSectors(image, task, work.extensionOffset, work.extensionOffset + EXTENSION_HEADER_SIZE);
}

/** Reads from the sector with byte `offset` on. */
function readSectors(image: Image, task: Task, work: BitmapWork, offset: u64): Status {
  work.sectorLoaded = true;
  work.index = u32(offset / SECTOR);
  const start = offset & ~(SECTOR - 1);
  readModule(image.operations, Owner.Task, changetype<usize>(task), start, sectors(image), SECTORS_LENGTH);
  return parkOnOperation(task);
}

/** Writes the sectors with the bytes from `start` up to `end`; the first one is the first of the buffer. */
function writeSectors(image: Image, task: Task, start: u64, end: u64): Status {
  const first = start & ~(SECTOR - 1);
  const length = u32(alignUp(end, SECTOR) - first);
  writeModule(image.operations, Owner.Task, changetype<usize>(task), first, sectors(image), length);
  return parkOnOperation(task);
}

function flushTo(image: Image, task: Task, work: BitmapWork, next: Stage): Status {
  work.headerStage = next;
  flush(image.operations, Owner.Task, changetype<usize>(task));
  return parkOnOperation(task);
}

function refuseRoom(image: Image, work: BitmapWork): Status {
  const limit = work.extensionLimit;
  return refuse(image.failure, Status.TooLarge, Structure.Header, Field.HeaderRoom, work.cursor, WHOLE_LENGTH, limit);
}
