/** Room for the machine's saved state: an L1 table that is long enough. */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { MAXIMUM_L1_LENGTH } from '../format/header';
import { EXCLUSIVE_LENGTH, enterExclusive } from '../image/exclusive';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { l1EntriesWithVmState } from '../image/vm-state';
import { abandonL1Growth, growL1, L1Growth } from './grow-l1';

export function stepVmStateRoom(image: Image, task: Task): Status {
  if (!task.entered) {
    const status = begin(image, task);
    if (status !== Status.Ok) return status;
  }
  return growL1(image, task, growthOf(image));
}

/** Gives back what nothing refers to. */
export function abandonVmStateRoom(image: Image, task: Task): void {
  if (task.entered) abandonL1Growth(image, growthOf(image));
}

function begin(image: Image, task: Task): Status {
  const failure = image.failure;
  const kind = task.kind;
  const status = enterExclusive(image, task);
  if (status !== Status.Ok) return status;
  if (!image.writable) return refuse(failure, Status.ReadOnly, Structure.Request, Field.Kind, 0, kind, 0);
  if (image.order.broken) return refuse(failure, Status.Broken, Structure.File, Field.None, 0, 0, 0);
  const length = task.request.length;
  const entries = l1EntriesWithVmState(image, length);
  const limit = MAXIMUM_L1_LENGTH >> 3;
  if (entries > limit) return refuse(failure, Status.TooLarge, Structure.L1Table, Field.L1Size, 0, entries, limit);
  memory.fill(image.exclusiveMemory, 0, EXCLUSIVE_LENGTH);
  growthOf(image).newSize = u32(entries);
  task.entered = true;
  return Status.Ok;
}

function growthOf(image: Image): L1Growth {
  return changetype<L1Growth>(image.exclusiveMemory);
}
