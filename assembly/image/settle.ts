/** Waiting until nothing is on its way to being free: then refcounts say what the tables say. */

import { Status } from '../abi/status';
import { push } from '../base/wait-list';
import { isSettled, requestFlush } from '../cache/write-order';
import { Image } from './image';
import { Task } from './task';

/** Ok when all dropped clusters are free; Miss while the task waits for it. */
export function settle(image: Image, task: Task): Status {
  const order = image.order;
  if (isSettled(order)) return Status.Ok;
  task.outcome = Status.Miss;
  if (order.reclaimable.count !== 0) push(image.settleWaiters, task);
  else requestFlush(order, task);
  return Status.Miss;
}
