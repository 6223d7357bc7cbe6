/** What the host is asked to do with the image file. */
export enum OperationKind {
  /** Read `length` bytes at `hostOffset` into the buffer. What lies beyond the end of the file reads as zeros. */
  Read = 1,
  /**
   * Write `zeroBefore` bytes, `length` bytes of the buffer and `zeroAfter` bytes at `hostOffset`, as one write. The bytes
   * around the buffer's are zeros, or from a scratch buffer: see `edges`.
   */
  Write = 2,
  /** Make `length` bytes at `hostOffset` read as zeros; the space stays allocated. Extends the file if needed. */
  WriteZeroes = 3,
  /** `length` bytes at `hostOffset` are not needed any more; afterwards they read as zeros or as before. */
  Discard = 4,
  /** Everything written and completed before this was submitted becomes durable, in every file. */
  Flush = 5,
  /** Make the file exactly `hostOffset` bytes long. */
  Truncate = 6,
  /**
   * Decompress the cluster whose compressed data are `sourceLength` bytes at `hostOffset` (the last of them may be
   * padding), and put `length` bytes of it, from its byte `sourceOffset` on, into the buffer.
   */
  Decompress = 7,
  /**
   * Read `length` bytes of what lies behind the image, its backing file's virtual disk, from guest byte `hostOffset` on,
   * and put `zeroAfter` zeros behind them. What lies beyond the end of that disk reads as zeros.
   */
  ReadBacking = 8,
  /**
   * Compress `length` bytes of the buffer, with zeros behind them up to a whole cluster, into scratch buffer `edges` - 1
   * from its start on, and zeros behind the result up to a whole sector. The host puts the bytes of that result, without
   * those zeros, into `sourceLength` before it answers: 0 when the sectors would be no less than the cluster.
   */
  Compress = 9,
}

/** Which of the host's files an operation is about. */
export enum OperationFile {
  /** The image. */
  Image = 0,
  /** The image's external data file: guest data lies there, and nothing else. */
  Data = 1,
}

/** Which memory an operation's `bufferOffset` counts in. */
export enum BufferSpace {
  /** The module's own memory: `bufferOffset` is an address. */
  Module = 0,
  /** The buffer that the host attached to request `request`. The core never sees these bytes. */
  Guest = 1,
  /** Scratch buffer number `request` of the host's: two clusters long, there from its first use on. */
  Scratch = 2,
}

/**
 * One I/O operation, 64 bytes. The core fills it, hands its index to the host through the import `block.submit`, and
 * does not touch it until the host answers with the export `complete(index, status)`.
 */
@unmanaged
export class Operation {
  /** OperationKind. */
  kind: u32 = 0;
  /** BufferSpace of `bufferOffset`. */
  space: u32 = 0;
  /** Slot of the request whose buffer is meant when `space` is Guest; number of the buffer when it is Scratch. */
  request: u32 = 0;
  /** Bytes moved between buffer and file. */
  length: u32 = 0;
  /** Bytes from the start of the file; of the virtual disk for ReadBacking. */
  hostOffset: u64 = 0;
  /** Bytes from the start of the space. */
  bufferOffset: u32 = 0;
  /** Write only: bytes that go to the file ahead of the buffer's, from `hostOffset` on; see `edges`. */
  zeroBefore: u32 = 0;
  /** Write: bytes that go to the file behind the buffer's; see `edges`. ReadBacking: zeros behind what was read. */
  zeroAfter: u32 = 0;
  /** The core's own: which part of the core gets the completion. */
  owner: u32 = 0;
  /** The core's own: address of the record that the owner works on. */
  ownerRecord: u32 = 0;
  /** The core's own: link of the list of free operations. */
  nextFree: u32 = 0;
  /**
   * Decompress: first byte of the decompressed cluster that is wanted. Write with edges from a scratch buffer: where in
   * it the `zeroBefore` bytes begin; the `zeroAfter` bytes are its last ones.
   */
  sourceOffset: u32 = 0;
  /** Decompress: bytes of compressed data in the file. Compress: the host's answer. */
  sourceLength: u32 = 0;
  /** Write: what surrounds the buffer's bytes. 0 for zeros, n for scratch buffer number n - 1. Compress: the target. */
  edges: u32 = 0;
  /** OperationFile. */
  file: u32 = 0;
}
