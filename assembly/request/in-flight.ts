/**
 * Which requests overlap. A request that touches bytes of an earlier one waits for it when either of them writes;
 * readers do not wait for readers.
 *
 * A table counts how many requests touch each stretch of the disk, so that the usual case, no overlap, needs no search.
 */

import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { moveAll, push } from '../base/wait-list';
import { Image } from '../image/image';
import { releaseRead } from '../image/read-barrier';
import { Task } from '../image/task';

const STRETCH_BITS: u32 = 16;
export const STRETCHES: u32 = 1024;
/** A request over more stretches than this counts as one that may touch everything. */
const WIDE: u64 = 32;

/** Enters a request; Miss when it has to wait for an earlier one. */
export function enterFlight(image: Image, task: Task): Status {
  const conflict = mayConflict(image, task);
  task.flightPrevious = image.flightTail;
  task.flightNext = null;
  if (image.flightTail === null) image.flightHead = task;
  else (image.flightTail as Task).flightNext = task;
  image.flightTail = task;
  count(image, task, 1);
  return conflict ? waitForEarlier(image, task) : Status.Ok;
}

/** Parks `task` behind the first earlier request that it overlaps; Ok when there is none any more. */
export function waitForEarlier(image: Image, task: Task): Status {
  let other = image.flightHead;
  while (other !== null && other !== task) {
    const writes = isWrite(task) || isWrite(other);
    if (writes && other.guestOffset < task.guestEnd && task.guestOffset < other.guestEnd) {
      image.waits++;
      push(other.followers, task);
      task.outcome = Status.Miss;
      return Status.Miss;
    }
    other = other.flightNext;
  }
  return Status.Ok;
}

/** The request is done: whoever waited for it looks again. */
export function leaveFlight(image: Image, task: Task): void {
  const previous = task.flightPrevious;
  const next = task.flightNext;
  if (previous === null) image.flightHead = next;
  else previous.flightNext = next;
  if (next === null) image.flightTail = previous;
  else next.flightPrevious = previous;
  count(image, task, -1);
  releaseRead(image, task);
  moveAll(task.followers, image.ready);
}

function isWrite(task: Task): bool {
  return task.kind !== RequestKind.Read;
}

/** Two counters a stretch: writes, then all requests. */
function counterAt(image: Image, stretch: u64): usize {
  return image.flightCounts + ((usize(stretch) & (STRETCHES - 1)) << 3);
}

function mayConflict(image: Image, task: Task): bool {
  if (image.flightHead === null) return false;
  const first = task.guestOffset >> STRETCH_BITS;
  const last = (task.guestEnd - 1) >> STRETCH_BITS;
  const write = isWrite(task);
  if (last - first >= WIDE || (write ? image.flightWide : image.flightWideWrites) !== 0) return true;
  for (let stretch = first; stretch <= last; stretch++) {
    if (load<u32>(counterAt(image, stretch) + (write ? 4 : 0)) !== 0) return true;
  }
  return false;
}

function count(image: Image, task: Task, change: i32): void {
  const first = task.guestOffset >> STRETCH_BITS;
  const last = (task.guestEnd - 1) >> STRETCH_BITS;
  const write = isWrite(task);
  if (last - first >= WIDE) {
    image.flightWide += change;
    if (write) image.flightWideWrites += change;
    return;
  }
  for (let stretch = first; stretch <= last; stretch++) {
    const counter = counterAt(image, stretch);
    store<u32>(counter + 4, load<u32>(counter + 4) + change);
    if (write) store<u32>(counter, load<u32>(counter) + change);
  }
}
