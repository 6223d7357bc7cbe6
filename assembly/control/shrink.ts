/** What a shorter disk no longer needs. */

import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { dropSlices, needSlice, TableKind } from '../cache/table-cache';
import { dropClusters, markDirty, needRoom } from '../cache/write-order';
import { checkL1Entry, l2TableOffset } from '../format/l1-entry';
import { Image } from '../image/image';
import { rememberL1Entry } from '../image/l1-memo';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { Task } from '../image/task';
import { Replacement, replaceEntries } from '../image/unmap';

/** The clusters of the task's range lose their references; they are unallocated then, also over a backing file. */
export function dropMappings(image: Image, task: Task): Status {
  while (task.cursor < task.guestEnd) {
    // Before tables are looked at: dirty ones stay in the cache for ever now, and what is left may not hold two at once.
    if (image.order.broken) return Status.Broken;
    let status = mapRun(image, task, task.cursor, task.guestEnd - task.cursor);
    if (status !== Status.Ok) return status;
    const before = task.cursor;
    if (image.run.kind === ExtentKind.Unallocated) {
      task.cursor += image.run.length;
    } else {
      // A table that a snapshot shares is changed in a copy of it.
      const shared = image.run.tableShared;
      status = shared ? makeL2Table(image, task, task.cursor) : replaceEntries(image, task, Replacement.Unallocated);
      if (status !== Status.Ok) return status;
    }
    task.request.progress += task.cursor - before;
  }
  return Status.Ok;
}

/** The L1 entries from number `task.cursor` on lose their L2 tables, of which the cache holds nothing that is dirty. */
export function dropL2Tables(image: Image, task: Task): Status {
  const clusterBits = image.geometry.clusterBits;
  while (task.cursor < image.l1Size) {
    if (image.order.broken) return Status.Broken;
    const index = task.cursor;
    const entryOffset = image.l1Offset + (index << 3);
    const slice = needSlice(image.cache, TableKind.L1, entryOffset, task);
    if (slice === null) return task.outcome;
    const address = slice.data + usize(entryOffset - slice.hostOffset);
    const entry = loadU64(address);
    if (entry !== 0) {
      const tableOffset = l2TableOffset(entry);
      if (checkL1Entry(entry, image.geometry.clusterSize) !== Status.Ok || tableOffset >= image.fileLength) {
        const limit = image.fileLength;
        return refuse(image.failure, Status.Corrupt, Structure.L1Table, Field.Offset, entryOffset, entry, limit);
      }
      if (!needRoom(image.order, task)) return Status.Miss;
      dropSlices(image.cache, tableOffset, image.geometry.clusterSize);
      storeU64(address, 0);
      rememberL1Entry(image, index, 0);
      markDirty(image.order, slice);
      dropClusters(image.order, tableOffset >> clusterBits, 1);
    }
    task.cursor++;
  }
  return Status.Ok;
}
