/** L2 entries of whole clusters that hold no data any more. */

import { ConfigurationFlag } from '../abi/configuration';
import { ExtentKind } from '../abi/extent';
import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { discardData } from '../block';
import { needSlice, TableKind } from '../cache/table-cache';
import { dropDiscarded, markDirty, needRoom } from '../cache/write-order';
import { compressedLength, compressedOffset } from '../format/compressed';
import { makeZeroEntry, ZERO_PLAIN_ENTRY } from '../format/l2-entry';
import { ALL_ZEROES, withZeroes } from '../format/l2-subclusters';
import { Image } from './image';
import { checkTableOverlap, needNoTable, needNoTableForData } from './overlap';
import { Task } from './task';

/** What the entries become. */
export enum Replacement {
  /** Zeros without a host cluster. */
  ZeroPlain = 0,
  /** Zeros; a host cluster stays reserved. */
  ZeroKept = 1,
  /** Nothing, as if it had never been written. */
  Unallocated = 2,
  /** Zeros; a host cluster of their own stays reserved, but not its space in the file. */
  ZeroReserved = 3,
}

/** What whole clusters become that the guest discards, in version 3. */
export function discardedReplacement(image: Image): Replacement {
  const keeps = (image.configuration.flags & ConfigurationFlag.KeepDiscarded) !== 0;
  return keeps ? Replacement.ZeroReserved : Replacement.ZeroPlain;
}

/**
 * Replaces the entries of `image.run`, which `mapRun` has just found at the task's cursor, also that of a cluster of
 * which the run is only a part; moves the cursor behind the run. Host clusters that are not kept lose a reference; in a
 * data file, whose clusters nobody counts, they are discarded, and the task has one more operation in flight.
 */
export function replaceEntries(image: Image, task: Task, wanted: Replacement): Status {
  const run = image.run;
  const geometry = image.geometry;
  const replacement = possibleReplacement(image, wanted);
  if (geometry.extended) return replaceExtended(image, task, replacement);
  const place = checkTableOverlap(image, run.sliceOffset, u64(1) << geometry.sliceBits);
  if (place !== Status.Ok) return place;
  const drops = hasHost(run.kind) && !keepsHost(replacement);
  const punches = hasHost(run.kind) && replacement === Replacement.ZeroReserved;
  const length = run.kind === ExtentKind.Compressed ? u64(1) : run.length;
  const counted = drops && !image.hasDataFile;
  if (counted) {
    // A table must never be handed out as free, whatever an entry says.
    const status = needNoTable(image, task, run.hostOffset, length);
    if (status !== Status.Ok) return status;
    if (!needRoom(image.order, task)) return Status.Miss;
  }
  if (punches) {
    const status = needNoTableForData(image, task, run.hostOffset, run.length);
    if (status !== Status.Ok) return status;
  }
  if (image.order.broken) return Status.Broken;
  const slice = needSlice(image.cache, TableKind.L2, run.sliceOffset, task);
  if (slice === null) return task.outcome;

  const count = u32((run.length + geometry.clusterSize - 1) >> geometry.clusterBits);
  const firstAddress = slice.data + (usize(run.sliceIndex) << geometry.l2EntryBits);
  if (counted) dropHosts(image, loadU64(firstAddress), count);
  else if (drops || punches) giveBackSpace(image, task, run.length);
  let changed = false;
  for (let index: u32 = 0; index < count; index++) {
    const address = firstAddress + (usize(index) << geometry.l2EntryBits);
    const entry = loadU64(address);
    const replaced = replace(entry, replacement);
    if (replaced === entry) continue;
    storeU64(address, replaced);
    changed = true;
  }
  if (changed) markDirty(image.order, slice);
  task.cursor += run.length;
  return Status.Ok;
}

