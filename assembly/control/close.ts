/** Close: a last flush, then nothing is taken any more. */

import { Status } from '../abi/status';
import { requestFlush } from '../cache/write-order';
import { Image, ImageState } from '../image/image';
import { Task } from '../image/task';

export function stepClose(image: Image, task: Task): Status {
  if (task.stage === 0 && image.writable) {
    task.stage = 1;
    requestFlush(image.order, task);
    return Status.Miss;
  }
  image.state = ImageState.Closed;
  return Status.Ok;
}
