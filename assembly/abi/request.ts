/** What a host asks of an image. */
export enum RequestKind {
  /** Read and validate the header; with `RequestFlag.Writable` get ready to write. First request of an instance. */
  Open = 1,
  /** Make a new image in an empty file from the `CreateOptions` in the page. First request of an instance; then Open. */
  Create = 2,
  /** Flush, then refuse everything that follows. */
  Close = 3,
  /** Read `length` guest bytes at `guestOffset` into the request's buffer. */
  Read = 16,
  /** Write `length` bytes of the request's buffer at `guestOffset`. */
  Write = 17,
  /** Everything that was answered before this was submitted becomes durable. */
  Flush = 18,
  /** Make `length` bytes at `guestOffset` read as zeros; no buffer. */
  WriteZeroes = 19,
  /** `length` bytes at `guestOffset` are not needed any more: whole clusters of them are freed and read as zeros. */
  Discard = 20,
  /** Describe `length` guest bytes from `guestOffset` on as `Extent` records in the page; `result` is their count. */
  Map = 32,
  /**
   * Count every reference, compare with the refcounts; the page holds a `CheckResult`. With `RequestFlag.RepairLeaks` or
   * `RepairAll` put right what is wrong, on an image that was opened Writable and TablesOnly.
   */
  Check = 33,
  /** Make an internal snapshot of the disk as it is, from the `SnapshotOptions` in the page. Alone with the image. */
  SnapshotCreate = 48,
  /** Delete the snapshot that the `SnapshotOptions` in the page name. Alone with the image. */
  SnapshotDelete = 49,
  /** The disk becomes what that snapshot holds, its size too: `result` is the new one. Alone with the image. */
  SnapshotApply = 50,
  /** `SnapshotRecord`s from snapshot number `guestOffset` on into the page; `result` is their count. Also inspected. */
  SnapshotList = 51,
  /** Make the virtual disk longer or shorter, as the `ResizeOptions` in the page say. */
  Resize = 52,
  /** Change one property of the image, as the `AmendOptions` in the page say. Alone with the image. */
  Amend = 53,
  /**
   * Give every cluster of the `length` bytes from `guestOffset` on that has no host cluster a new one, which reads as
   * zeros, as the `PreallocateOptions` in the page say. Alone with the image; durable when it is answered.
   */
  Preallocate = 54,
  /** Makes the L1 table long enough for `length` bytes of the machine's saved state. Alone with the image; durable. */
  VmStateRoom = 55,
  /**
   * The persistent bitmaps from byte `guestOffset` of the directory on, as `BitmapItem` records in the page; `result` is
   * their count, `progress` where the next one begins, `progressTotal` the end. Also of an image that is only inspected.
   */
  BitmapList = 64,
  /** Make the bitmap that the `BitmapCall` in the page describes. */
  BitmapAdd = 65,
  /** Remove the bitmap that the `BitmapCall` names, inconsistent or not. */
  BitmapRemove = 66,
  /** From now on every change of the guest's is noted in the bitmap. */
  BitmapEnable = 67,
  /** From now on the bitmap stays as it is. */
  BitmapDisable = 68,
  /** Nothing is dirty any more in the bitmap. */
  BitmapClear = 69,
  /** Add what is dirty in the `Source` bitmap to the bitmap. */
  BitmapMerge = 70,
  /**
   * What is dirty in the bitmap within `length` guest bytes from `guestOffset` on, as `BitmapRange` records in the page;
   * `result` is their count, `progress` the guest byte up to which they are complete.
   */
  BitmapRanges = 71,
  /** What the `BitmapRange` records in the page name, `rangeCount` of them, becomes dirty in the bitmap too. */
  BitmapSet = 72,
}

/** Bits of `Request.flags`. */
export enum RequestFlag {
  /** Open: the image will be written. */
  Writable = 1,
  /** Open: only the header is wanted (`info`); features that cannot be read or written are no error. */
  Inspect = 2,
  /** Write and WriteZeroes: durable before it is answered (FUA). */
  Durable = 4,
  /**
   * Open: only tables will be read (`check`): what backs unallocated clusters does not matter, nor whether the guest's bytes
   * are encrypted. With Writable the image may be dirty or marked as corrupt. Requests about guest data are refused.
   */
  TablesOnly = 8,
  /** WriteZeroes: host clusters may be freed. Discard: what lies behind the image shows again, where there is anything. */
  Unmap = 16,
  /** Open: read the snapshot that the `SnapshotOptions` in the page name, not the disk as it is now. Not Writable. */
  Snapshot = 32,
  /** Check: lower the refcounts of leaked clusters. */
  RepairLeaks = 64,
  /** Check: also raise refcounts, set COPIED flags right, make new refcount structures; anything that loses no data. */
  RepairAll = 128,
  /** Write, of one whole cluster: in compressed form if that is smaller. */
  Compressed = 256,
  /**
   * Read and Write: of the machine's saved state, which lies behind the disk in the same tables; `guestOffset` counts from its
   * start. What was never saved reads as zeros. A Write needs room for it in the L1 table: see `VmStateRoom`.
   */
  VmState = 512,
}

/** One request slot, 64 bytes. The host fills it and calls `submit(slot)`; the answer is the import `block.finish`. */
@unmanaged
export class Request {
  /** RequestKind. */
  kind: u32 = 0;
  /** RequestFlag bits. */
  flags: u32 = 0;
  /** Bytes from the start of the virtual disk. */
  guestOffset: u64 = 0;
  /** Bytes. At most 2^32-1 for Read and Write. */
  length: u64 = 0;
  /** Answer: a count or size, by kind. */
  result: u64 = 0;
  /** Check: how far it is, in host bytes walked. Snapshots: in L1 entries. Read by the host at any time. */
  progress: u64 = 0;
  /** As `progress`: how much there is to do in all. */
  progressTotal: u64 = 0;
  /** Keeps the record at a power of two. */
  reserved0: u64 = 0;
  /** Keeps the record at a power of two. */
  reserved1: u64 = 0;
}
