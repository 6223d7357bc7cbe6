/**
 * Keeping enabled bitmaps up to date. On disk a bitmap is either in use, and then its bits count for nothing, or holds
 * every change that the guest made:
 *
 *   stored ── first change: marks, flush ──▶ in use ── bits, flush, marks cleared, flush ──▶ stored
 *
 * A power cut in between leaves an inconsistent bitmap, never one that misses a change. An image that is only read, or
 * opened for writing and not written, keeps its directory as it is.
 */

import { BitmapFlag } from '../abi/bitmap';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU32, storeU32 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { moveAll, push } from '../base/wait-list';
import { needSlice, TableKind } from '../cache/table-cache';
import { markDirty, requestFlush } from '../cache/write-order';
import { BitmapOffset } from '../format/bitmap-directory';
import { setBits } from './bitmap-bits';
import { checkUsable, needBitmapEntry } from './bitmap-entry';
import { BitmapState, trackedAt } from './bitmap-state';
import { Image } from './image';
import { checkTableOverlap } from './overlap';
import { Task } from './task';

/**
 * Notes in every enabled bitmap that the task is going to change its guest range. Ok when that is done: only then may
 * anything be changed. A request that fails afterwards leaves bits too many, which does no harm.
 */
export function noteChanged(image: Image, task: Task): Status {
  const state = image.bitmaps;
  if (task.noted || state.trackedCount === 0) return Status.Ok;
  if (!state.marked) {
    const status = markInUse(image, task);
    if (status !== Status.Ok) return status;
  }
  while (task.noteIndex < state.trackedCount) {
    const tracked = trackedAt(state, task.noteIndex);
    while (task.noteCursor < task.guestEnd) {
      const bits = tracked.granularityBits;
      const status = setBits(image, task, tracked.tableOffset, bits, task.noteCursor, task.guestEnd);
      if (status !== Status.Ok) return status;
      task.noteCursor = state.doneOffset;
    }
    task.noteCursor = task.guestOffset;
    task.noteIndex++;
  }
  task.noted = true;
  return Status.Ok;
}

/**
 * Brings the bitmaps to the file: all bits durable, then no tracked one in use any more. For a verb that is alone. Ok
 * when that is durable, or when there was nothing to do.
 */
export function storeBitmaps(image: Image, task: Task): Status {
  const state = image.bitmaps;
  if (!state.touched) return Status.Ok;
  if (task.noteIndex === 0) {
    task.noteIndex = 1;
    requestFlush(image.order, task);
    return Status.Miss;
  }
  if (task.noteIndex === 1) {
    // From here on nobody may trust the marks, not even when the flush fails.
    state.marked = false;
    const status = changeMarks(image, task, false);
    if (status !== Status.Ok) return status;
    task.noteIndex = 2;
    requestFlush(image.order, task);
    return Status.Miss;
  }
  task.noteIndex = 0;
  state.touched = false;
  return Status.Ok;
}

/** From now on changes are noted in the bitmap too. There is room: `trackedCount` is below `capacity`. */
export function track(image: Image, entryOffset: u64, tableOffset: u64, granularityBits: u32): void {
  const state = image.bitmaps;
  const tracked = trackedAt(state, state.trackedCount++);
  tracked.entryOffset = entryOffset;
  tracked.tableOffset = tableOffset;
  tracked.granularityBits = granularityBits;
}

/** Changes are not noted in the bitmap any more, if they were. */
export function untrack(image: Image, entryOffset: u64): void {
  const state = image.bitmaps;
  const index = findTracked(state, entryOffset);
  if (index === state.trackedCount) return;
  const last = trackedAt(state, --state.trackedCount);
  const tracked = trackedAt(state, index);
  tracked.entryOffset = last.entryOffset;
  tracked.tableOffset = last.tableOffset;
  tracked.granularityBits = last.granularityBits;
}

/** The bitmap has another table. */
export function retrack(image: Image, entryOffset: u64, tableOffset: u64): void {
  const state = image.bitmaps;
  const index = findTracked(state, entryOffset);
  if (index !== state.trackedCount) trackedAt(state, index).tableOffset = tableOffset;
}

