/**
 * The first 512 bytes of the file, which hold every field of the header: changed by reading them and writing them back
 * as one write, which a power cut leaves whole or undone. One task at a time has them; the others wait.
 *
 *     needHeaderSector ─▶ change image.headerSector ─▶ commitHeaderSector
 *
 * The write is no part of the write-out: whoever makes the header name something has made that durable before.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { moveAll, push } from '../base/wait-list';
import { flush, Owner, readModule, writeModule } from '../block';
import { Image } from './image';
import { parkOnOperation, Task } from './task';

/** What the owner has handed out last. */
enum Stage {
  Read = 0,
  Write = 1,
  Flush = 2,
}

export const HEADER_SECTOR_LENGTH: u32 = 512;

/** Ok when `image.headerSector` holds the sector and belongs to the task until `commitHeaderSector` is Ok. */
export function needHeaderSector(image: Image, task: Task): Status {
  const owner = image.headerOwner;
  if (owner !== null && owner !== task) {
    push(image.headerWaiters, task);
    task.outcome = Status.Miss;
    return Status.Miss;
  }
  if (task.outstanding !== 0) return wait(task);
  if (owner === task) return Status.Ok;
  if (image.order.broken) return refuseBroken(image);
  image.headerOwner = task;
  image.headerStage = Stage.Read;
  const length = HEADER_SECTOR_LENGTH;
  readModule(image.operations, Owner.Task, changetype<usize>(task), 0, image.headerSector, length);
  return parkOnOperation(task);
}

/** Writes the sector; Ok when that is durable, and the next task may have it. Until then the owner calls it again. */
export function commitHeaderSector(image: Image, task: Task): Status {
  if (task.outstanding !== 0) return wait(task);
  switch (image.headerStage) {
    case Stage.Read:
      // A failed flush of somebody else may have lost what the header is about to name.
      if (image.order.broken) return refuseBroken(image);
      image.headerStage = Stage.Write;
      return writeSector(image, task);
    case Stage.Write:
      image.headerStage = Stage.Flush;
      flush(image.operations, Owner.Task, changetype<usize>(task));
      return parkOnOperation(task);
    default:
      releaseHeaderSector(image);
      return Status.Ok;
  }
}

/** The owner failed. When its write was on the way, nobody can know what the header says. */
export function abandonHeaderSector(image: Image, task: Task): void {
  if (image.headerOwner !== task) return;
  if (image.headerStage !== Stage.Read) image.order.broken = true;
  releaseHeaderSector(image);
}

function writeSector(image: Image, task: Task): Status {
  const length = HEADER_SECTOR_LENGTH;
  writeModule(image.operations, Owner.Task, changetype<usize>(task), 0, image.headerSector, length);
  return parkOnOperation(task);
}

function releaseHeaderSector(image: Image): void {
  image.headerOwner = null;
  moveAll(image.headerWaiters, image.ready);
}

function wait(task: Task): Status {
  task.outcome = Status.Miss;
  return Status.Miss;
}

function refuseBroken(image: Image): Status {
  return refuse(image.failure, Status.Broken, Structure.File, Field.None, 0, 0, 0);
}
