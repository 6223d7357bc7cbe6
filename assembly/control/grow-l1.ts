/**
 * A longer L1 table. When its last cluster has room the new entries are cleared there; else the table moves:
 *
 *     copy to new clusters ─▶ flush ─▶ header: offset and entries ─▶ the old clusters are free
 *
 * Until the header says otherwise, entries behind the old end belong to nobody.
 */

import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { storeU32, storeU64 } from '../base/bytes';
import { Owner, writeModule } from '../block';
import { dropSlices, needSlice, TableKind } from '../cache/table-cache';
import { dropClusters, markDirty, needRoom, requestFlush } from '../cache/write-order';
import { HeaderOffset } from '../format/header';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { abandonRegion, allocateRegion } from '../image/region';
import { parkOnOperation, Task } from '../image/task';

enum Stage {
  Decide = 0,
  Clear = 1,
  Allocate = 2,
  Copy = 3,
  Flush = 4,
  Switch = 5,
  Done = 6,
}

/** Where the growth stands. `newSize` counts entries, as do the cursor when clearing; it counts slices when copying. */
@unmanaged
export class L1Growth {
  stage: u32 = 0;
  newSize: u32 = 0;
  cursor: u64 = 0;
  /** The new table's place; 0 when it stays where it is. */
  newOffset: u64 = 0;
}

/** Ok when the L1 table has `growth.newSize` entries or more, durably; then it is not touched any more. */
export function growL1(image: Image, task: Task, growth: L1Growth): Status {
  while (growth.stage !== Stage.Done) {
    if (task.outstanding !== 0) {
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    const status = step(image, task, growth);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

/** The clusters of a new table that no header names: nothing refers to them. */
export function abandonL1Growth(image: Image, growth: L1Growth): void {
  if (growth.stage === Stage.Allocate) abandonRegion(image);
  // While the header changes hands nobody knows which table counts, and nothing is written any more.
  if (growth.newOffset === 0 || growth.stage === Stage.Done || image.order.broken) return;
  const bits = image.geometry.clusterBits;
  dropClusters(image.order, growth.newOffset >> bits, unitsFor(u64(growth.newSize) << 3, bits));
  growth.newOffset = 0;
}

function step(image: Image, task: Task, growth: L1Growth): Status {
  switch (growth.stage) {
    case Stage.Decide:
      return decide(image, growth);
    case Stage.Clear:
      return clear(image, task, growth);
    case Stage.Allocate: {
      const status = allocateRegion(image, task, clustersOf(image, growth.newSize));
      if (status !== Status.Ok) return status;
      growth.newOffset = image.allocatedOffset;
      growth.cursor = 0;
      growth.stage = Stage.Copy;
      return Status.Ok;
    }
    case Stage.Copy:
      return copy(image, task, growth);
    case Stage.Flush:
      growth.stage = Stage.Switch;
      requestFlush(image.order, task);
      return Status.Miss;
    default:
      return switchTable(image, task, growth);
  }
}

function decide(image: Image, growth: L1Growth): Status {
  if (growth.newSize <= image.l1Size) growth.stage = Stage.Done;
  else if (clustersOf(image, growth.newSize) === clustersOf(image, image.l1Size)) {
    growth.cursor = image.l1Size;
    growth.stage = Stage.Clear;
  } else growth.stage = Stage.Allocate;
  return Status.Ok;
}

/** Entries behind the end of the table may hold anything: zeros, a slice at a time. */
function clear(image: Image, task: Task, growth: L1Growth): Status {
  while (growth.cursor < growth.newSize) {
    const offset = image.l1Offset + (growth.cursor << 3);
    const slice = needSlice(image.cache, TableKind.L1, offset, task);
    if (slice === null) return task.outcome;
    const first = offset - slice.hostOffset;
    const length = min((u64(growth.newSize) - growth.cursor) << 3, (u64(1) << image.geometry.sliceBits) - first);
    memory.fill(slice.data + usize(first), 0, usize(length));
    markDirty(image.order, slice);
    growth.cursor += length >> 3;
  }
  growth.stage = Stage.Flush;
  return Status.Ok;
}

/** Writes the new table, a slice at a time: the entries as they are in the cache, then zeros. */
function copy(image: Image, task: Task, growth: L1Growth): Status {
  const sliceLength = u32(1) << image.geometry.sliceBits;
  const position = growth.cursor << image.geometry.sliceBits;
  if (position === clustersOf(image, growth.newSize) << image.geometry.clusterBits) {
    growth.stage = Stage.Flush;
    return Status.Ok;
  }
  const oldLength = u64(image.l1Size) << 3;
  memory.fill(image.scratch, 0, sliceLength);
  if (position < oldLength) {
    const old = needSlice(image.cache, TableKind.L1, image.l1Offset + position, task);
    if (old === null) return task.outcome;
    memory.copy(image.scratch, old.data, usize(min(u64(sliceLength), oldLength - position)));
  }
  growth.cursor++;
  const target = growth.newOffset + position;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), target, image.scratch, sliceLength);
  return parkOnOperation(task);
}

function switchTable(image: Image, task: Task, growth: L1Growth): Status {
  const moves = growth.newOffset !== 0;
  if (moves && image.headerOwner !== task && !needRoom(image.order, task)) return Status.Miss;
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU32(image.headerSector + HeaderOffset.L1Size, growth.newSize);
  if (moves) storeU64(image.headerSector + HeaderOffset.L1TableOffset, growth.newOffset);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  if (moves) forgetOld(image, growth);
  image.l1Size = growth.newSize;
  image.info.l1Size = growth.newSize;
  growth.stage = Stage.Done;
  return Status.Ok;
}

/** The header names the new table, durably: the clusters of the old one may be free. */
function forgetOld(image: Image, growth: L1Growth): void {
  const clusters = clustersOf(image, image.l1Size);
  const bits = image.geometry.clusterBits;
  dropSlices(image.cache, image.l1Offset, clusters << bits);
  if (clusters !== 0) dropClusters(image.order, image.l1Offset >> bits, clusters);
  image.l1Offset = growth.newOffset;
  image.info.l1TableOffset = growth.newOffset;
}

function clustersOf(image: Image, entries: u32): u64 {
  return unitsFor(u64(entries) << 3, image.geometry.clusterBits);
}
