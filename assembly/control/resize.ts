/**
 * Resize: the virtual disk becomes longer or shorter; snapshots keep their own sizes.
 *
 *   longer:   room in the L1 table ─▶ what is new reads as zeros ─▶ flush ─▶ header: size
 *   shorter:  clusters behind the end lose their references ─▶ flush ─▶ L2 tables behind it too ─▶ flush ─▶ header: size
 *
 * The size in the header changes last, by one sector: before that nobody sees the new part, or misses the old one's
 * tables. The L1 table keeps its length when the disk shrinks, as QEMU's does.
 */

import { Field, Structure } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { ResizeFlag, ResizeOptions } from '../abi/resize-options';
import { Status } from '../abi/status';
import { alignUp, isAligned } from '../base/align';
import { storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { requestFlush } from '../cache/write-order';
import { l1EntriesFor } from '../format/geometry';
import { HeaderOffset, MAXIMUM_L1_LENGTH } from '../format/header';
import { EXCLUSIVE_LENGTH, enterExclusive } from '../image/exclusive';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { abandonL1Growth, growL1, L1Growth } from './grow-l1';
import { dropL2Tables, dropMappings } from './shrink';

enum Stage {
  Plan = 0,
  GrowL1 = 1,
  /** The scheduler runs the verb that writes zeros on the task's range. */
  ZeroNew = 2,
  DropMappings = 3,
  FlushMappings = 4,
  DropTables = 5,
  FlushAll = 6,
  SwitchSize = 7,
}

const SECTOR: u32 = 512;

/** In `image.exclusiveMemory`: where the request stands. `task.stage` belongs to the verb that writes zeros. */
@unmanaged
class Resize {
  stage: u32 = 0;
  flags: u32 = 0;
  newSize: u64 = 0;
  growth: L1Growth = changetype<L1Growth>(0);
}

/** Bytes of the record above; the growth of the L1 table has the memory behind it. */
const RESIZE_LENGTH: usize = 32;

/**
 * Goes on with the resize. While `isZeroingNew` the scheduler runs the verb that writes zeros on the task's range
 * instead, and says `endZeroingNew` when it is done. Ok with `task.committed`: the request is done.
 */
export function stepResize(image: Image, task: Task): Status {
  if (!task.entered) {
    const status = begin(image, task);
    if (status !== Status.Ok) return status;
  }
  const resize = stateOf(image);
  while (!task.committed && resize.stage !== Stage.ZeroNew) {
    const status = step(image, task, resize);
    if (status !== Status.Ok) return status;
  }
  return Status.Ok;
}

/** Whether the task's range is to be zeroed now. */
export function isZeroingNew(image: Image, task: Task): bool {
  return task.kind === RequestKind.Resize && task.entered && stateOf(image).stage === Stage.ZeroNew;
}

export function endZeroingNew(image: Image): void {
  stateOf(image).stage = Stage.FlushAll;
}

/** Gives back what nothing refers to. */
export function abandonResize(image: Image, task: Task): void {
  if (task.entered && stateOf(image).stage === Stage.GrowL1) abandonL1Growth(image, stateOf(image).growth);
}

function begin(image: Image, task: Task): Status {
  const status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  const options = changetype<ResizeOptions>(image.page);
  const resize = stateOf(image);
  memory.fill(image.exclusiveMemory, 0, EXCLUSIVE_LENGTH);
  resize.flags = options.flags;
  resize.newSize = options.virtualSize;
  resize.growth = changetype<L1Growth>(image.exclusiveMemory + RESIZE_LENGTH);
  task.entered = true;
  task.cursor = 0;
  task.guestEnd = 0;
  task.request.progress = 0;
  return Status.Ok;
}

function step(image: Image, task: Task, resize: Resize): Status {
  switch (resize.stage) {
    case Stage.Plan:
      return plan(image, task, resize);
    case Stage.GrowL1:
      return growTable(image, task, resize);
    case Stage.DropMappings: {
      const status = dropMappings(image, task);
      if (status === Status.Ok) resize.stage = Stage.FlushMappings;
      return status;
    }
    case Stage.FlushMappings:
      resize.stage = Stage.DropTables;
      task.cursor = l1EntriesFor(image.geometry, resize.newSize);
      return flushAll(image, task);
    case Stage.DropTables: {
      const status = dropL2Tables(image, task);
      if (status === Status.Ok) resize.stage = Stage.FlushAll;
      return status;
    }
    case Stage.FlushAll:
      resize.stage = Stage.SwitchSize;
      return flushAll(image, task);
    default:
      return switchSize(image, task, resize);
  }
}

function plan(image: Image, task: Task, resize: Resize): Status {
  const status = checkOptions(image, resize);
  if (status !== Status.Ok) return status;
  const clusterSize = u64(image.geometry.clusterSize);
  if (resize.newSize < image.virtualSize) {
    task.cursor = alignUp(resize.newSize, clusterSize);
    // All that the L1 table maps: what else lies behind the end of the disk would come to light when it grows again.
    const covered = u64(image.l1Size) << (image.geometry.clusterBits + image.geometry.l2Bits);
    task.guestEnd = max(alignUp(image.virtualSize, clusterSize), covered);
    task.request.progressTotal = task.guestEnd - min(task.cursor, task.guestEnd);
    resize.stage = Stage.DropMappings;
    return Status.Ok;
  }
  resize.growth.newSize = u32(l1EntriesFor(image.geometry, resize.newSize));
  resize.stage = Stage.GrowL1;
  return Status.Ok;
}

function checkOptions(image: Image, resize: Resize): Status {
  if (!image.writable) return refuseSize(image, Status.ReadOnly, resize.newSize, 0);
  if (image.order.broken) return refuseSize(image, Status.Broken, resize.newSize, 0);
  if (!isAligned(resize.newSize, SECTOR)) return refuseSize(image, Status.Invalid, resize.newSize, SECTOR);
  const geometry = image.geometry;
  const largest = (MAXIMUM_L1_LENGTH >> 3) << (geometry.clusterBits + geometry.l2Bits);
  if (resize.newSize > min(largest, 0x7fffffffffffffff)) {
    return refuseSize(image, Status.TooLarge, resize.newSize, largest);
  }
  const shrinks = resize.newSize < image.virtualSize;
  if (shrinks && (resize.flags & ResizeFlag.Shrink) === 0) {
    return refuseSize(image, Status.Invalid, resize.newSize, image.virtualSize);
  }
  // Nobody takes care of the data file's length, and of what lies behind the disk's end there, yet.
  if (image.hasDataFile) return refuseFeature(image, Field.DataFile);
  // Version 2 has no place for the size that the disk had when a snapshot was made.
  if (image.info.snapshotCount !== 0 && image.version < 3) return refuseFeature(image, Field.SizeOfSnapshots);
  if (image.bitmaps.count !== 0) return refuseFeature(image, Field.Bitmaps);
  return Status.Ok;
}

function growTable(image: Image, task: Task, resize: Resize): Status {
  const status = growL1(image, task, resize.growth);
  if (status !== Status.Ok) return status;
  resize.stage = Stage.ZeroNew;
  const clusterSize = u64(image.geometry.clusterSize);
  const end = alignUp(resize.newSize, clusterSize);
  task.stage = 0;
  task.cursor = image.virtualSize;
  // The last cluster may hold old bytes behind the end of the disk.
  task.guestEnd = (resize.flags & ResizeFlag.ZeroNew) !== 0 ? end : min(end, alignUp(image.virtualSize, clusterSize));
  if (resize.newSize === image.virtualSize) task.guestEnd = task.cursor;
  return Status.Ok;
}

function switchSize(image: Image, task: Task, resize: Resize): Status {
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU64(image.headerSector + HeaderOffset.Size, resize.newSize);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  image.virtualSize = resize.newSize;
  image.info.virtualSize = resize.newSize;
  task.committed = true;
  return Status.Ok;
}

function flushAll(image: Image, task: Task): Status {
  requestFlush(image.order, task);
  return Status.Miss;
}

function stateOf(image: Image): Resize {
  return changetype<Resize>(image.exclusiveMemory);
}

function refuseSize(image: Image, status: Status, found: u64, limit: u64): Status {
  return refuse(image.failure, status, Structure.Request, Field.Size, 0, found, limit);
}

function refuseFeature(image: Image, field: Field): Status {
  return refuse(image.failure, Status.Unsupported, Structure.Header, field, 0, 0, 0);
}
