/**
 * Names or describes a snapshot; the host writes it at the start of the page, with `idLength` bytes of id and `nameLength`
 * bytes of name behind it. Delete, Apply and Open take the first snapshot that has them both; a length of 0 fits any.
 */
@unmanaged
export class SnapshotOptions {
  /** Bytes of the id, at most 127. Create: 0 for the next number that is free. */
  idLength: u32 = 0;
  /** Bytes of the name, at most 255. */
  nameLength: u32 = 0;
  /** Create: when the snapshot is made, seconds since 1970 (UTC) and nanoseconds. */
  seconds: u32 = 0;
  nanoseconds: u32 = 0;
  /** Create: nanoseconds that the guest has run. */
  vmClock: u64 = 0;
  /** Create: the guest's instruction count, 2^64-1 when it has none. */
  icount: u64 = 0;
}

/** A snapshot in the answer of SnapshotList; id and name follow, and the next record after `recordLength` bytes. */
@unmanaged
export class SnapshotRecord {
  recordLength: u32 = 0;
  /** Number of the snapshot in the table. */
  index: u32 = 0;
  /** Bytes of id and name behind the record: at most 4096 each, longer ones are cut. */
  idLength: u32 = 0;
  nameLength: u32 = 0;
  /** When it was made, seconds since 1970 (UTC) and nanoseconds. */
  seconds: u32 = 0;
  nanoseconds: u32 = 0;
  /** Nanoseconds that the guest had run. */
  vmClock: u64 = 0;
  /** Bytes of the guest's saved state. */
  vmStateSize: u64 = 0;
  /** Bytes of the virtual disk; of the image as it is now when the snapshot does not say. */
  diskSize: u64 = 0;
  /** Instruction count, 2^64-1 when there is none. */
  icount: u64 = 0;
  l1Offset: u64 = 0;
  l1Size: u32 = 0;
  /** Bytes of extra data. */
  extraLength: u32 = 0;
}
