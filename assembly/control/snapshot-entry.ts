/** Reads the snapshot table entry by entry through the cache; what a step has read survives its start over. */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { alignUp } from '../base/align';
import { loadU16, loadU32, loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { needSlice, TableKind } from '../cache/table-cache';
import {
  MAXIMUM_EXTRA_DATA_LENGTH,
  MAXIMUM_SNAPSHOT_TABLE_LENGTH,
  NO_ICOUNT,
  SNAPSHOT_ALIGNMENT,
  SNAPSHOT_HEADER_SIZE,
  SNAPSHOT_KNOWN_SIZE,
  SnapshotExtraOffset,
  SnapshotOffset,
} from '../format/snapshot-table';
import { Image } from '../image/image';
import { Task } from '../image/task';

/** One entry of the table, and where the next one begins. */
@unmanaged
export class EntryCursor {
  /** Number of the entry. */
  index: u32 = 0;
  /** Bytes of the piece that is being read that are there already. */
  done: u32 = 0;
  /** Host offset of the entry; an end without padding is where id and name end. */
  start: u64 = 0;
  end: u64 = 0;
  /** Its first 40 bytes are there. */
  hasHeader: bool = false;
  /** The entry's fields are known: `start` to `icount` belong to entry `index`. */
  parsed: bool = false;
  extraLength: u32 = 0;
  idLength: u32 = 0;
  nameLength: u32 = 0;
  seconds: u32 = 0;
  nanoseconds: u32 = 0;
  l1Size: u32 = 0;
  l1Offset: u64 = 0;
  vmClock: u64 = 0;
  vmStateSize: u64 = 0;
  diskSize: u64 = 0;
  icount: u64 = 0;
  /** The first bytes of the entry as they stand in the table. */
  bytes0: u64 = 0;
  bytes1: u64 = 0;
  bytes2: u64 = 0;
  bytes3: u64 = 0;
  bytes4: u64 = 0;
  bytes5: u64 = 0;
  bytes6: u64 = 0;
  bytes7: u64 = 0;
}

/** Begins with the first entry. */
export function openEntries(image: Image, cursor: EntryCursor): void {
  memory.fill(changetype<usize>(cursor), 0, offsetof<EntryCursor>());
  cursor.start = image.info.snapshotsOffset;
}

/** Makes the fields of entry `cursor.index`, which exists, known. Corrupt when its lengths are impossible. */
export function needEntry(image: Image, task: Task, cursor: EntryCursor): Status {
  if (cursor.parsed) return Status.Ok;
  const bytes = changetype<usize>(cursor) + offsetof<EntryCursor>('bytes0');
  if (!cursor.hasHeader) {
    const status = readTable(image, task, cursor, cursor.start, bytes, SNAPSHOT_HEADER_SIZE);
    if (status !== Status.Ok) return status;
    cursor.hasHeader = true;
  }
  // Not a byte more than the entry has: what lies behind the last one is no snapshot table.
  const known = min(loadU32(bytes + SnapshotOffset.ExtraDataLength), SNAPSHOT_KNOWN_SIZE - SNAPSHOT_HEADER_SIZE);
  const extraOffset = cursor.start + SNAPSHOT_HEADER_SIZE;
  const status = readTable(image, task, cursor, extraOffset, bytes + SNAPSHOT_HEADER_SIZE, known);
  if (status !== Status.Ok) return status;
  return parse(image, cursor, bytes);
}

/** Goes on to the next entry. */
export function nextEntry(cursor: EntryCursor): void {
  cursor.start = alignUp(cursor.end, SNAPSHOT_ALIGNMENT);
  cursor.index++;
  cursor.parsed = false;
  cursor.hasHeader = false;
  cursor.done = 0;
}

/** Host offset of the id of the entry; the name follows it. */
export function idOffset(cursor: EntryCursor): u64 {
  return cursor.start + SNAPSHOT_HEADER_SIZE + cursor.extraLength;
}

/** Copies `length` bytes of the table to `target`. Miss: call again with the same arguments. */
export function readTable(
  image: Image,
  task: Task,
  cursor: EntryCursor,
  hostOffset: u64,
  target: usize,
  length: u32,
): Status {
  const sliceSize = u64(1) << image.cache.sliceBits;
  while (cursor.done < length) {
    const at = hostOffset + cursor.done;
    const slice = needSlice(image.cache, TableKind.SnapshotTable, at, task);
    if (slice === null) return task.outcome;
    const count = u32(min(u64(length - cursor.done), slice.hostOffset + sliceSize - at));
    memory.copy(target + cursor.done, slice.data + usize(at - slice.hostOffset), count);
    cursor.done += count;
  }
  cursor.done = 0;
  return Status.Ok;
}

function parse(image: Image, cursor: EntryCursor, bytes: usize): Status {
  const extra = loadU32(bytes + SnapshotOffset.ExtraDataLength);
  if (extra > MAXIMUM_EXTRA_DATA_LENGTH) {
    const at = cursor.start + SnapshotOffset.ExtraDataLength;
    const limit = MAXIMUM_EXTRA_DATA_LENGTH;
    const structure = Structure.SnapshotTable;
    return refuse(image.failure, Status.Corrupt, structure, Field.SnapshotExtraData, at, cursor.index, limit);
  }
  cursor.extraLength = extra;
  cursor.idLength = loadU16(bytes + SnapshotOffset.IdLength);
  cursor.nameLength = loadU16(bytes + SnapshotOffset.NameLength);
  cursor.end = idOffset(cursor) + cursor.idLength + cursor.nameLength;
  const tableLength = cursor.end - image.info.snapshotsOffset;
  if (tableLength > MAXIMUM_SNAPSHOT_TABLE_LENGTH) {
    return refuseLength(image, cursor.start, tableLength, MAXIMUM_SNAPSHOT_TABLE_LENGTH);
  }
  if (cursor.end > image.fileLength) return refuseLength(image, cursor.start, cursor.end, image.fileLength);
  cursor.l1Offset = loadU64(bytes + SnapshotOffset.L1TableOffset);
  cursor.l1Size = loadU32(bytes + SnapshotOffset.L1Size);
  cursor.seconds = loadU32(bytes + SnapshotOffset.Seconds);
  cursor.nanoseconds = loadU32(bytes + SnapshotOffset.Nanoseconds);
  cursor.vmClock = loadU64(bytes + SnapshotOffset.VmClock);
  cursor.vmStateSize =
    extra >= 8 ? loadU64(bytes + SnapshotExtraOffset.VmStateSize) : loadU32(bytes + SnapshotOffset.VmStateSize);
  cursor.diskSize = extra >= 16 ? loadU64(bytes + SnapshotExtraOffset.DiskSize) : image.virtualSize;
  cursor.icount = extra >= 24 ? loadU64(bytes + SnapshotExtraOffset.Icount) : NO_ICOUNT;
  cursor.parsed = true;
  return Status.Ok;
}

function refuseLength(image: Image, hostOffset: u64, found: u64, limit: u64): Status {
  return refuse(image.failure, Status.Corrupt, Structure.SnapshotTable, Field.Length, hostOffset, found, limit);
}
