/** Entries of the bitmap directory, read through the cache and checked before anything is believed. */

import { BitmapFlag } from '../abi/bitmap';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU32, loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { needSlice, TableKind, TableSlice, viewSlice } from '../cache/table-cache';
import {
  BITMAP_ENTRY_SIZE,
  BITMAP_HEADER_SIZE,
  BITMAP_KNOWN_FLAGS,
  BITMAP_TYPE_DIRTY,
  BitmapOffset,
  bitmapEntryLength,
  bitmapTableSize,
  MAXIMUM_BITMAP_LENGTH,
  MAXIMUM_BITMAP_NAME_LENGTH,
  MAXIMUM_GRANULARITY_BITS,
  MINIMUM_GRANULARITY_BITS,
} from '../format/bitmap-directory';
import { BitmapEntry } from './bitmap-state';
import { Image } from './image';
import { Task } from './task';

/** Reads and checks the entry at `hostOffset` of the directory into `image.bitmaps.entry`. Changes nothing else. */
export function needBitmapEntry(image: Image, task: Task, hostOffset: u64): Status {
  const state = image.bitmaps;
  return readEntry(image, task, hostOffset, state.directoryOffset + state.directoryLength, false);
}

/** As `needBitmapEntry`, of a directory that ends at `end`. */
export function needBitmapEntryBefore(image: Image, task: Task, hostOffset: u64, end: u64): Status {
  return readEntry(image, task, hostOffset, end, false);
}

/**
 * As `needBitmapEntry`, for who only looks, whatever else the bytes are taken for. After a failure the entry has been
 * read all the same when its `length` is not 0.
 */
export function viewBitmapEntry(image: Image, task: Task, hostOffset: u64): Status {
  const state = image.bitmaps;
  return readEntry(image, task, hostOffset, state.directoryOffset + state.directoryLength, true);
}

function readEntry(image: Image, task: Task, hostOffset: u64, end: u64, looks: bool): Status {
  const entry = image.bitmaps.entry;
  const left = end - hostOffset;
  entry.length = 0;
  if (left < BITMAP_HEADER_SIZE) return refuseEntry(image, Field.Length, hostOffset, left, BITMAP_HEADER_SIZE);
  // Words never lie in two slices; an entry may.
  entry.hostOffset = hostOffset;
  const tableAt = needWord(image, task, hostOffset, looks);
  if (tableAt === 0) return task.outcome;
  entry.tableOffset = loadU64(tableAt);
  const sizeAt = needWord(image, task, hostOffset + BitmapOffset.TableSize, looks);
  if (sizeAt === 0) return task.outcome;
  entry.tableSize = loadU32(sizeAt);
  entry.flags = loadU32(sizeAt + BitmapOffset.Flags - BitmapOffset.TableSize);
  const typeAt = needWord(image, task, hostOffset + BitmapOffset.Type, looks);
  if (typeAt === 0) return task.outcome;
  const type: u32 = load<u8>(typeAt);
  entry.granularityBits = load<u8>(typeAt + BitmapOffset.GranularityBits - BitmapOffset.Type);
  const lengths = loadU64(typeAt);
  entry.nameLength = u32(lengths >> 32) & 0xffff;
  entry.extraDataLength = u32(lengths);
  entry.length = bitmapEntryLength(entry.extraDataLength, entry.nameLength);
  return checkEntry(image, entry, type, left);
}

/** Whether the bitmap's bits may be looked at: Ok, or why not. In use by this instance itself is no reason. */
export function checkUsable(image: Image, entry: BitmapEntry, ours: bool): Status {
  if ((entry.flags & BitmapFlag.InUse) !== 0 && !ours) {
    const at = entry.hostOffset;
    return refuse(image.failure, Status.Invalid, Structure.BitmapDirectory, Field.BitmapInUse, at, entry.flags, 0);
  }
  if (entry.extraDataLength !== 0 && (entry.flags & BitmapFlag.ExtraDataCompatible) === 0) {
    refuseEntry(image, Field.BitmapExtraData, entry.hostOffset, entry.extraDataLength, 0);
    image.failure.status = Status.Unsupported;
    return Status.Unsupported;
  }
  const wanted = bitmapTableSize(image.virtualSize, entry.granularityBits, image.geometry.clusterBits);
  if (entry.tableSize !== wanted) {
    return refuseEntry(image, Field.BitmapTableSize, entry.hostOffset, entry.tableSize, wanted);
  }
  return Status.Ok;
}

