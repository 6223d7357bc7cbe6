/**
 * The gate of control verbs that must be alone with the image: they see every earlier request ended, and none begins
 * before they have ended.
 *
 *   guest requests, Map, Check ──▶ gate ──▶ at work          shut as soon as one exclusive verb asks for the image
 *   exclusive verb ──▶ gate ──▶ waits until nobody is at work ──▶ alone
 *
 * Whoever waits at the gate is in one list, first come, first served. Flush passes at any time: it changes nothing.
 * The page belongs to one control request at a time; the host sees to that. So a verb finds its parameters there still
 * when its turn has come.
 */

import { Status } from '../abi/status';
import { isEmpty, moveAll, push } from '../base/wait-list';
import { isChange, refuseCorrupt } from './corrupt-bit';
import { Image } from './image';
import { forgetTables } from './table-map-state';
import { Task } from './task';

/** Bytes of `image.exclusiveMemory`: the state of the verb that is alone. It finds there what the last one left. */
export const EXCLUSIVE_LENGTH: u32 = 4096;

/**
 * Ok when `task` is alone; Miss when it was parked: call again. Its requests may be started over, and ask again. The
 * scheduler ends the ownership with the request, however it ends.
 */
export function enterExclusive(image: Image, task: Task): Status {
  const owner = image.exclusiveOwner;
  if (owner !== null && owner !== task) return park(image, task);
  // It may have waited at the gate when that was found.
  if (image.corrupt && isChange(task.kind)) return refuseCorrupt(image);
  image.exclusiveOwner = task;
  // Who is alone may change refcounts: nothing relies on what was true of them before.
  image.packOffset = 0;
  if (isIdle(image)) return Status.Ok;
  push(image.idleWaiters, task);
  task.outcome = Status.Miss;
  return Status.Miss;
}

/** For requests that may run beside each other: Miss, with `task` parked, while the gate is shut. */
export function passGate(image: Image, task: Task): Status {
  const owner = image.exclusiveOwner;
  task.gated = owner !== null && owner !== task;
  return task.gated ? park(image, task) : Status.Ok;
}

/** A request is done, and has left the list of those in flight: whoever waited for it goes on. */
export function leaveGate(image: Image, task: Task): void {
  if (image.exclusiveOwner === task) {
    image.exclusiveOwner = null;
    forgetTables(image.tables);
    moveAll(image.gateWaiters, image.ready);
  }
  if (!isEmpty(image.idleWaiters) && isIdle(image)) moveAll(image.idleWaiters, image.ready);
}

function isIdle(image: Image): bool {
  return image.flightHead === null && image.lookers === 0;
}

function park(image: Image, task: Task): Status {
  push(image.gateWaiters, task);
  task.outcome = Status.Miss;
  return Status.Miss;
}