/** The directory has moved; `cutLength` bytes at `cutOffset` of the old one are not in the new one. */
export function moveTracked(image: Image, oldOffset: u64, newOffset: u64, cutOffset: u64, cutLength: u64): void {
  const state = image.bitmaps;
  for (let index: u32 = 0; index < state.trackedCount; index++) {
    const tracked = trackedAt(state, index);
    const cut = tracked.entryOffset > cutOffset ? cutLength : 0;
    tracked.entryOffset = tracked.entryOffset - cut - oldOffset + newOffset;
  }
}

function findTracked(state: BitmapState, entryOffset: u64): u32 {
  let index: u32 = 0;
  while (index < state.trackedCount && trackedAt(state, index).entryOffset !== entryOffset) index++;
  return index;
}

/** Begins `loadTracked`. */
export function startLoad(image: Image): void {
  const state = image.bitmaps;
  state.trackedCount = 0;
  state.loadIndex = 0;
  state.loadOffset = state.directoryOffset;
}

/** Walks the directory, checks every entry, and notes which bitmaps are enabled. */
export function loadTracked(image: Image, task: Task): Status {
  const state = image.bitmaps;
  const entry = state.entry;
  while (state.loadIndex < state.count) {
    let status = needBitmapEntry(image, task, state.loadOffset);
    if (status !== Status.Ok) return status;
    if ((entry.flags & BitmapFlag.Auto) !== 0 && (entry.flags & BitmapFlag.InUse) === 0) {
      // A change that cannot be noted would make the bitmap wrong without anybody seeing it.
      status = checkUsable(image, entry, false);
      if (status !== Status.Ok) return status;
      const most = state.capacity;
      if (state.trackedCount === most) {
        const structure = Structure.BitmapDirectory;
        return refuse(image.failure, Status.TooLarge, structure, Field.BitmapCount, state.loadOffset, most + 1, most);
      }
      track(image, entry.hostOffset, entry.tableOffset, entry.granularityBits);
    }
    state.loadOffset += entry.length;
    state.loadIndex++;
  }
  const end = state.directoryOffset + state.directoryLength;
  if (state.count === 0 || state.loadOffset === end) return Status.Ok;
  const at = state.directoryOffset;
  const used = state.loadOffset - at;
  return refuse(
    image.failure,
    Status.Corrupt,
    Structure.BitmapDirectory,
    Field.Length,
    at,
    state.directoryLength,
    used,
  );
}

/** The task failed: if it was marking, the next one tries again. */
export function abandonMarks(image: Image, task: Task): void {
  if (image.bitmaps.markOwner === task) endMarking(image);
}

function markInUse(image: Image, task: Task): Status {
  const state = image.bitmaps;
  if (state.markOwner !== null && state.markOwner !== task) {
    push(state.markWaiters, task);
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  state.markOwner = task;
  if (!state.marking) {
    state.touched = true;
    const status = changeMarks(image, task, true);
    if (status !== Status.Ok) return status;
    state.marking = true;
    requestFlush(image.order, task);
    return Status.Miss;
  }
  // The flush has succeeded: a failure would have ended the task.
  state.marked = true;
  endMarking(image);
  return Status.Ok;
}

function endMarking(image: Image): void {
  const state = image.bitmaps;
  state.markOwner = null;
  state.marking = false;
  moveAll(state.markWaiters, image.ready);
}

/**
 * Sets or clears the mark of every tracked bitmap in the cached directory. Goes on where it stopped: the whole directory
 * may be longer than the cache.
 */
function changeMarks(image: Image, task: Task, inUse: bool): Status {
  const state = image.bitmaps;
  if (image.order.broken) return Status.Broken;
  for (; task.markIndex < state.trackedCount; task.markIndex++) {
    const flagsOffset = trackedAt(state, task.markIndex).entryOffset + BitmapOffset.Flags;
    const slice = needSlice(image.cache, TableKind.BitmapDirectory, flagsOffset, task);
    if (slice === null) return task.outcome;
    const status = checkTableOverlap(image, slice.hostOffset, u64(1) << image.cache.sliceBits);
    if (status !== Status.Ok) return status;
    const flagsAt = slice.data + usize(flagsOffset - slice.hostOffset);
    const flags = loadU32(flagsAt);
    const wanted = inUse ? flags | BitmapFlag.InUse : flags & ~u32(BitmapFlag.InUse);
    if (wanted === flags) continue;
    storeU32(flagsAt, wanted);
    markDirty(image.order, slice);
  }
  task.markIndex = 0;
  return Status.Ok;
}
