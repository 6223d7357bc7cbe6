/**
 * Reads that may still look at a cluster which nothing refers to any more. A write to a part of a cluster replaces the
 * whole of it, so a read of another part, which need not wait for the write, can have the old cluster in hand; and it
 * must end before that is used again.
 */

import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { moveAll, push } from '../base/wait-list';
import { Image } from './image';
import { Task } from './task';

/** Marks every read that has operations in flight now: what was dropped before may not be freed before they end. */
export function holdReads(image: Image): void {
  let task = image.flightHead;
  while (task !== null) {
    if (task.kind === RequestKind.Read && task.outstanding !== 0 && !task.held) {
      task.held = true;
      image.heldReads++;
    }
    task = task.flightNext;
  }
}

/** Miss, with `waiter` parked, until every read that was marked has ended. */
export function waitForReads(image: Image, waiter: Task): Status {
  if (image.heldReads === 0) return Status.Ok;
  waiter.outcome = Status.Miss;
  push(image.readWaiters, waiter);
  return Status.Miss;
}

/** A request ends. */
export function releaseRead(image: Image, task: Task): void {
  if (!task.held) return;
  task.held = false;
  if (--image.heldReads === 0) moveAll(image.readWaiters, image.ready);
}
