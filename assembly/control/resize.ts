/**
 * Resize: the virtual disk becomes longer or shorter; snapshots keep their own sizes.
 *
 *   longer:   (what lies behind the end loses its clusters and tables) ─▶ room in the L1 table ─▶ what is new reads as zeros ─▶ flush ─▶ (bitmaps) ─▶ header: size
 *   shorter:  (bitmaps) ─▶ clusters behind the end lose their references ─▶ flush ─▶ L2 tables behind it too ─▶ flush
 *             ─▶ header: size
 *
 * Bitmaps are in use from there until the size is durable: what lies behind a new end is lost step by step, and nobody
 * may think that it has not changed.
 *
 * The size in the header changes last, by one sector: before that nobody sees the new part, or misses the old one's
 * tables. The L1 table keeps its length when the disk shrinks, as QEMU's does. The length of an external data file is
 * the host's to change.
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
import { abandonBitmapResize, finishBitmaps, lookAtBitmaps, switchBitmaps } from './bitmap-resize';
import { BitmapResize } from './bitmap-resize-copy';
import { abandonL1Growth, growL1, L1Growth } from './grow-l1';
import { dropL2Tables, dropMappings } from './shrink';

enum Stage {
  Plan = 0,
  LookAtBitmaps = 1,
  GrowL1 = 2,
  /** The scheduler runs the verb that writes zeros on the task's range. */
  ZeroNew = 3,
  DropMappings = 4,
  FlushMappings = 5,
  DropTables = 6,
  FlushAll = 7,
  SwitchBitmaps = 8,
  SwitchSize = 9,
  FinishBitmaps = 10,
  Done = 11,
}

const SECTOR: u32 = 512;

/** In `image.exclusiveMemory`, behind what the bitmaps need: where the request stands. `task.stage` belongs to the verb that writes zeros. */
@unmanaged
class Resize {
  stage: u32 = 0;
  flags: u32 = 0;
  newSize: u64 = 0;
  growth: L1Growth = changetype<L1Growth>(0);
  bitmaps: BitmapResize = changetype<BitmapResize>(0);
}

/** Where in that memory the record and its parts lie. */
const RESIZE_OFFSET: usize = 1024;
const GROWTH_OFFSET: usize = 1088;
const BITMAPS_OFFSET: usize = 1152;

/**
 * Goes on with the resize. While `isZeroingNew` the scheduler runs the verb that writes zeros on the task's range
 * instead, and says `endZeroingNew` when it is done. Ok otherwise: the request is done.
 */
