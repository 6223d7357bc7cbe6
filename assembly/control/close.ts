/** Close: everything durable, dropped clusters free, then nothing is taken any more. */

import { Status } from '../abi/status';
import { push } from '../base/wait-list';
import { isSettled, requestFlush } from '../cache/write-order';
import { Image, ImageState } from '../image/image';
import { Task } from '../image/task';

enum Stage {
  Begin = 0,
  Settle = 1,
}

export function stepClose(image: Image, task: Task): Status {
  const order = image.order;
  if (image.writable && (task.stage === Stage.Begin || order.cache.dirtyCount !== 0 || !isSettled(order))) {
    task.stage = Stage.Settle;
    task.outcome = Status.Miss;
    // Lowered refcounts are dirty again: one more flush after them.
    if (order.reclaimable.count !== 0) push(image.settleWaiters, task);
    else requestFlush(order, task);
    return Status.Miss;
  }
  image.state = ImageState.Closed;
  return Status.Ok;
}
