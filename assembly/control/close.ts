/** Close: what runs ends, dropped clusters free, bitmaps stored, everything durable, then nothing is taken any more. */

import { Status } from '../abi/status';
import { requestFlush } from '../cache/write-order';
import { INCOMPATIBLE_DIRTY } from '../format/features';
import { storeBitmaps } from '../image/bitmap-track';
import { enterExclusive } from '../image/exclusive';
import { changeFeatures } from '../image/header-bits';
import { Image, ImageState } from '../image/image';
import { endLazyRefcounts } from '../image/lazy-refcounts';
import { settle } from '../image/settle';
import { Task } from '../image/task';

enum Stage {
  Flush = 0,
  /** Everything is durable: the image is clean. */
  Clean = 1,
}

export function stepClose(image: Image, task: Task): Status {
  if (image.writable) {
    let status: Status = Status.Ok;
    if (task.stage === Stage.Flush) {
      status = enterExclusive(image, task);
      if (status !== Status.Ok) return status;
      endLazyRefcounts(image);
      status = settle(image, task);
      if (status !== Status.Ok) return status;
      status = storeBitmaps(image, task);
      if (status !== Status.Ok) return status;
      task.stage = Stage.Clean;
      requestFlush(image.order, task);
      return Status.Miss;
    }
    // A repair clears the bit itself when nothing is wrong any more. If it did not, the warning must stay, as
    // on an image that was found corrupt.
    if (!image.tablesOnly && !image.corrupt) {
      status = changeFeatures(image, task, 0, INCOMPATIBLE_DIRTY);
      if (status !== Status.Ok) return status;
    }
  }
  image.state = ImageState.Closed;
  return Status.Ok;
}
