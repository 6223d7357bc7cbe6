/**
 * Zero clusters become what version 2 has, in place, also in an L2 table that several L1 tables share: nobody reads anything
 * else than before.
 *
 *   without a backing file   unallocated; a host cluster that was kept loses as many references as L1 tables lead to it
 *   over a backing file      data: a new cluster of zeros with as many references, durable before the entry names it
 *
 * A kept host cluster is never zeroed and used again: a snapshot may have data in it. (QEMU does that, and the data is gone.)
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { writeZeroes } from '../block';
import { TableSlice } from '../cache/table-cache';
import { dropReferences, markDirty, needRoom } from '../cache/write-order';
import { clearCopied, clusterOffset, isCompressed, isZero, L2_ENTRY_SIZE, makeDataEntry } from '../format/l2-entry';
import { storeRefcount } from '../format/refcount-entry';
import { allocateClusters, releaseClusters } from '../image/allocate';
import { Image } from '../image/image';
import { checkTableOverlap } from '../image/overlap';
import { needRefcounts, refcountIndex } from '../image/refcounts';
import { parkOnOperation, Task } from '../image/task';
import { needReferences, TableReferences } from './table-references';

/** Most bytes that are zeroed at once. */
const LONGEST_ZEROES: u32 = 1 << 30;

/** Clusters of zeros for the next entries. */
@unmanaged
export class ZeroClusters {
  /** The first of those that no entry names yet, and how many they are. */
  hostOffset: u64 = 0;
  count: u32 = 0;
  /** How many of them have all their references. */
  counted: u32 = 0;
  /** They hold zeros, or will once nothing of the task is in flight. */
  zeroed: bool = false;
}

export function startZeroes(zeroes: ZeroClusters): void {
  zeroes.count = 0;
}

/** Replaces the zero entry at `entryOffset`, which lies in `slice`. Miss: call again. */
export function stepZeroes(
  image: Image,
  task: Task,
  zeroes: ZeroClusters,
  references: TableReferences,
  slice: TableSlice,
  entryOffset: u64,
): Status {
  const address = slice.data + usize(entryOffset - slice.hostOffset);
  const host = clusterOffset(loadU64(address));
  const covered = image.info.backingFileLength !== 0;
  if (host !== 0 || covered) {
    const status = needReferences(image, task, references);
    if (status !== Status.Ok) return status;
  }
  const place = checkTableOverlap(image, entryOffset, L2_ENTRY_SIZE);
  if (place !== Status.Ok) return place;
  if (covered) {
    const status = needZeroes(image, task, zeroes, references.count, slice, address);
    if (status !== Status.Ok) return status;
  }
  if (host !== 0 && !needRoom(image.order, task)) return Status.Miss;

  let entry: u64 = 0;
  if (covered) {
    entry = makeDataEntry(zeroes.hostOffset);
    if (!references.active || references.count !== 1) entry = clearCopied(entry);
    zeroes.hostOffset += image.geometry.clusterSize;
    zeroes.count--;
  }
  storeU64(address, entry);
  markDirty(image.order, slice);
  if (host !== 0) dropReferences(image.order, host >> image.geometry.clusterBits, references.count);
  return Status.Ok;
}

/** The downgrade failed: what no entry names goes back. Miss: call again. */
export function abandonZeroes(image: Image, task: Task, zeroes: ZeroClusters): Status {
  if (zeroes.count === 0 || task.leak || image.order.broken) return Status.Ok;
  const status = releaseClusters(image, task, zeroes.hostOffset, zeroes.count);
  if (status === Status.Miss) return status;
  zeroes.count = 0;
  return Status.Ok;
}

/** Clusters of zeros for the entry at `address`, and for as many behind it as are of that kind, if there is room. */
function needZeroes(
  image: Image,
  task: Task,
  zeroes: ZeroClusters,
  references: u32,
  slice: TableSlice,
  address: usize,
): Status {
  if (zeroes.count === 0) {
    const status = allocateClusters(image, task, zeroRun(image, slice, address));
    if (status !== Status.Ok) return status;
    zeroes.hostOffset = image.allocatedOffset;
    zeroes.count = image.allocatedCount;
    zeroes.counted = references === 1 ? zeroes.count : 0;
    zeroes.zeroed = false;
  }
  const bits = image.geometry.clusterBits;
  while (!zeroes.zeroed && zeroes.counted < zeroes.count) {
    const cluster = (zeroes.hostOffset >> bits) + zeroes.counted;
    const block = needRefcounts(image, task, cluster);
    if (block === null) {
      if (task.outcome !== Status.Ok) return task.outcome;
      return refuse(image.failure, Status.Corrupt, Structure.RefcountTable, Field.Offset, 0, cluster, 0);
    }
    storeRefcount(block.data, refcountIndex(image, cluster), image.geometry.refcountOrder, references);
    markDirty(image.order, block);
    zeroes.counted++;
  }
  if (!zeroes.zeroed) {
    zeroes.zeroed = true;
    writeZeroes(image.operations, changetype<usize>(task), zeroes.hostOffset, zeroes.count << bits);
    return parkOnOperation(task);
  }
  if (task.outstanding === 0) return Status.Ok;
  task.outcome = Status.Miss;
  return Status.Miss;
}

/** Zero entries from `address` on, within the slice. */
function zeroRun(image: Image, slice: TableSlice, address: usize): u32 {
  const end = slice.data + (usize(1) << image.geometry.sliceBits);
  let count: u32 = 0;
  for (let at = address; at < end; at += L2_ENTRY_SIZE) {
    const entry = loadU64(at);
    if (isCompressed(entry) || !isZero(entry)) break;
    count++;
  }
  return min(count, LONGEST_ZEROES >> image.geometry.clusterBits);
}