export function stepResize(image: Image, task: Task): Status {
  if (!task.entered) {
    const status = begin(image, task);
    if (status !== Status.Ok) return status;
  }
  const resize = stateOf(image);
  while (resize.stage !== Stage.Done && resize.stage !== Stage.ZeroNew) {
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
  if (!task.entered) return;
  const resize = stateOf(image);
  if (resize.stage === Stage.GrowL1) abandonL1Growth(image, resize.growth);
  if (resize.stage === Stage.SwitchBitmaps) abandonBitmapResize(image, resize.bitmaps);
}

function begin(image: Image, task: Task): Status {
  const status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  const options = changetype<ResizeOptions>(image.page);
  const resize = stateOf(image);
  memory.fill(image.exclusiveMemory, 0, EXCLUSIVE_LENGTH);
  resize.flags = options.flags;
  resize.newSize = options.virtualSize;
  resize.growth = changetype<L1Growth>(image.exclusiveMemory + GROWTH_OFFSET);
  resize.bitmaps = changetype<BitmapResize>(image.exclusiveMemory + BITMAPS_OFFSET);
  task.entered = true;
  task.cursor = 0;
  task.guestEnd = 0;
  task.request.progress = 0;
  return Status.Ok;
}

function step(image: Image, task: Task, resize: Resize): Status {
  switch (resize.stage) {
    case Stage.Plan:
      return plan(image, resize);
    case Stage.LookAtBitmaps: {
      const status = lookAtBitmaps(image, task, resize.bitmaps);
      if (status === Status.Ok) beginChange(image, task, resize);
      return status;
    }
    case Stage.GrowL1:
      return growTable(image, task, resize);
    case Stage.DropMappings: {
      const status = dropMappings(image, task);
      if (status === Status.Ok) resize.stage = Stage.FlushMappings;
      return status;
    }
    case Stage.FlushMappings:
      resize.stage = Stage.DropTables;
      task.cursor = l1EntriesFor(image.geometry, min(image.virtualSize, resize.newSize));
      return flushAll(image, task);
    case Stage.DropTables: {
      const status = dropL2Tables(image, task);
      if (status === Status.Ok) resize.stage = resize.newSize > image.virtualSize ? Stage.GrowL1 : Stage.FlushAll;
      return status;
    }
    case Stage.FlushAll:
      resize.stage = Stage.SwitchSize;
      if (changesBitmaps(image, resize) && resize.newSize > image.virtualSize) resize.stage = Stage.SwitchBitmaps;
      return flushAll(image, task);
    case Stage.SwitchBitmaps: {
      const status = switchBitmaps(image, task, resize.bitmaps);
      if (status !== Status.Ok) return status;
      resize.stage = resize.newSize > image.virtualSize ? Stage.SwitchSize : Stage.DropMappings;
      return Status.Ok;
    }
    case Stage.SwitchSize: {
      const changes = changesBitmaps(image, resize);
      const status = switchSize(image, task, resize);
      if (status === Status.Ok) resize.stage = changes ? Stage.FinishBitmaps : Stage.Done;
      return status;
    }
    default: {
      const status = finishBitmaps(image, task, resize.bitmaps);
      if (status === Status.Ok) resize.stage = Stage.Done;
      return status;
    }
  }
}

function plan(image: Image, resize: Resize): Status {
  const status = checkOptions(image, resize);
  resize.bitmaps.oldSize = image.virtualSize;
  resize.bitmaps.newSize = resize.newSize;
  resize.stage = Stage.LookAtBitmaps;
  return status;
}

function changesBitmaps(image: Image, resize: Resize): bool {
  return image.bitmaps.count !== 0 && resize.newSize !== image.virtualSize;
}

function beginChange(image: Image, task: Task, resize: Resize): void {
  if ((resize.flags & ResizeFlag.AskOnly) !== 0) {
    resize.stage = Stage.Done;
    return;
  }
  const clusterSize = u64(image.geometry.clusterSize);
  const grows = resize.newSize > image.virtualSize;
  resize.growth.newSize = u32(l1EntriesFor(image.geometry, resize.newSize));
  resize.stage = Stage.GrowL1;
  if (resize.newSize === image.virtualSize) return;
  // A machine's saved state, which would come to light.
  if (grows && u64(image.l1Size) === l1EntriesFor(image.geometry, image.virtualSize)) return;
  task.cursor = alignUp(min(image.virtualSize, resize.newSize), clusterSize);
  // All that the L1 table maps: what else lies behind the end of the disk would come to light when it grows again.
  const covered = u64(image.l1Size) << (image.geometry.clusterBits + image.geometry.l2Bits);
  task.guestEnd = max(alignUp(image.virtualSize, clusterSize), covered);
  task.request.progressTotal = task.guestEnd - min(task.cursor, task.guestEnd);
  resize.stage = !grows && changesBitmaps(image, resize) ? Stage.SwitchBitmaps : Stage.DropMappings;
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
  // Version 2 has no place for the size that the disk had when a snapshot was made.
  if (image.info.snapshotCount !== 0 && image.version < 3) return refuseFeature(image, Field.SizeOfSnapshots);
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
  // Where a raw data file is to be zeroed from, too.
  task.guestOffset = task.cursor;
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
  return changetype<Resize>(image.exclusiveMemory + RESIZE_OFFSET);
}

function refuseSize(image: Image, status: Status, found: u64, limit: u64): Status {
  return refuse(image.failure, status, Structure.Request, Field.Size, 0, found, limit);
}

function refuseFeature(image: Image, field: Field): Status {
  return refuse(image.failure, Status.Unsupported, Structure.Header, field, 0, 0, 0);
}
