/** Flush: everything that was answered before it becomes durable. */

import { Status } from '../abi/status';
import { requestGuestFlush } from '../cache/write-order';
import { Image } from '../image/image';
import { Task } from '../image/task';

export function stepFlush(image: Image, task: Task): Status {
  if (task.stage !== 0 || !image.writable) return Status.Ok;
  task.stage = 1;
  requestGuestFlush(image.order, task);
  return Status.Miss;
}
