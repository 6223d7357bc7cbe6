/**
 * Repair of the snapshot table: a copy whose entries have extra data of lengths that readers accept takes its place. The
 * refcounts are right by then.
 */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { Image } from '../image/image';
import { isTableUnplaced, startTableCopy, stepTableCopy, TableCopy } from '../image/snapshot-table-copy';
import { Task } from '../image/task';
import { reportRepaired } from './report';
import { CheckState } from './state';

/** Before the first pass: no copy has been begun. */
export function forgetTableCopy(image: Image): void {
  startTableCopy(copyOf(image), image.version, 0, 0);
}

/** Goes on with the copy of `state.newSnapshotsLength` bytes; Ok when the old table is free. */
export function fixSnapshotTable(image: Image, task: Task, state: CheckState): Status {
  const copy = copyOf(image);
  if (isTableUnplaced(copy)) {
    copy.length = state.newSnapshotsLength;
    copy.oldLength = state.snapshotOffset - image.info.snapshotsOffset;
    // Nothing that was free before is used: what damaged tables name may not be counted.
    image.scanCluster = image.scanEnd;
    image.frontier = max(image.frontier, max(min(state.highestUsed + 1, state.clusterLimit), state.newEnd));
  }
  while (true) {
    const status = stepTableCopy(image, task, copy);
    if (!copy.changed) return status;
    const field = Field.SnapshotExtraData;
    const at = copy.changedOffset;
    reportRepaired(state, Structure.SnapshotTable, field, at, copy.changedFrom, copy.changedTo);
  }
}

function copyOf(image: Image): TableCopy {
  return changetype<TableCopy>(image.exclusiveMemory);
}
