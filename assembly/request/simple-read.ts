/**
 * The read that most reads are: of one cluster with plain data whose tables are resident. It goes the shortest way from
 * the request to its one operation; everything else, and everything that is wrong, is left to `read.ts`.
 */

import { Status } from '../abi/status';
import { loadU64 } from '../base/bytes';
import { readGuest } from '../block';
import { peekSlice, TableKind } from '../cache/table-cache';
import { l1Index, l2Index } from '../format/geometry';
import { clusterOffset, isPlainData } from '../format/l2-entry';
import { areAllocated } from '../format/l2-subclusters';
import { Image, ImageState } from '../image/image';
import { recallL2Table } from '../image/l1-memo';
import { linearStart } from '../image/linear';
import { resetTask, Task } from '../image/task';
import { enterFlight } from './in-flight';

/** Starts the read of `task` when it is a simple one; else changes nothing and says false. */
export function startSimpleRead(image: Image, task: Task): bool {
  const request = task.request;
  const geometry = image.geometry;
  const guestOffset = request.guestOffset;
  const length = request.length;
  const clusterSize = u64(geometry.clusterSize);
  const inCluster = guestOffset & (clusterSize - 1);
  if (image.state !== ImageState.Open || image.exclusiveOwner !== null || image.tablesOnly) return false;
  // In a data file the place of every cluster is known: the long way looks at that.
  if (image.hasDataFile) return false;
  if (length === 0 || length > clusterSize - inCluster || request.flags !== 0) return false;
  if (length > image.virtualSize || guestOffset > image.virtualSize - length) return false;

  const tableOffset = recallL2Table(image, l1Index(geometry, guestOffset));
  if (tableOffset === 0) return false;
  const entryOffset = tableOffset + (u64(l2Index(geometry, guestOffset)) << geometry.l2EntryBits);
  const slice = peekSlice(image.cache, TableKind.L2, entryOffset);
  if (slice === null) return false;
  const inSlice = usize(entryOffset - slice.hostOffset);
  const linear = linearStart(image, slice);
  let hostOffset = linear + ((u64(inSlice) >> geometry.l2EntryBits) << geometry.clusterBits);
  if (linear === 0) {
    const entry = loadU64(slice.data + inSlice);
    hostOffset = clusterOffset(entry);
    if (!isPlainData(entry) || (hostOffset & (clusterSize - 1)) !== 0 || hostOffset >= image.fileLength) return false;
    if (geometry.extended) {
      const first = u32(inCluster >> geometry.subclusterBits);
      const last = u32((inCluster + length - 1) >> geometry.subclusterBits);
      if (!areAllocated(loadU64(slice.data + inSlice + 8), first, last)) return false;
    }
  }

  resetTask(task);
  if (image.writable) {
    task.inFlight = true;
    if (enterFlight(image, task) === Status.Miss) {
      // Once it is woken it goes on as any other read.
      task.waiting = true;
      return true;
    }
  }
  task.cursor = task.guestEnd;
  task.outstanding = 1;
  const operations = image.operations;
  readGuest(operations, changetype<usize>(task), task.slot, hostOffset + inCluster, 0, u32(length));
  return true;
}
