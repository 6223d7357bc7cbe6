/** Map: what the guest range is, as extents in the page. A full page ends the answer; the host asks on from there. */

import { PAGE_LENGTH } from '../abi/configuration';
import { Extent, ExtentKind } from '../abi/extent';
import { Status } from '../abi/status';
import { Image } from '../image/image';
import { mapRun } from '../image/mapping';
import { Task } from '../image/task';

const EXTENT_SIZE: u32 = 32;
/** Runs that one answer looks at, at most: bounds the work between two chances to cancel. */
const RUNS_PER_ANSWER: u32 = 65536;

export function stepMap(image: Image, task: Task): Status {
  // The stage counts the runs seen, the request's result the extents written: both survive a restart of the step.
  if (task.stage === 0) task.request.result = 0;
  while (task.cursor < task.guestEnd && task.stage < RUNS_PER_ANSWER) {
    const status = mapRun(image, task, task.cursor, task.guestEnd - task.cursor);
    if (status !== Status.Ok) return status;
    if (!append(image, task)) break;
    task.cursor += image.run.length;
    task.stage++;
  }
  return Status.Ok;
}

/** Adds the run to the last extent when it continues it, else as a new one; false when the page is full. */
function append(image: Image, task: Task): bool {
  const run = image.run;
  const request = task.request;
  const count = u32(request.result);
  const hasHost = run.kind !== ExtentKind.Unallocated && run.kind !== ExtentKind.ZeroPlain;
  if (count > 0) {
    const last = extentAt(image, count - 1);
    const follows = hasHost ? last.hostOffset + last.length === run.hostOffset : true;
    if (last.kind === run.kind && follows && run.kind !== ExtentKind.Compressed) {
      last.length += run.length;
      return true;
    }
  }
  if (count === PAGE_LENGTH / EXTENT_SIZE) return false;
  const extent = extentAt(image, count);
  extent.guestOffset = task.cursor;
  extent.length = run.length;
  extent.hostOffset = hasHost ? run.hostOffset : 0;
  extent.kind = run.kind;
  extent.reserved = 0;
  request.result = u64(count) + 1;
  return true;
}

function extentAt(image: Image, index: u32): Extent {
  return changetype<Extent>(image.page + usize(index * EXTENT_SIZE));
}