/** As above, for the one cluster that the cursor is in, whatever its subclusters are; up to the end of it or the task. */
function replaceExtended(image: Image, task: Task, replacement: Replacement): Status {
  const run = image.run;
  const geometry = image.geometry;
  const place = checkTableOverlap(image, run.sliceOffset, u64(1) << geometry.sliceBits);
  if (place !== Status.Ok) return place;
  if (image.order.broken) return Status.Broken;
  const slice = needSlice(image.cache, TableKind.L2, run.sliceOffset, task);
  if (slice === null) return task.outcome;
  const address = slice.data + (usize(run.sliceIndex) << geometry.l2EntryBits);
  const entry = loadU64(address);
  const drops = hasHost(run.kind) && !keepsHost(replacement);
  const punches = hasHost(run.kind) && replacement === Replacement.ZeroReserved;
  const inCluster = task.cursor & (u64(geometry.clusterSize) - 1);
  const length = min(u64(geometry.clusterSize) - inCluster, task.guestEnd - task.cursor);
  if (drops && !image.hasDataFile) {
    const start = run.kind === ExtentKind.Compressed ? run.hostOffset : run.hostOffset - inCluster;
    const status = needNoTable(image, task, start, run.kind === ExtentKind.Compressed ? u64(1) : geometry.clusterSize);
    if (status !== Status.Ok) return status;
    if (!needRoom(image.order, task)) return Status.Miss;
    dropHosts(image, entry, 1);
  } else if (drops || punches) {
    const status = punches ? needNoTableForData(image, task, run.hostOffset, length) : Status.Ok;
    if (status !== Status.Ok) return status;
    giveBackSpace(image, task, length);
  }
  storeU64(address, keepsHost(replacement) ? entry : 0);
  storeU64(address + 8, replacement === Replacement.Unallocated ? 0 : ALL_ZEROES);
  markDirty(image.order, slice);
  task.cursor += length;
  return Status.Ok;
}

/** The subclusters of the run read as zeros, whose entries are not of compressed clusters; their clusters stay. */
export function zeroSubclusters(image: Image, task: Task): Status {
  const run = image.run;
  const geometry = image.geometry;
  const place = checkTableOverlap(image, run.sliceOffset, u64(1) << geometry.sliceBits);
  if (place !== Status.Ok) return place;
  if (image.order.broken) return Status.Broken;
  const slice = needSlice(image.cache, TableKind.L2, run.sliceOffset, task);
  if (slice === null) return task.outcome;
  const bits = geometry.subclusterBits;
  const mask = (u64(1) << bits) - 1;
  const clusterMask = u64(geometry.clusterSize) - 1;
  const end = task.cursor + run.length;
  let address = slice.data + (usize(run.sliceIndex) << geometry.l2EntryBits);
  while (task.cursor < end) {
    const start = task.cursor & ~clusterMask;
    const partEnd = min(start + geometry.clusterSize, end);
    const first = u32((task.cursor - start) >> bits);
    const last = u32((partEnd - start + mask) >> bits);
    storeU64(address + 8, withZeroes(loadU64(address + 8), first, last));
    address += usize(1) << geometry.l2EntryBits;
    task.cursor = partEnd;
  }
  markDirty(image.order, slice);
  return Status.Ok;
}

/** A snapshot's cluster is not the guest's to keep, and a compressed one cannot be written to. */
function possibleReplacement(image: Image, wanted: Replacement): Replacement {
  if (wanted !== Replacement.ZeroReserved) return wanted;
  const run = image.run;
  return run.kind !== ExtentKind.Compressed && (run.copied || !hasHost(run.kind)) ? wanted : Replacement.ZeroPlain;
}

function keepsHost(replacement: Replacement): bool {
  return replacement === Replacement.ZeroKept || replacement === Replacement.ZeroReserved;
}

/**
 * Discards `length` bytes of the run's clusters, which stay the guest's: whatever a crash leaves of the tables, they find
 * the old bytes there or zeros, and both are what the guest may see.
 */
function giveBackSpace(image: Image, task: Task, length: u64): void {
  if (image.order.quietRequest) return;
  task.outstanding++;
  discardData(image.operations, changetype<usize>(task), image.run.hostOffset, u32(length));
}

function replace(entry: u64, replacement: Replacement): u64 {
  if (keepsHost(replacement)) return makeZeroEntry(entry);
  return replacement === Replacement.ZeroPlain ? ZERO_PLAIN_ENTRY : 0;
}

function hasHost(kind: u32): bool {
  return kind !== ExtentKind.Unallocated && kind !== ExtentKind.ZeroPlain;
}

/** One reference less to every host cluster of the run; a compressed cluster refers to all that its sectors touch. */
function dropHosts(image: Image, entry: u64, count: u32): void {
  const run = image.run;
  const bits = image.geometry.clusterBits;
  if (run.kind !== ExtentKind.Compressed) {
    dropDiscarded(image.order, run.hostOffset >> bits, count);
    return;
  }
  const offset = compressedOffset(entry, bits);
  const first = offset >> bits;
  const last = (offset + compressedLength(entry, bits) - 1) >> bits;
  dropDiscarded(image.order, first, last - first + 1);
}
