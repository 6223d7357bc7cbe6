/** The refcounts that are stored become the numbers of references that were counted. */

import { Field, Structure } from '../abi/failure';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { TableKind } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { loadRefcount, storeRefcount } from '../format/refcount-entry';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { hasBlock, indexInSlice, isReadable, needBlockEntry, needBlockSlice, sliceEnd } from './compare';
import { referencesOf } from './references';
import { reportRepaired } from './report';
import { CheckState } from './state';

/** Sets the refcounts of the clusters that one slice of a refcount block counts. */
export function setRefcounts(image: Image, task: Task, state: CheckState): Status {
  const start = state.cursor;
  const end = min(min(state.windowEnd, state.clusterCount), sliceEnd(image, start));
  const entry = needBlockEntry(image, task, start);
  if (task.outcome !== Status.Ok) return task.outcome;
  if (isReadable(state, entry) && hasBlock(state, entry)) {
    const slice = needBlockSlice(image, task, entry, start);
    if (slice === null) return task.outcome;
    const order = image.geometry.refcountOrder;
    let index = indexInSlice(image, start);
    for (let cluster = start; cluster < end; cluster++, index++) {
      const stored = loadRefcount(slice.data, index, order);
      const wanted = wantedRefcount(task, state, stored, referencesOf(state, cluster));
      if (wanted === stored || slice.kind !== u8(TableKind.RefcountBlock)) continue;
      storeRefcount(slice.data, index, order, wanted);
      markDirty(image.order, slice);
      const hostOffset = cluster << state.clusterBits;
      reportRepaired(state, Structure.RefcountBlock, Field.Refcount, hostOffset, stored, wanted);
    }
  }
  state.cursor = end;
  return Status.Ok;
}

/** A refcount may always be raised; it may sink when nothing can name the cluster that was not counted. */
function wantedRefcount(task: Task, state: CheckState, stored: u64, references: u64): u64 {
  const change = references > stored ? (task.flags & RequestFlag.RepairAll) !== 0 : !state.incomplete;
  return change ? references : stored;
}
