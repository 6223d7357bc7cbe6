/** What is known of an image's bitmaps while it is open. Their bits stay in the file and in the cache of tables. */

import { WaitList } from '../base/wait-list';
import { Task } from './task';

/** One entry of the directory, read and checked: see bitmap-entry.ts. */
@unmanaged
export class BitmapEntry {
  /** Where it stands in the file, and its bytes with name and padding. */
  hostOffset: u64 = 0;
  length: u64 = 0;
  tableOffset: u64 = 0;
  tableSize: u32 = 0;
  flags: u32 = 0;
  granularityBits: u32 = 0;
  nameLength: u32 = 0;
  extraDataLength: u32 = 0;
}

/** An enabled bitmap: every change of the guest's goes into its bits. */
@unmanaged
export class TrackedBitmap {
  /** Of its entry in the directory, and of its table. */
  entryOffset: u64 = 0;
  tableOffset: u64 = 0;
  granularityBits: u32 = 0;
  reserved: u32 = 0;
}

const TRACKED_SIZE: u32 = 24;
/** Enabled bitmaps that there is memory for at least, and QEMU's limit. */
const LEAST_TRACKED: u32 = 256;
const MOST_TRACKED: u32 = 65535;
/** Bytes of the cache for each of them. */
const CACHE_PER_TRACKED: u32 = 256;

/** Most enabled bitmaps of an image that can be written with a cache of `cacheLength` bytes. */
export function trackedCapacity(cacheLength: u32): u32 {
  return min(MOST_TRACKED, max(LEAST_TRACKED, cacheLength / CACHE_PER_TRACKED));
}

/** Bytes of the records for so many. */
export function trackedLength(capacity: u32): u64 {
  return u64(capacity) * TRACKED_SIZE;
}

@unmanaged
export class BitmapState {
  /** While Open runs: the extension's data in the page, 0 when there is none, and its bytes. */
  extensionAddress: u32 = 0;
  extensionLength: u32 = 0;
  /** Bitmaps in the directory; 0 when there is none, or when it cannot be trusted. */
  count: u32 = 0;
  /** The header names bitmaps in a way that makes no sense: whose clusters are whose is not known. */
  damaged: bool = false;
  trackedCount: u32 = 0;
  directoryOffset: u64 = 0;
  directoryLength: u64 = 0;
  /** TrackedBitmap records, and how many there is memory for. */
  tracked: usize = 0;
  capacity: u32 = 0;
  /** The tracked bitmaps are in use on disk, durably. */
  marked: bool = false;
  /** This instance has begun to mark them: what is in use is so because of it. */
  touched: bool = false;
  /** The task that marks them; the others wait. */
  markOwner: Task | null = null;
  markWaiters: WaitList = changetype<WaitList>(0);
  /** The marks are in the cache, and the flush has been asked for. */
  marking: bool = false;
  /** The entry that was read last. */
  entry: BitmapEntry = changetype<BitmapEntry>(0);
  /** Where the walk that loads the tracked bitmaps is: host offset and number of the next entry. */
  loadOffset: u64 = 0;
  loadIndex: u32 = 0;
  /** Answer of `setBits` and `findDirty`: guest bytes are done up to here, and whether they are dirty. */
  doneOffset: u64 = 0;
  dirty: bool = false;
}

export function trackedAt(state: BitmapState, index: u32): TrackedBitmap {
  return changetype<TrackedBitmap>(state.tracked + usize(index * TRACKED_SIZE));
}

/** Whether the bitmap whose entry stands at `entryOffset` is in use because of this very instance. */
export function isOurs(state: BitmapState, entryOffset: u64): bool {
  if (!state.touched) return false;
  for (let index: u32 = 0; index < state.trackedCount; index++) {
    if (trackedAt(state, index).entryOffset === entryOffset) return true;
  }
  return false;
}
