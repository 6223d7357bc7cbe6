/** Snapshot list: records in the page, as many as fit; the host asks on from there. */

import { PAGE_LENGTH } from '../abi/configuration';
import { SnapshotRecord } from '../abi/snapshot';
import { Status } from '../abi/status';
import { alignUp } from '../base/align';
import { push } from '../base/wait-list';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { EntryCursor, idOffset, needEntry, nextEntry, openEntries, readTable } from './snapshot-entry';

/** The page is this request's: the state of the walk lies at its end. */
const STATE_LENGTH: u32 = 256;
const RECORDS_LENGTH: u32 = PAGE_LENGTH - STATE_LENGTH;
const RECORD_SIZE: u32 = u32(offsetof<SnapshotRecord>());
/** Longest id and name that an answer holds. */
const MAXIMUM_LISTED: u32 = 4096;
/** Entries that one step looks at. */
const ENTRIES_PER_STEP: u32 = 256;

export function stepSnapshotList(image: Image, task: Task): Status {
  const cursor = changetype<EntryCursor>(image.page + RECORDS_LENGTH);
  if (task.stage === 0) {
    openEntries(image, cursor);
    task.request.result = 0;
    // Where the next record begins.
    task.cursor = 0;
    task.stage = 1;
  }
  for (let entries: u32 = 0; cursor.index < image.info.snapshotCount; entries++) {
    if (entries === ENTRIES_PER_STEP) {
      task.outcome = Status.Miss;
      push(image.ready, task);
      return Status.Miss;
    }
    let status = needEntry(image, task, cursor);
    if (status !== Status.Ok) return status;
    if (u64(cursor.index) >= task.guestOffset) {
      const room = RECORDS_LENGTH - u32(task.cursor);
      const length = recordLength(cursor);
      if (length > room) return Status.Ok;
      status = append(image, task, cursor, length);
      if (status !== Status.Ok) return status;
      task.cursor += length;
      task.request.result++;
    }
    nextEntry(cursor);
  }
  return Status.Ok;
}

function recordLength(cursor: EntryCursor): u32 {
  const names = min(cursor.idLength, MAXIMUM_LISTED) + min(cursor.nameLength, MAXIMUM_LISTED);
  return u32(alignUp(RECORD_SIZE + names, 8));
}

/** Id first, then name: `stage` 2 says that the id is there, as the step may be started over. */
function append(image: Image, task: Task, cursor: EntryCursor, length: u32): Status {
  const record = changetype<SnapshotRecord>(image.page + usize(task.cursor));
  const names = changetype<usize>(record) + RECORD_SIZE;
  const idLength = min(cursor.idLength, MAXIMUM_LISTED);
  const nameLength = min(cursor.nameLength, MAXIMUM_LISTED);
  if (task.stage === 1) {
    const status = readTable(image, task, cursor, idOffset(cursor), names, idLength);
    if (status !== Status.Ok) return status;
    task.stage = 2;
  }
  const status = readTable(image, task, cursor, idOffset(cursor) + cursor.idLength, names + idLength, nameLength);
  if (status !== Status.Ok) return status;
  task.stage = 1;
  record.recordLength = length;
  record.index = cursor.index;
  record.idLength = idLength;
  record.nameLength = nameLength;
  record.seconds = cursor.seconds;
  record.nanoseconds = cursor.nanoseconds;
  record.vmClock = cursor.vmClock;
  record.vmStateSize = cursor.vmStateSize;
  record.diskSize = cursor.diskSize;
  record.icount = cursor.icount;
  record.l1Offset = cursor.l1Offset;
  record.l1Size = cursor.l1Size;
  record.extraLength = cursor.extraLength;
  return Status.Ok;
}
