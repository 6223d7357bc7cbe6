/**
 * Clusters that nothing on disk refers to any more, in great numbers, given back without a flush: for a control verb that
 * is alone with the image and has made durable what no longer names them.
 *
 *   released ── list full, or `finishRelease` ──▶ reclaimable ── refcounts lowered ──▶ spare
 *
 * The reclaimer works on a list that nobody else adds to; so runs are collected here and handed over as a whole.
 */

import { ConfigurationFlag } from '../abi/configuration';
import { Status } from '../abi/status';
import { push } from '../base/wait-list';
import { addRun, hasRoom, moveRuns } from '../cache/dropped-clusters';
import { Image } from './image';
import { settle } from './settle';
import { Task } from './task';

/** Takes one reference from each of `count` clusters. Miss, and nothing has changed: call again. */
export function releaseRun(image: Image, task: Task, cluster: u64, count: u64): Status {
  if (!hasRoom(image.released)) {
    if (image.order.reclaimable.count !== 0) {
      push(image.settleWaiters, task);
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    moveRuns(image.released, image.order.reclaimable);
  }
  const quiet = (image.configuration.flags & ConfigurationFlag.DiscardSnapshot) === 0;
  addRun(image.released, cluster, count, quiet);
  return Status.Ok;
}

/** Ok when the refcounts of everything that was released are lowered; Miss: call again. */
export function finishRelease(image: Image, task: Task): Status {
  if (image.released.count !== 0 && image.order.reclaimable.count === 0) {
    moveRuns(image.released, image.order.reclaimable);
  }
  const status = settle(image, task);
  return status === Status.Ok && image.released.count !== 0 ? finishRelease(image, task) : status;
}

/** The task failed: what is not handed over yet leaks. */
export function forgetReleased(image: Image): void {
  image.released.count = 0;
}
