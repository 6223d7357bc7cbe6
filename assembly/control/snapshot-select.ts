/** Open with a snapshot selected: its L1 table and disk size take the place of the active ones, for reading only. */

import { SnapshotOptions } from '../abi/snapshot';
import { Status } from '../abi/status';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { checkOptions, findSnapshot, judgeFound, startFind } from './snapshot-find';
import { openSnapshotState, snapshotState } from './snapshot-state';

/** Keeps the options before the header is read into the page. */
export function keepSelection(image: Image): Status {
  const status = checkOptions(image, changetype<SnapshotOptions>(image.page));
  if (status !== Status.Ok) return status;
  const options = changetype<SnapshotOptions>(image.page);
  memory.copy(image.scratch, image.page, offsetof<SnapshotOptions>() + options.idLength + options.nameLength);
  return Status.Ok;
}

export function startSelection(image: Image): void {
  startFind(image, openSnapshotState(image));
}

/** Finds the snapshot and turns the image into it. Invalid when there is none. */
export function selectSnapshot(image: Image, task: Task): Status {
  const state = snapshotState(image);
  let status = findSnapshot(image, task, state, changetype<SnapshotOptions>(image.scratch));
  if (status !== Status.Ok) return status;
  status = judgeFound(image, state);
  if (status !== Status.Ok) return status;
  image.l1Offset = state.l1Offset;
  image.l1Size = state.l1Size;
  image.virtualSize = state.diskSize;
  image.info.virtualSize = state.diskSize;
  image.snapshotSelected = true;
  return Status.Ok;
}
