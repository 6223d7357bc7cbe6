/** The host's scratch buffers: guest bytes wait there that go from one place to another without entering the module. */

import { Status } from '../abi/status';
import { isEmpty, moveAll, push } from '../base/wait-list';
import { Image } from './image';
import { Task } from './task';

/** Whether a scratch buffer is free; else `task` is parked until one is. */
export function needScratch(image: Image, task: Task): bool {
  if (image.freeScratches !== 0) return true;
  task.outcome = Status.Miss;
  push(image.scratchWaiters, task);
  return false;
}

/** Takes a buffer that `needScratch` has found. It is the task's until `giveScratch`. */
export function takeScratch(image: Image, task: Task): void {
  const index = ctz(image.freeScratches);
  image.freeScratches &= ~(u32(1) << index);
  task.scratch = index + 1;
}

/** Gives the task's buffer back, if it has one. No operation may use it any more. */
export function giveScratch(image: Image, task: Task): void {
  if (task.scratch === 0) return;
  image.freeScratches |= u32(1) << (task.scratch - 1);
  task.scratch = 0;
  if (!isEmpty(image.scratchWaiters)) moveAll(image.scratchWaiters, image.ready);
}
