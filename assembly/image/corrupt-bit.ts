/**
 * What becomes of an image in which a write meets tables that contradict each other: nothing more is written but what
 * was answered before, and the header says durably that the image is corrupt. Reads go on. A repair takes that back.
 */

import { Field, Structure } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { NO_OPERATION, refuse } from '../base/refuse';
import { INCOMPATIBLE_CORRUPT } from '../format/features';
import { changeFeatures } from './header-bits';
import { abandonHeaderSector } from './header-sector';
import { Image } from './image';
import { Task } from './task';

/** How far a task has come that has found the image corrupt: `Task.marking`. */
export enum Marking {
  None = 0,
  /** Found; the bit is still to be set. */
  Wanted = 1,
  /** The bit is being set. */
  Running = 2,
}

/**
 * The task fails with what stands in the failure record. When the guest's write would have hit metadata, or needs an
 * entry that makes no sense, the image is corrupt from now on. As in QEMU, an entry that points behind the end of the file
 * is no such finding. A control verb that looks before it changes anything only refuses.
 */
export function judgeFinding(image: Image, task: Task): void {
  const failure = image.failure;
  if (image.corrupt || !image.writable || !isGuestChange(task.kind)) return;
  if (failure.status !== Status.Corrupt || failure.operation !== NO_OPERATION) return;
  const field = failure.field;
  if (field !== Field.Overlap && field !== Field.Alignment && field !== Field.Subclusters) return;
  image.corrupt = true;
  task.marking = Marking.Wanted;
}

/** For a task that has nothing in flight: Ok when the header says so durably, or nothing can be done about it. */
export function markCorrupt(image: Image, task: Task): Status {
  if (task.marking === Marking.None) return Status.Ok;
  if (task.marking === Marking.Wanted) {
    // Whatever it wanted of the header is over.
    abandonHeaderSector(image, task);
    task.marking = Marking.Running;
  }
  const status = image.order.broken ? Status.Broken : changeFeatures(image, task, INCOMPATIBLE_CORRUPT, 0);
  if (status === Status.Miss) return Status.Miss;
  endMarking(image, task);
  return Status.Ok;
}

/** An operation of the task failed while it set the bit: it does without. */
export function endMarking(image: Image, task: Task): void {
  if (task.marking !== Marking.Running) return;
  abandonHeaderSector(image, task);
  task.marking = Marking.None;
}

/** Refuses what would change an image that was found corrupt. */
export function refuseCorrupt(image: Image): Status {
  return refuse(image.failure, Status.Corrupt, Structure.Header, Field.CorruptBit, 0, 0, 0);
}

/** Whether such a request changes the image. */
export function isChange(kind: u32): bool {
  switch (kind) {
    case RequestKind.Open:
    case RequestKind.Create:
    case RequestKind.Close:
    case RequestKind.Read:
    case RequestKind.Flush:
    case RequestKind.Map:
    case RequestKind.Check:
    case RequestKind.SnapshotList:
    case RequestKind.BitmapList:
    case RequestKind.BitmapRanges:
      return false;
    default:
      return true;
  }
}

function isGuestChange(kind: u32): bool {
  return kind === RequestKind.Write || kind === RequestKind.WriteZeroes || kind === RequestKind.Discard;
}
