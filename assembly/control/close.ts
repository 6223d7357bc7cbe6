/** Close: what runs ends, dropped clusters free, everything durable, then nothing is taken any more. */

import { Status } from '../abi/status';
import { requestFlush } from '../cache/write-order';
import { enterExclusive } from '../image/exclusive';
import { Image, ImageState } from '../image/image';
import { settle } from '../image/settle';
import { Task } from '../image/task';

export function stepClose(image: Image, task: Task): Status {
  if (image.writable && task.stage === 0) {
    let status = enterExclusive(image, task);
    if (status !== Status.Ok) return status;
    status = settle(image, task);
    if (status !== Status.Ok) return status;
    task.stage = 1;
    requestFlush(image.order, task);
    return Status.Miss;
  }
  image.state = ImageState.Closed;
  return Status.Ok;
}
