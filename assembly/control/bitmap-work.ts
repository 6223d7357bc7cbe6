/** What a bitmap request keeps between two steps, and how each of them begins. */

import { BitmapCall, BitmapFlag, BitmapPage } from '../abi/bitmap';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { MAXIMUM_BITMAP_NAME_LENGTH } from '../format/bitmap-directory';
import { compareName, needBitmapEntry } from '../image/bitmap-entry';
import { storeBitmaps } from '../image/bitmap-track';
import { enterExclusive } from '../image/exclusive';
import { Image } from '../image/image';
import { Task } from '../image/task';

/** Where a bitmap request stands: `Task.stage`. Each uses those that it needs, in this order. */
export enum BitmapStage {
  Begin = 0,
  Find = 1,
  FindSource = 2,
  PlanHeader = 3,
  AllocateTable = 4,
  ZeroTable = 5,
  AllocateDirectory = 6,
  WriteDirectory = 7,
  Flush = 8,
  SwitchHeader = 9,
  Apply = 10,
  FlushApplied = 11,
  ClearMark = 12,
  FreeDirectory = 13,
  FreeTable = 14,
  Done = 15,
}

/** In `image.exclusiveMemory`. */
@unmanaged
export class BitmapWork {
  /** Search, or writing, or freeing: how far it is. */
  cursor: u64 = 0;
  index: u32 = 0;

  /** The bitmap that was found: copies from its entry. */
  tableSize: u32 = 0;
  entryOffset: u64 = 0;
  entryLength: u64 = 0;
  tableOffset: u64 = 0;
  granularityBits: u32 = 0;
  sourceGranularityBits: u32 = 0;
  /** Merge: the table of the other one. */
  sourceTableOffset: u64 = 0;
  /** Merge: the table in which the bits of both come together. */
  mergedTableOffset: u64 = 0;
  /** Merge: the dirty stretch that is being set ends here. */
  runEnd: u64 = 0;

  /** What is new: 0 until it is allocated. */
  newTableOffset: u64 = 0;
  newDirectoryOffset: u64 = 0;
  newDirectoryLength: u64 = 0;
  newCount: u32 = 0;

  /** See bitmap-header.ts. */
  headerStage: u32 = 0;
  /** The directory before, to be freed. */
  oldDirectoryOffset: u64 = 0;
  oldDirectoryLength: u64 = 0;
  /** Bytes from the start of the file: the extension's header, or where it will be; the first byte that it may not have. */
  extensionOffset: u64 = 0;
  extensionLimit: u64 = 0;
  nameOffset: u64 = 0;
  nameLength: u32 = 0;
  sectorLoaded: bool = false;
  extensionThere: bool = false;
  extensionLast: bool = false;
  /** The extension counted when the plan was made. */
  replaces: bool = false;
  autoclear: bool = false;
}

/** Behind the record: the entry of a new bitmap, and sectors of the header. */
const ENTRY_OFFSET: usize = 1024;
const SECTORS_OFFSET: usize = 2560;
export const SECTORS_LENGTH: u32 = 1536;

export function workOf(image: Image): BitmapWork {
  return changetype<BitmapWork>(image.exclusiveMemory);
}

export function newEntry(image: Image): usize {
  return image.exclusiveMemory + ENTRY_OFFSET;
}

export function sectors(image: Image): usize {
  return image.exclusiveMemory + SECTORS_OFFSET;
}

export function bitmapCall(image: Image): BitmapCall {
  return changetype<BitmapCall>(image.page + BitmapPage.Call);
}

/** Alone with the image; Ok with a fresh record and the search at the start of the directory. */
export function beginLooking(image: Image, task: Task): Status {
  const status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  memory.fill(image.exclusiveMemory, 0, offsetof<BitmapWork>());
  startSearch(image);
  task.stage = BitmapStage.Find;
  return Status.Ok;
}

/** As `beginLooking`, for who changes something: what was tracked is stored, and no bitmap is in use because of us. */
export function beginChanging(image: Image, task: Task): Status {
  let status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  if (!image.writable) return refuseCall(image, Status.ReadOnly, Field.None, 0, 0);
  if (image.order.broken) return refuseCall(image, Status.Broken, Field.None, 0, 0);
  status = storeBitmaps(image, task);
  if (status !== Status.Ok) return status;
  memory.fill(image.exclusiveMemory, 0, offsetof<BitmapWork>());
  startSearch(image);
  task.stage = BitmapStage.Find;
  return Status.Ok;
}

export function startSearch(image: Image): void {
  const work = workOf(image);
  work.cursor = image.bitmaps.directoryOffset;
  work.index = 0;
}

/**
 * Goes on with the search for the bitmap of this name. Ok when `image.bitmaps.entry` is the one; NotFound at the end of
 * the directory, without a failure record.
 */
export function findBitmap(image: Image, task: Task, nameAddress: usize, nameLength: u32): Status {
  const state = image.bitmaps;
  const work = workOf(image);
  if (nameLength === 0 || nameLength > MAXIMUM_BITMAP_NAME_LENGTH) {
    return refuseCall(image, Status.Invalid, Field.BitmapName, nameLength, MAXIMUM_BITMAP_NAME_LENGTH);
  }
  while (work.index < state.count) {
    let status = needBitmapEntry(image, task, work.cursor);
    if (status !== Status.Ok) return status;
    status = compareName(image, task, nameAddress, nameLength);
    if (status !== Status.NotFound) return status;
    work.cursor += state.entry.length;
    work.index++;
  }
  return Status.NotFound;
}

/** As `findBitmap` with the name of the call; a bitmap that is not there ends the request. */
export function needBitmap(image: Image, task: Task): Status {
  const status = findBitmap(image, task, image.page + BitmapPage.Name, bitmapCall(image).nameLength);
  return status === Status.NotFound ? refuseCall(image, status, Field.BitmapName, 0, 0) : status;
}

/** Copies what is needed of the entry that was found. */
export function keepEntry(image: Image): void {
  const work = workOf(image);
  const entry = image.bitmaps.entry;
  work.entryOffset = entry.hostOffset;
  work.entryLength = entry.length;
  work.tableOffset = entry.tableOffset;
  work.tableSize = entry.tableSize;
  work.granularityBits = entry.granularityBits;
}

/** Whether the flags name a bitmap that is enabled and consistent. */
export function isEnabled(flags: u32): bool {
  return (flags & (BitmapFlag.Auto | BitmapFlag.InUse)) === u32(BitmapFlag.Auto);
}

export function refuseCall(image: Image, status: Status, field: Field, found: u64, limit: u64): Status {
  return refuse(image.failure, status, Structure.Request, field, 0, found, limit);
}
