/** Bits of a bitmap's flags, as in the bitmap directory. */
export enum BitmapFlag {
  /** Somebody changes it, or did not get to store it: its contents say nothing. */
  InUse = 1,
  /** Enabled: every write is noted in it. */
  Auto = 2,
  /** It may be used although its extra data is not understood. */
  ExtraDataCompatible = 4,
}

/** Where the parameters and answers of the bitmap requests lie in the page, in bytes from its start. */
export enum BitmapPage {
  /** BitmapCall. */
  Call = 0,
  /** Name of the bitmap. */
  Name = 1024,
  /** BitmapMerge: name of the bitmap whose bits are added. */
  Source = 2048,
  /** Answers: `BitmapItem` or `BitmapRange` records up to the end of the page; the ranges of a BitmapSet. */
  Answer = 4096,
}

/** Parameters of a bitmap request, at the start of the page. */
@unmanaged
export class BitmapCall {
  /** Bytes of the name, 1 to 1023; no NUL behind them. */
  nameLength: u32 = 0;
  /** BitmapMerge: bytes of the other name. */
  sourceLength: u32 = 0;
  /** BitmapAdd: log2 of the guest bytes that one bit stands for, 9 to 31. */
  granularityBits: u32 = 0;
  /** BitmapAdd: BitmapFlag.Auto or 0. */
  flags: u32 = 0;
  /** BitmapSet: records from `Answer` on. */
  rangeCount: u32 = 0;
  /** Keeps the record at a multiple of eight. */
  reserved: u32 = 0;
}

/** One answer of BitmapList. Its name follows; the next record begins at a multiple of 8. */
@unmanaged
export class BitmapItem {
  /** BitmapFlag bits. InUse only when it is inconsistent, not while this instance keeps it up to date. */
  flags: u32 = 0;
  granularityBits: u32 = 0;
  /** Bytes of the name behind this record. */
  nameLength: u32 = 0;
  /** Bytes of extra data, of which no kind is known. */
  extraDataLength: u32 = 0;
}

/** One answer of BitmapRanges, or what a BitmapSet is about: a stretch of the virtual disk that is dirty. */
@unmanaged
export class BitmapRange {
  /** Bytes from the start of the virtual disk. */
  guestOffset: u64 = 0;
  /** Bytes. */
  length: u64 = 0;
}
