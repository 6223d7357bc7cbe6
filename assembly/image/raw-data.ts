/**
 * A raw data file holds what the guest reads, also where the tables say zeros: there it is zeroed first, before any table
 * changes.
 */

import { Status } from '../abi/status';
import { zeroData } from '../block';
import { Image } from './image';
import { TASK_OPERATIONS, Task } from './task';

/** Most bytes that one operation zeroes. */
const MAXIMUM_LENGTH: u64 = 0x40000000;

/** Zeroes the guest's bytes from `start` to `end`, once in a task. Ok when that has ended, or there is no raw data file. */
export function zeroRawData(image: Image, task: Task, start: u64, end: u64): Status {
  if (!image.isDataRaw) return Status.Ok;
  if (task.zeroedEnd === end) {
    if (task.zeroing && task.outstanding !== 0) return Status.Miss;
    task.zeroing = false;
    return Status.Ok;
  }
  task.zeroing = true;
  if (task.zeroedEnd < start) task.zeroedEnd = start;
  while (task.zeroedEnd < end) {
    if (task.outstanding === TASK_OPERATIONS) return Status.Miss;
    const length = u32(min(end - task.zeroedEnd, MAXIMUM_LENGTH));
    task.outstanding++;
    zeroData(image.operations, changetype<usize>(task), task.zeroedEnd, length);
    task.zeroedEnd += length;
  }
  return Status.Miss;
}
