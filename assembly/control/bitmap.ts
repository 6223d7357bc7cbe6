/** The requests about persistent bitmaps, and what is left of one that fails. */

import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { hasRoom } from '../cache/dropped-clusters';
import { dropClusters } from '../cache/write-order';
import { BITMAP_ENTRY_SIZE, bitmapTableSize } from '../format/bitmap-directory';
import { Image } from '../image/image';
import { abandonRegion } from '../image/region';
import { Task } from '../image/task';
import { stepBitmapChange } from './bitmap-change';
import { stepBitmapAdd, stepBitmapRemove } from './bitmap-directory';
import { isHeaderUnknown } from './bitmap-header';
import { stepBitmapList, stepBitmapRanges } from './bitmap-look';
import { stepBitmapMerge } from './bitmap-merge';
import { BitmapStage, workOf } from './bitmap-work';

export function isBitmapRequest(kind: u32): bool {
  return kind >= u32(RequestKind.BitmapList) && kind <= u32(RequestKind.BitmapSet);
}

/** Goes on with a bitmap request. */
export function stepBitmap(image: Image, task: Task): Status {
  switch (task.kind) {
    case RequestKind.BitmapList:
      return stepBitmapList(image, task);
    case RequestKind.BitmapRanges:
      return stepBitmapRanges(image, task);
    case RequestKind.BitmapAdd:
      return stepBitmapAdd(image, task);
    case RequestKind.BitmapRemove:
      return stepBitmapRemove(image, task);
    case RequestKind.BitmapMerge:
    case RequestKind.BitmapSet:
      return stepBitmapMerge(image, task);
    default:
      return stepBitmapChange(image, task);
  }
}

/** The request failed: what nothing names yet goes back. Nobody writes any more when it is unknown what the header says. */
export function abandonBitmap(image: Image, task: Task): void {
  if (image.exclusiveOwner !== task || task.stage === BitmapStage.Begin) return;
  abandonRegion(image);
  if (image.order.broken) return;
  const work = workOf(image);
  if (isHeaderUnknown(work)) {
    image.order.broken = true;
    return;
  }
  const bits = image.geometry.clusterBits;
  if (work.newTableOffset !== 0) {
    const size = bitmapTableSize(image.virtualSize, work.granularityBits, bits);
    giveBack(image, work.newTableOffset, unitsFor(size * BITMAP_ENTRY_SIZE, bits));
    work.newTableOffset = 0;
  }
  if (work.newDirectoryOffset !== 0) {
    giveBack(image, work.newDirectoryOffset, unitsFor(work.newDirectoryLength, bits));
    work.newDirectoryOffset = 0;
  }
}

function giveBack(image: Image, hostOffset: u64, clusters: u64): void {
  if (hasRoom(image.order.dropped)) dropClusters(image.order, hostOffset >> image.geometry.clusterBits, clusters);
}
