/** What a stretch of the virtual disk is. */
export enum ExtentKind {
  /** Nothing is allocated: reads as zeros (no backing file). */
  Unallocated = 0,
  /** Marked as zeros, nothing is allocated. */
  ZeroPlain = 1,
  /** Marked as zeros, host clusters are reserved for it at `hostOffset`. */
  ZeroAllocated = 2,
  /** Data at `hostOffset`. */
  Data = 3,
  /** A compressed cluster; `hostOffset` is where its data begins. */
  Compressed = 4,
  /** As Unallocated, but host clusters are reserved for it at `hostOffset`: extended L2 entries only. */
  Reserved = 5,
}

/** One answer of a Map request, 32 bytes. Neighbours never could have been one extent within one answer. */
@unmanaged
export class Extent {
  /** Bytes from the start of the virtual disk. */
  guestOffset: u64 = 0;
  /** Bytes. */
  length: u64 = 0;
  /** Bytes from the start of the image file, for the kinds that have it. */
  hostOffset: u64 = 0;
  /** ExtentKind. */
  kind: u32 = 0;
  /** Keeps the record at a power of two. */
  reserved: u32 = 0;
}
