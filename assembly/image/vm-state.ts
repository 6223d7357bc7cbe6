/**
 * The machine's saved state: guest data behind the disk, from the first L2 table on that the disk does not need (QEMU's
 * `qcow2_vm_state_offset`). Each snapshot has its own, and the active tables the one that was written last.
 */

import { RequestFlag, RequestKind } from '../abi/request';
import { l1EntriesFor } from '../format/geometry';
import { MAXIMUM_L1_LENGTH } from '../format/header';
import { Image } from './image';
import { Task } from './task';

export function isAboutVmState(task: Task): bool {
  return (task.flags & RequestFlag.VmState) !== 0;
}

/** Whether there is such a request: reads and writes of plain clusters. */
export function isVmStateRequest(task: Task): bool {
  if ((task.flags & RequestFlag.Compressed) !== 0) return false;
  return task.kind === RequestKind.Read || task.kind === RequestKind.Write;
}

/** L1 entries for the disk and `end` bytes of saved state; more than a table may have when there is no such place. */
export function l1EntriesWithVmState(image: Image, end: u64): u64 {
  const geometry = image.geometry;
  if (end > 0x7fffffffffffffff) return u64.MAX_VALUE;
  return l1EntriesFor(geometry, image.virtualSize) + l1EntriesFor(geometry, end);
}

/** The range of the request becomes what the tables call it. False when no table could hold it. */
export function moveToVmState(image: Image, task: Task): bool {
  const geometry = image.geometry;
  const end = task.request.guestOffset + task.request.length;
  if (end < task.request.guestOffset || l1EntriesWithVmState(image, end) > MAXIMUM_L1_LENGTH >> 3) return false;
  const start = l1EntriesFor(geometry, image.virtualSize) << (geometry.clusterBits + geometry.l2Bits);
  task.guestOffset = start + task.request.guestOffset;
  task.guestEnd = start + end;
  task.cursor = task.guestOffset;
  return true;
}