/**
 * Compares the name of `image.bitmaps.entry` with the bytes at `address`. Ok when they are the same, NotFound when not,
 * Miss when parked.
 */
export function compareName(image: Image, task: Task, address: usize, length: u32): Status {
  const entry = image.bitmaps.entry;
  if (entry.nameLength !== length) return Status.NotFound;
  const nameOffset = entry.hostOffset + BITMAP_HEADER_SIZE + entry.extraDataLength;
  for (let done: u32 = 0; done < length; ) {
    const slice = needSlice(image.cache, TableKind.BitmapDirectory, nameOffset + done, task);
    if (slice === null) return task.outcome;
    const inSlice = u32(nameOffset + done - slice.hostOffset);
    const count = min(length - done, (u32(1) << image.cache.sliceBits) - inSlice);
    if (memory.compare(slice.data + inSlice, address + done, count) !== 0) return Status.NotFound;
    done += count;
  }
  return Status.Ok;
}

/** Copies the name of `image.bitmaps.entry` to `target`. Ok, or Miss when parked; then some of it may be there. */
export function copyName(image: Image, task: Task, target: usize): Status {
  const entry = image.bitmaps.entry;
  const nameOffset = entry.hostOffset + BITMAP_HEADER_SIZE + entry.extraDataLength;
  for (let done: u32 = 0; done < entry.nameLength; ) {
    const slice = needSlice(image.cache, TableKind.BitmapDirectory, nameOffset + done, task);
    if (slice === null) return task.outcome;
    const inSlice = u32(nameOffset + done - slice.hostOffset);
    const count = min(entry.nameLength - done, (u32(1) << image.cache.sliceBits) - inSlice);
    memory.copy(target + done, slice.data + inSlice, count);
    done += count;
  }
  return Status.Ok;
}

function needWord(image: Image, task: Task, hostOffset: u64, looks: bool): usize {
  const kind = TableKind.BitmapDirectory;
  let slice: TableSlice | null = null;
  if (looks) slice = viewSlice(image.cache, kind, hostOffset, task);
  else slice = needSlice(image.cache, kind, hostOffset, task);
  return slice === null ? 0 : slice.data + usize(hostOffset - slice.hostOffset);
}

/** QEMU's rules. A bitmap in use may have a table for another disk size: only its length is limited. */
function checkEntry(image: Image, entry: BitmapEntry, type: u32, left: u64): Status {
  const at = entry.hostOffset;
  const clusterBits = image.geometry.clusterBits;
  const clusterSize = u64(image.geometry.clusterSize);
  if (entry.length > left) return refuseEntry(image, Field.Length, at, entry.length, left);
  if (type !== BITMAP_TYPE_DIRTY) return refuseEntry(image, Field.Kind, at, type, BITMAP_TYPE_DIRTY);
  if ((entry.flags & ~BITMAP_KNOWN_FLAGS) !== 0) return refuseEntry(image, Field.ReservedBits, at, entry.flags, 0);
  const bits = entry.granularityBits;
  if (bits < MINIMUM_GRANULARITY_BITS || bits > MAXIMUM_GRANULARITY_BITS) {
    return refuseEntry(image, Field.BitmapGranularity, at, bits, MAXIMUM_GRANULARITY_BITS);
  }
  if (entry.nameLength === 0 || entry.nameLength > MAXIMUM_BITMAP_NAME_LENGTH) {
    return refuseEntry(image, Field.BitmapName, at, entry.nameLength, MAXIMUM_BITMAP_NAME_LENGTH);
  }
  const tableLength = u64(entry.tableSize) * BITMAP_ENTRY_SIZE;
  if (entry.tableSize === 0 || u64(entry.tableSize) << clusterBits > MAXIMUM_BITMAP_LENGTH) {
    return refuseEntry(image, Field.BitmapTableSize, at, entry.tableSize, MAXIMUM_BITMAP_LENGTH >> clusterBits);
  }
  const offset = entry.tableOffset;
  const inside = offset < image.fileLength && tableLength <= image.fileLength - offset;
  if (offset < clusterSize || !isAligned(offset, clusterSize) || !inside) {
    return refuseEntry(image, Field.Offset, at, offset, image.fileLength);
  }
  return Status.Ok;
}

function refuseEntry(image: Image, field: Field, hostOffset: u64, found: u64, limit: u64): Status {
  return refuse(image.failure, Status.Corrupt, Structure.BitmapDirectory, field, hostOffset, found, limit);
}
