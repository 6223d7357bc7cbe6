/**
 * Lazy refcounts: guest flushes leave the refcounts on disk behind. Before the first one does, the header says so
 * durably, with the dirty bit; whoever opens the image for writing after a crash counts every reference anew. A control
 * verb that takes the bit back has brought all refcounts to the file before.
 *
 *   eager ── guest flushes, refcounts dirty ──▶ bit being set, still eager ── durable ──▶ lazy ── `endLazyRefcounts` ──▶ eager
 *
 * The core's own task sets the bit: nobody waits for it.
 */

import { ConfigurationFlag } from '../abi/configuration';
import { Status } from '../abi/status';
import { COMPATIBLE_LAZY_REFCOUNTS, INCOMPATIBLE_DIRTY } from '../format/features';
import { leaveGate } from './exclusive';
import { changeFeatures } from './header-bits';
import { abandonHeaderSector } from './header-sector';
import { Image } from './image';
import { Task } from './task';

/** Whether the bit should be set now. */
export function wantsLazyRefcounts(image: Image): bool {
  const order = image.order;
  if (order.lazy || !order.guestFlushed || order.dirtyBlocks.count === 0) return false;
  if (order.broken || image.lazyFailed || image.exclusiveOwner !== null) return false;
  return usesLazyRefcounts(image);
}

/** Begins to set the bit; `task` is the core's own for that, and not active. */
export function startLazyRefcounts(image: Image, task: Task): void {
  task.active = true;
  task.failed = Status.Ok;
  task.outcome = Status.Ok;
  // A verb that is alone with the image begins when the bit is set.
  image.lookers++;
  setDirty(image, task);
}

/** Goes on with it. */
export function setDirty(image: Image, task: Task): void {
  task.outcome = Status.Ok;
  if (task.outstanding !== 0) return;
  const status: Status = task.failed === Status.Ok ? changeFeatures(image, task, INCOMPATIBLE_DIRTY, 0) : task.failed;
  if (status === Status.Miss) return;
  if (status === Status.Ok) {
    image.order.lazy = true;
  } else {
    abandonHeaderSector(image, task);
    image.lazyFailed = true;
  }
  task.active = false;
  image.lookers--;
  leaveGate(image, task);
}

/** From now on refcounts go to the file as ever; for a verb that is alone, before it flushes and clears the bit. */
export function endLazyRefcounts(image: Image): void {
  image.order.lazy = false;
}

function usesLazyRefcounts(image: Image): bool {
  const flags = image.configuration.flags;
  if (image.tablesOnly || image.version < 3 || (flags & ConfigurationFlag.EagerRefcounts) !== 0) return false;
  if ((flags & ConfigurationFlag.LazyRefcounts) !== 0) return true;
  return (image.info.compatibleFeatures & COMPATIBLE_LAZY_REFCOUNTS) !== 0;
}
