// Generated from assembly/abi/ by `npm run abi`. Do not edit: change the declarations there.

// A view reads and writes one record in the memory of a core. Typed arrays have the byte order of the machine and
// WebAssembly is little-endian: the views need a little-endian machine, as every JavaScript platform of today is.

/** Hash of these declarations; the core exports its own. */
export const ABI_HASH = 0x6bba17d9;

// ---- assembly/abi/amend-options.ts

/** Where in the page the names begin: backing file and backing format, one behind the other, or data file. */
export const AMEND_NAMES_OFFSET = 64;

/** What one Amend request changes. */
export const AmendKind = {
  /** To version 3. */
  Upgrade: 1,
  /**
   * To version 2: zero clusters become unallocated, and what version 2 does not have is refused. With `value` 1 it is only
   * looked whether anything is in the way but the width of the refcounts; nothing changes.
   */
  Downgrade: 2,
  /** The compatible feature bit of lazy refcounts; `value` 0 or 1. */
  LazyRefcounts: 3,
  /**
   * The names of backing file and backing format, which lie at AMEND_NAMES_OFFSET; the disk's contents stay as they are
   * in the file, whatever shows through now.
   */
  BackingFile: 4,
  /** The data file is a raw image no longer: `value` 0. */
  DataFileRaw: 5,
  /** The width of the refcounts: `value` is log2 of the bits. */
  RefcountOrder: 6,
  /** The name of the external data file, at AMEND_NAMES_OFFSET; only of an image that has one. */
  DataFile: 7,
} as const;
/** What one Amend request changes. */
export type AmendKind = (typeof AmendKind)[keyof typeof AmendKind];

/** Where the fields of AmendOptions lie, in bytes from the start of the record. */
export const AmendOptionsLayout = {
  size: 20,
  alignment: 4,
  offsets: {
    kind: 0,
    value: 4,
    backingFileLength: 8,
    backingFormatLength: 12,
    dataFileLength: 16,
  },
} as const;

/** Options of an Amend request; the host writes them at the start of the page. */
export class AmendOptionsView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 3) !== 0) {
      throw new RangeError(`AmendOptions at ${address >>> 0}: not a multiple of 4`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** AmendKind. */
  get kind(): number {
    return this.words[this.start >>> 2];
  }
  set kind(value: number) {
    this.words[this.start >>> 2] = value;
  }

  get value(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set value(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Bytes of each name, at most 1023; both 0 to have no backing file any more. */
  get backingFileLength(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set backingFileLength(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  get backingFormatLength(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set backingFormatLength(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** Bytes of the name, at most 1023; 0 for none: who opens the image has to know it. */
  get dataFileLength(): number {
    return this.words[(this.start >>> 2) + 4];
  }
  set dataFileLength(value: number) {
    this.words[(this.start >>> 2) + 4] = value;
  }
}

// ---- assembly/abi/bitmap.ts

/** Bits of a bitmap's flags, as in the bitmap directory. */
export const BitmapFlag = {
  /** Somebody changes it, or did not get to store it: its contents say nothing. */
  InUse: 1,
  /** Enabled: every write is noted in it. */
  Auto: 2,
  /** It may be used although its extra data is not understood. */
  ExtraDataCompatible: 4,
} as const;
/** Bits of a bitmap's flags, as in the bitmap directory. */
export type BitmapFlag = (typeof BitmapFlag)[keyof typeof BitmapFlag];

/** Where the parameters and answers of the bitmap requests lie in the page, in bytes from its start. */
export const BitmapPage = {
  /** BitmapCall. */
  Call: 0,
  /** Name of the bitmap. */
  Name: 1024,
  /** BitmapMerge: name of the bitmap whose bits are added. */
  Source: 2048,
  /** Answers: `BitmapItem` or `BitmapRange` records up to the end of the page; the ranges of a BitmapSet. */
  Answer: 4096,
} as const;
/** Where the parameters and answers of the bitmap requests lie in the page, in bytes from its start. */
export type BitmapPage = (typeof BitmapPage)[keyof typeof BitmapPage];

/** Where the fields of BitmapCall lie, in bytes from the start of the record. */
export const BitmapCallLayout = {
  size: 24,
  alignment: 4,
  offsets: {
    nameLength: 0,
    sourceLength: 4,
    granularityBits: 8,
    flags: 12,
    rangeCount: 16,
    reserved: 20,
  },
} as const;

/** Parameters of a bitmap request, at the start of the page. */
export class BitmapCallView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 3) !== 0) {
      throw new RangeError(`BitmapCall at ${address >>> 0}: not a multiple of 4`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Bytes of the name, 1 to 1023; no NUL behind them. */
  get nameLength(): number {
    return this.words[this.start >>> 2];
  }
  set nameLength(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** BitmapMerge: bytes of the other name. */
  get sourceLength(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set sourceLength(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** BitmapAdd: log2 of the guest bytes that one bit stands for, 9 to 31. */
  get granularityBits(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set granularityBits(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** BitmapAdd: BitmapFlag.Auto or 0. */
  get flags(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set flags(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** BitmapSet: records from `Answer` on. */
  get rangeCount(): number {
    return this.words[(this.start >>> 2) + 4];
  }
  set rangeCount(value: number) {
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** Keeps the record at a multiple of eight. */
  get reserved(): number {
    return this.words[(this.start >>> 2) + 5];
  }
  set reserved(value: number) {
    this.words[(this.start >>> 2) + 5] = value;
  }
}

/** Where the fields of BitmapItem lie, in bytes from the start of the record. */
export const BitmapItemLayout = {
  size: 16,
  alignment: 4,
  offsets: {
    flags: 0,
    granularityBits: 4,
    nameLength: 8,
    extraDataLength: 12,
  },
} as const;

/** One answer of BitmapList. Its name follows; the next record begins at a multiple of 8. */
export class BitmapItemView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 3) !== 0) {
      throw new RangeError(`BitmapItem at ${address >>> 0}: not a multiple of 4`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** BitmapFlag bits. InUse only when it is inconsistent, not while this instance keeps it up to date. */
  get flags(): number {
    return this.words[this.start >>> 2];
  }
  set flags(value: number) {
    this.words[this.start >>> 2] = value;
  }

  get granularityBits(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set granularityBits(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Bytes of the name behind this record. */
  get nameLength(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set nameLength(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** Bytes of extra data, of which no kind is known. */
  get extraDataLength(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set extraDataLength(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }
}

/** Where the fields of BitmapRange lie, in bytes from the start of the record. */
export const BitmapRangeLayout = {
  size: 16,
  alignment: 8,
  offsets: {
    guestOffset: 0,
    length: 8,
  },
} as const;

/** One answer of BitmapRanges, or what a BitmapSet is about: a stretch of the virtual disk that is dirty. */
export class BitmapRangeView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`BitmapRange at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Bytes from the start of the virtual disk. */
  get guestOffset(): number {
    return join(this.words[this.start >>> 2], this.words[(this.start >>> 2) + 1], 'BitmapRange.guestOffset');
  }
  set guestOffset(value: number) {
    this.words[(this.start >>> 2) + 1] = highWord(value, 'BitmapRange.guestOffset');
    this.words[this.start >>> 2] = value;
  }

  /** `guestOffset` as a BigInt, without a limit. */
  get guestOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 1]) << 32n) | BigInt(this.words[this.start >>> 2]);
  }
  set guestOffsetBig(value: bigint) {
    this.words[this.start >>> 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 1] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes. */
  get length(): number {
    return join(this.words[(this.start >>> 2) + 2], this.words[(this.start >>> 2) + 3], 'BitmapRange.length');
  }
  set length(value: number) {
    this.words[(this.start >>> 2) + 3] = highWord(value, 'BitmapRange.length');
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** `length` as a BigInt, without a limit. */
  get lengthBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 3]) << 32n) | BigInt(this.words[(this.start >>> 2) + 2]);
  }
  set lengthBig(value: bigint) {
    this.words[(this.start >>> 2) + 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 3] = Number((value >> 32n) & 0xffffffffn);
  }
}

// ---- assembly/abi/check-result.ts

/** Bits of `CheckResult.outcome`. */
export const CheckOutcome = {
  /** The refcount table and its blocks were made anew. */
  Rebuilt: 1,
  /** Only RepairAll can help, by making the refcount table anew: nothing was changed. */
  NeedsRebuild: 2,
  /** Leaked clusters were left alone: a damaged structure that cannot be repaired may have named them. */
  LeaksKept: 4,
} as const;
/** Bits of `CheckResult.outcome`. */
export type CheckOutcome = (typeof CheckOutcome)[keyof typeof CheckOutcome];

/** Where the fields of CheckResult lie, in bytes from the start of the record. */
export const CheckResultLayout = {
  size: 88,
  alignment: 8,
  offsets: {
    corruptions: 0,
    leaks: 8,
    checkErrors: 16,
    allocatedClusters: 24,
    totalClusters: 32,
    fragmentedClusters: 40,
    compressedClusters: 48,
    imageEndOffset: 56,
    corruptionsFixed: 64,
    leaksFixed: 72,
    findingCount: 80,
    outcome: 84,
  },
} as const;

/** What a Check request found; lies at the start of the page. Counts are QEMU's: after a repair, of what is left. */
export class CheckResultView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`CheckResult at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** References without (enough) refcount, entries that point nowhere, wrong COPIED flags. */
  get corruptions(): number {
    return join(this.words[this.start >>> 2], this.words[(this.start >>> 2) + 1], 'CheckResult.corruptions');
  }
  set corruptions(value: number) {
    this.words[(this.start >>> 2) + 1] = highWord(value, 'CheckResult.corruptions');
    this.words[this.start >>> 2] = value;
  }

  /** `corruptions` as a BigInt, without a limit. */
  get corruptionsBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 1]) << 32n) | BigInt(this.words[this.start >>> 2]);
  }
  set corruptionsBig(value: bigint) {
    this.words[this.start >>> 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 1] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Clusters whose refcount is higher than their references. */
  get leaks(): number {
    return join(this.words[(this.start >>> 2) + 2], this.words[(this.start >>> 2) + 3], 'CheckResult.leaks');
  }
  set leaks(value: number) {
    this.words[(this.start >>> 2) + 3] = highWord(value, 'CheckResult.leaks');
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** `leaks` as a BigInt, without a limit. */
  get leaksBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 3]) << 32n) | BigInt(this.words[(this.start >>> 2) + 2]);
  }
  set leaksBig(value: bigint) {
    this.words[(this.start >>> 2) + 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 3] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Structures that could not be read or are not understood. */
  get checkErrors(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'CheckResult.checkErrors');
  }
  set checkErrors(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'CheckResult.checkErrors');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `checkErrors` as a BigInt, without a limit. */
  get checkErrorsBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set checkErrorsBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Guest clusters with data, zero-allocated ones included. */
  get allocatedClusters(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'CheckResult.allocatedClusters');
  }
  set allocatedClusters(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'CheckResult.allocatedClusters');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `allocatedClusters` as a BigInt, without a limit. */
  get allocatedClustersBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set allocatedClustersBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Guest clusters of the virtual disk. */
  get totalClusters(): number {
    return join(this.words[(this.start >>> 2) + 8], this.words[(this.start >>> 2) + 9], 'CheckResult.totalClusters');
  }
  set totalClusters(value: number) {
    this.words[(this.start >>> 2) + 9] = highWord(value, 'CheckResult.totalClusters');
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** `totalClusters` as a BigInt, without a limit. */
  get totalClustersBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 9]) << 32n) | BigInt(this.words[(this.start >>> 2) + 8]);
  }
  set totalClustersBig(value: bigint) {
    this.words[(this.start >>> 2) + 8] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 9] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Allocated clusters whose predecessor in the guest is not their predecessor in the file. */
  get fragmentedClusters(): number {
    return join(this.words[(this.start >>> 2) + 10], this.words[(this.start >>> 2) + 11], 'CheckResult.fragmentedClusters');
  }
  set fragmentedClusters(value: number) {
    this.words[(this.start >>> 2) + 11] = highWord(value, 'CheckResult.fragmentedClusters');
    this.words[(this.start >>> 2) + 10] = value;
  }

  /** `fragmentedClusters` as a BigInt, without a limit. */
  get fragmentedClustersBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 11]) << 32n) | BigInt(this.words[(this.start >>> 2) + 10]);
  }
  set fragmentedClustersBig(value: bigint) {
    this.words[(this.start >>> 2) + 10] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 11] = Number((value >> 32n) & 0xffffffffn);
  }

  get compressedClusters(): number {
    return join(this.words[(this.start >>> 2) + 12], this.words[(this.start >>> 2) + 13], 'CheckResult.compressedClusters');
  }
  set compressedClusters(value: number) {
    this.words[(this.start >>> 2) + 13] = highWord(value, 'CheckResult.compressedClusters');
    this.words[(this.start >>> 2) + 12] = value;
  }

  /** `compressedClusters` as a BigInt, without a limit. */
  get compressedClustersBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 13]) << 32n) | BigInt(this.words[(this.start >>> 2) + 12]);
  }
  set compressedClustersBig(value: bigint) {
    this.words[(this.start >>> 2) + 12] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 13] = Number((value >> 32n) & 0xffffffffn);
  }

  /** End of the last host cluster in use, in bytes. */
  get imageEndOffset(): number {
    return join(this.words[(this.start >>> 2) + 14], this.words[(this.start >>> 2) + 15], 'CheckResult.imageEndOffset');
  }
  set imageEndOffset(value: number) {
    this.words[(this.start >>> 2) + 15] = highWord(value, 'CheckResult.imageEndOffset');
    this.words[(this.start >>> 2) + 14] = value;
  }

  /** `imageEndOffset` as a BigInt, without a limit. */
  get imageEndOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 15]) << 32n) | BigInt(this.words[(this.start >>> 2) + 14]);
  }
  set imageEndOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 14] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 15] = Number((value >> 32n) & 0xffffffffn);
  }

  /** What a repair has put right. */
  get corruptionsFixed(): number {
    return join(this.words[(this.start >>> 2) + 16], this.words[(this.start >>> 2) + 17], 'CheckResult.corruptionsFixed');
  }
  set corruptionsFixed(value: number) {
    this.words[(this.start >>> 2) + 17] = highWord(value, 'CheckResult.corruptionsFixed');
    this.words[(this.start >>> 2) + 16] = value;
  }

  /** `corruptionsFixed` as a BigInt, without a limit. */
  get corruptionsFixedBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 17]) << 32n) | BigInt(this.words[(this.start >>> 2) + 16]);
  }
  set corruptionsFixedBig(value: bigint) {
    this.words[(this.start >>> 2) + 16] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 17] = Number((value >> 32n) & 0xffffffffn);
  }

  get leaksFixed(): number {
    return join(this.words[(this.start >>> 2) + 18], this.words[(this.start >>> 2) + 19], 'CheckResult.leaksFixed');
  }
  set leaksFixed(value: number) {
    this.words[(this.start >>> 2) + 19] = highWord(value, 'CheckResult.leaksFixed');
    this.words[(this.start >>> 2) + 18] = value;
  }

  /** `leaksFixed` as a BigInt, without a limit. */
  get leaksFixedBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 19]) << 32n) | BigInt(this.words[(this.start >>> 2) + 18]);
  }
  set leaksFixedBig(value: bigint) {
    this.words[(this.start >>> 2) + 18] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 19] = Number((value >> 32n) & 0xffffffffn);
  }

  /** `CheckFinding` records behind this one in the page: the first ones found. */
  get findingCount(): number {
    return this.words[(this.start >>> 2) + 20];
  }
  set findingCount(value: number) {
    this.words[(this.start >>> 2) + 20] = value;
  }

  /** CheckOutcome bits. */
  get outcome(): number {
    return this.words[(this.start >>> 2) + 21];
  }
  set outcome(value: number) {
    this.words[(this.start >>> 2) + 21] = value;
  }
}

/** Where the fields of CheckFinding lie, in bytes from the start of the record. */
export const CheckFindingLayout = {
  size: 40,
  alignment: 8,
  offsets: {
    structure: 0,
    field: 4,
    hostOffset: 8,
    found: 16,
    expected: 24,
    leak: 32,
    repaired: 36,
  },
} as const;

/** One thing that Check found. */
export class CheckFindingView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`CheckFinding at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Structure. */
  get structure(): number {
    return this.words[this.start >>> 2];
  }
  set structure(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** Field. */
  get field(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set field(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Where in the file the wrong value stands, or the host cluster whose count is wrong, in bytes. */
  get hostOffset(): number {
    return join(this.words[(this.start >>> 2) + 2], this.words[(this.start >>> 2) + 3], 'CheckFinding.hostOffset');
  }
  set hostOffset(value: number) {
    this.words[(this.start >>> 2) + 3] = highWord(value, 'CheckFinding.hostOffset');
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** `hostOffset` as a BigInt, without a limit. */
  get hostOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 3]) << 32n) | BigInt(this.words[(this.start >>> 2) + 2]);
  }
  set hostOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 3] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Value found (refcount, entry). */
  get found(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'CheckFinding.found');
  }
  set found(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'CheckFinding.found');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `found` as a BigInt, without a limit. */
  get foundBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set foundBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Value expected (references). */
  get expected(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'CheckFinding.expected');
  }
  set expected(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'CheckFinding.expected');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `expected` as a BigInt, without a limit. */
  get expectedBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set expectedBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  /** 1 for a leak, 0 for a corruption. */
  get leak(): number {
    return this.words[(this.start >>> 2) + 8];
  }
  set leak(value: number) {
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** 1 when it was repaired: `expected` is there now. */
  get repaired(): number {
    return this.words[(this.start >>> 2) + 9];
  }
  set repaired(value: number) {
    this.words[(this.start >>> 2) + 9] = value;
  }
}

// ---- assembly/abi/configuration.ts

/** Version of the records in this folder that no hash can see: their meaning. */
export const ABI_VERSION = 1;

/** Bytes of the page through which control requests pass names and lists. */
export const PAGE_LENGTH = 65536;

/** Scratch buffers of an instance; see `BufferSpace.Scratch`. */
export const SCRATCH_COUNT = 8;

/** Bits of `Configuration.flags`. */
export const ConfigurationFlag = {
  /** Bytes beyond the end of the file read as zeros once it grows: a regular file, not a device. */
  ZeroBeyondEnd: 1,
  /** The host carries out Decompress operations. */
  Decompresses: 2,
  /** The host has scratch buffers: parts of shared, compressed and backed clusters can be written. */
  Scratch: 4,
  /** The host carries out ReadBacking operations. */
  Backing: 8,
  /** The host has opened the image's external data file. */
  DataFile: 16,
  /** The host carries out Compress operations. */
  Compresses: 32,
  /** Lazy refcounts whatever the header says; version 2 is refused for writing. */
  LazyRefcounts: 64,
  /** No lazy refcounts, whatever the header says. */
  EagerRefcounts: 128,
  /** Discarded clusters of version 3 keep their host clusters, for later; the image does not fragment. */
  KeepDiscarded: 256,
  /** Host clusters are discarded in the file when the guest discards them, or unmaps zeros. */
  DiscardRequest: 512,
  /** They are when they become free with a snapshot. */
  DiscardSnapshot: 1024,
  /** They are when they become free in any other way. */
  DiscardOther: 2048,
} as const;
/** Bits of `Configuration.flags`. */
export type ConfigurationFlag = (typeof ConfigurationFlag)[keyof typeof ConfigurationFlag];

/**
 * Bits of `Configuration.overlapChecks`: which structures no write may hit, as QEMU names them. What the cache holds is
 * checked always.
 */
export const OverlapCheck = {
  MainHeader: 1,
  ActiveL1: 2,
  ActiveL2: 4,
  RefcountBlock: 8,
  RefcountTable: 16,
  SnapshotTable: 32,
  InactiveL1: 64,
  /** Reads every snapshot's L1 table when the first write is checked. */
  InactiveL2: 128,
  BitmapDirectory: 256,
} as const;
/**
 * Bits of `Configuration.overlapChecks`: which structures no write may hit, as QEMU names them. What the cache holds is
 * checked always.
 */
export type OverlapCheck = (typeof OverlapCheck)[keyof typeof OverlapCheck];

/** Where the fields of Configuration lie, in bytes from the start of the record. */
export const ConfigurationLayout = {
  size: 40,
  alignment: 8,
  offsets: {
    requestCapacity: 0,
    cacheSize: 4,
    checkSize: 8,
    flags: 12,
    fileLength: 16,
    dataFileLength: 24,
    overlapChecks: 32,
    reserved: 36,
  },
} as const;

/** What the host decides before anything else; fixed address, from the export `configuration()`. */
export class ConfigurationView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`Configuration at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Request slots, 1 to 16385. */
  get requestCapacity(): number {
    return this.words[this.start >>> 2];
  }
  set requestCapacity(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /**
   * Bytes of the metadata cache; raised to what `requestCapacity` needs so that no request can starve. An image that is
   * written may have an enabled bitmap for each 256 bytes of it, and 256 at least.
   */
  get cacheSize(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set cacheSize(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Bytes for counting references in Check; 0 when the instance will not check. */
  get checkSize(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set checkSize(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** ConfigurationFlag bits. */
  get flags(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set flags(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** Bytes of the image file now. */
  get fileLength(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'Configuration.fileLength');
  }
  set fileLength(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'Configuration.fileLength');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `fileLength` as a BigInt, without a limit. */
  get fileLengthBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set fileLengthBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes of the external data file now, when there is one. */
  get dataFileLength(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'Configuration.dataFileLength');
  }
  set dataFileLength(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'Configuration.dataFileLength');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `dataFileLength` as a BigInt, without a limit. */
  get dataFileLengthBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set dataFileLengthBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  /** OverlapCheck bits. */
  get overlapChecks(): number {
    return this.words[(this.start >>> 2) + 8];
  }
  set overlapChecks(value: number) {
    this.words[(this.start >>> 2) + 8] = value;
  }

  get reserved(): number {
    return this.words[(this.start >>> 2) + 9];
  }
  set reserved(value: number) {
    this.words[(this.start >>> 2) + 9] = value;
  }
}

/** Where the fields of Layout lie, in bytes from the start of the record. */
export const LayoutLayout = {
  size: 32,
  alignment: 4,
  offsets: {
    requests: 0,
    requestCapacity: 4,
    operations: 8,
    operationCapacity: 12,
    failure: 16,
    info: 20,
    page: 24,
    statistics: 28,
  },
} as const;

/** Where the shared records lie; from the export `configure()`, addresses in bytes. */
export class LayoutView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 3) !== 0) {
      throw new RangeError(`Layout at ${address >>> 0}: not a multiple of 4`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Request records, `requestCapacity` of them. */
  get requests(): number {
    return this.words[this.start >>> 2];
  }
  set requests(value: number) {
    this.words[this.start >>> 2] = value;
  }

  get requestCapacity(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set requestCapacity(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Operation records. */
  get operations(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set operations(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  get operationCapacity(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set operationCapacity(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** Failure record. */
  get failure(): number {
    return this.words[(this.start >>> 2) + 4];
  }
  set failure(value: number) {
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** ImageInfo record. */
  get info(): number {
    return this.words[(this.start >>> 2) + 5];
  }
  set info(value: number) {
    this.words[(this.start >>> 2) + 5] = value;
  }

  /** Page of PAGE_LENGTH bytes. */
  get page(): number {
    return this.words[(this.start >>> 2) + 6];
  }
  set page(value: number) {
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** Statistics record. */
  get statistics(): number {
    return this.words[(this.start >>> 2) + 7];
  }
  set statistics(value: number) {
    this.words[(this.start >>> 2) + 7] = value;
  }
}

/** Where the fields of Statistics lie, in bytes from the start of the record. */
export const StatisticsLayout = {
  size: 64,
  alignment: 8,
  offsets: {
    cacheHits: 0,
    cacheMisses: 8,
    cacheEvictions: 16,
    cacheSize: 24,
    allocatedClusters: 32,
    writeOuts: 40,
    flushes: 48,
    waits: 56,
  },
} as const;

/** Counters since open; fixed address, read at any time. */
export class StatisticsView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`Statistics at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  get cacheHits(): number {
    return join(this.words[this.start >>> 2], this.words[(this.start >>> 2) + 1], 'Statistics.cacheHits');
  }
  set cacheHits(value: number) {
    this.words[(this.start >>> 2) + 1] = highWord(value, 'Statistics.cacheHits');
    this.words[this.start >>> 2] = value;
  }

  /** `cacheHits` as a BigInt, without a limit. */
  get cacheHitsBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 1]) << 32n) | BigInt(this.words[this.start >>> 2]);
  }
  set cacheHitsBig(value: bigint) {
    this.words[this.start >>> 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 1] = Number((value >> 32n) & 0xffffffffn);
  }

  get cacheMisses(): number {
    return join(this.words[(this.start >>> 2) + 2], this.words[(this.start >>> 2) + 3], 'Statistics.cacheMisses');
  }
  set cacheMisses(value: number) {
    this.words[(this.start >>> 2) + 3] = highWord(value, 'Statistics.cacheMisses');
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** `cacheMisses` as a BigInt, without a limit. */
  get cacheMissesBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 3]) << 32n) | BigInt(this.words[(this.start >>> 2) + 2]);
  }
  set cacheMissesBig(value: bigint) {
    this.words[(this.start >>> 2) + 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 3] = Number((value >> 32n) & 0xffffffffn);
  }

  get cacheEvictions(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'Statistics.cacheEvictions');
  }
  set cacheEvictions(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'Statistics.cacheEvictions');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `cacheEvictions` as a BigInt, without a limit. */
  get cacheEvictionsBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set cacheEvictionsBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes that the metadata cache really holds. */
  get cacheSize(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'Statistics.cacheSize');
  }
  set cacheSize(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'Statistics.cacheSize');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `cacheSize` as a BigInt, without a limit. */
  get cacheSizeBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set cacheSizeBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Host clusters allocated. */
  get allocatedClusters(): number {
    return join(this.words[(this.start >>> 2) + 8], this.words[(this.start >>> 2) + 9], 'Statistics.allocatedClusters');
  }
  set allocatedClusters(value: number) {
    this.words[(this.start >>> 2) + 9] = highWord(value, 'Statistics.allocatedClusters');
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** `allocatedClusters` as a BigInt, without a limit. */
  get allocatedClustersBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 9]) << 32n) | BigInt(this.words[(this.start >>> 2) + 8]);
  }
  set allocatedClustersBig(value: bigint) {
    this.words[(this.start >>> 2) + 8] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 9] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Rounds of writing dirty metadata. */
  get writeOuts(): number {
    return join(this.words[(this.start >>> 2) + 10], this.words[(this.start >>> 2) + 11], 'Statistics.writeOuts');
  }
  set writeOuts(value: number) {
    this.words[(this.start >>> 2) + 11] = highWord(value, 'Statistics.writeOuts');
    this.words[(this.start >>> 2) + 10] = value;
  }

  /** `writeOuts` as a BigInt, without a limit. */
  get writeOutsBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 11]) << 32n) | BigInt(this.words[(this.start >>> 2) + 10]);
  }
  set writeOutsBig(value: bigint) {
    this.words[(this.start >>> 2) + 10] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 11] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Flush operations submitted. */
  get flushes(): number {
    return join(this.words[(this.start >>> 2) + 12], this.words[(this.start >>> 2) + 13], 'Statistics.flushes');
  }
  set flushes(value: number) {
    this.words[(this.start >>> 2) + 13] = highWord(value, 'Statistics.flushes');
    this.words[(this.start >>> 2) + 12] = value;
  }

  /** `flushes` as a BigInt, without a limit. */
  get flushesBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 13]) << 32n) | BigInt(this.words[(this.start >>> 2) + 12]);
  }
  set flushesBig(value: bigint) {
    this.words[(this.start >>> 2) + 12] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 13] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Times a request waited for another one. */
  get waits(): number {
    return join(this.words[(this.start >>> 2) + 14], this.words[(this.start >>> 2) + 15], 'Statistics.waits');
  }
  set waits(value: number) {
    this.words[(this.start >>> 2) + 15] = highWord(value, 'Statistics.waits');
    this.words[(this.start >>> 2) + 14] = value;
  }

  /** `waits` as a BigInt, without a limit. */
  get waitsBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 15]) << 32n) | BigInt(this.words[(this.start >>> 2) + 14]);
  }
  set waitsBig(value: bigint) {
    this.words[(this.start >>> 2) + 14] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 15] = Number((value >> 32n) & 0xffffffffn);
  }
}

// ---- assembly/abi/create-options.ts

/** Where in the page the names begin: backing file, backing format and data file, one behind the other. */
export const CREATE_NAMES_OFFSET = 64;

/** Bits of `CreateOptions.flags`. */
export const CreateFlag = {
  /** The compatible feature bit of lazy refcounts. */
  LazyRefcounts: 1,
  /** L2 entries of 16 bytes that describe subclusters; clusters of at least 16 KiB. */
  ExtendedL2: 2,
  /** Guest data lies in a file of its own, which the host makes. */
  DataFile: 4,
  /** That file is a raw image at any time. */
  DataFileRaw: 8,
} as const;
/** Bits of `CreateOptions.flags`. */
export type CreateFlag = (typeof CreateFlag)[keyof typeof CreateFlag];

/** Where the fields of CreateOptions lie, in bytes from the start of the record. */
export const CreateOptionsLayout = {
  size: 40,
  alignment: 8,
  offsets: {
    virtualSize: 0,
    version: 8,
    clusterBits: 12,
    refcountOrder: 16,
    flags: 20,
    compressionType: 24,
    backingFileLength: 28,
    backingFormatLength: 32,
    dataFileLength: 36,
  },
} as const;

/** Options of a Create request; the host writes them at the start of the page, the names at CREATE_NAMES_OFFSET. */
export class CreateOptionsView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`CreateOptions at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Bytes of the virtual disk, a multiple of 512. */
  get virtualSize(): number {
    return join(this.words[this.start >>> 2], this.words[(this.start >>> 2) + 1], 'CreateOptions.virtualSize');
  }
  set virtualSize(value: number) {
    this.words[(this.start >>> 2) + 1] = highWord(value, 'CreateOptions.virtualSize');
    this.words[this.start >>> 2] = value;
  }

  /** `virtualSize` as a BigInt, without a limit. */
  get virtualSizeBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 1]) << 32n) | BigInt(this.words[this.start >>> 2]);
  }
  set virtualSizeBig(value: bigint) {
    this.words[this.start >>> 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 1] = Number((value >> 32n) & 0xffffffffn);
  }

  /** 2 or 3. */
  get version(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set version(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** log2 of the cluster size in bytes, 9 to 21. */
  get clusterBits(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set clusterBits(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** log2 of the refcount width in bits, 0 to 6; 4 in version 2. */
  get refcountOrder(): number {
    return this.words[(this.start >>> 2) + 4];
  }
  set refcountOrder(value: number) {
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** CreateFlag bits. */
  get flags(): number {
    return this.words[(this.start >>> 2) + 5];
  }
  set flags(value: number) {
    this.words[(this.start >>> 2) + 5] = value;
  }

  /** 0 zlib, 1 zstd. */
  get compressionType(): number {
    return this.words[(this.start >>> 2) + 6];
  }
  set compressionType(value: number) {
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** Bytes of each name, at most 1023; 0 when there is none. */
  get backingFileLength(): number {
    return this.words[(this.start >>> 2) + 7];
  }
  set backingFileLength(value: number) {
    this.words[(this.start >>> 2) + 7] = value;
  }

  get backingFormatLength(): number {
    return this.words[(this.start >>> 2) + 8];
  }
  set backingFormatLength(value: number) {
    this.words[(this.start >>> 2) + 8] = value;
  }

  get dataFileLength(): number {
    return this.words[(this.start >>> 2) + 9];
  }
  set dataFileLength(value: number) {
    this.words[(this.start >>> 2) + 9] = value;
  }
}

// ---- assembly/abi/extent.ts

/** What a stretch of the virtual disk is. */
export const ExtentKind = {
  /** Nothing is allocated: reads as zeros (no backing file). */
  Unallocated: 0,
  /** Marked as zeros, nothing is allocated. */
  ZeroPlain: 1,
  /** Marked as zeros, host clusters are reserved for it at `hostOffset`. */
  ZeroAllocated: 2,
  /** Data at `hostOffset`. */
  Data: 3,
  /** A compressed cluster; `hostOffset` is where its data begins. */
  Compressed: 4,
  /** As Unallocated, but host clusters are reserved for it at `hostOffset`: extended L2 entries only. */
  Reserved: 5,
} as const;
/** What a stretch of the virtual disk is. */
export type ExtentKind = (typeof ExtentKind)[keyof typeof ExtentKind];

/** Where the fields of Extent lie, in bytes from the start of the record. */
export const ExtentLayout = {
  size: 32,
  alignment: 8,
  offsets: {
    guestOffset: 0,
    length: 8,
    hostOffset: 16,
    kind: 24,
    reserved: 28,
  },
} as const;

/** One answer of a Map request, 32 bytes. Neighbours never could have been one extent within one answer. */
export class ExtentView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`Extent at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Bytes from the start of the virtual disk. */
  get guestOffset(): number {
    return join(this.words[this.start >>> 2], this.words[(this.start >>> 2) + 1], 'Extent.guestOffset');
  }
  set guestOffset(value: number) {
    this.words[(this.start >>> 2) + 1] = highWord(value, 'Extent.guestOffset');
    this.words[this.start >>> 2] = value;
  }

  /** `guestOffset` as a BigInt, without a limit. */
  get guestOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 1]) << 32n) | BigInt(this.words[this.start >>> 2]);
  }
  set guestOffsetBig(value: bigint) {
    this.words[this.start >>> 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 1] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes. */
  get length(): number {
    return join(this.words[(this.start >>> 2) + 2], this.words[(this.start >>> 2) + 3], 'Extent.length');
  }
  set length(value: number) {
    this.words[(this.start >>> 2) + 3] = highWord(value, 'Extent.length');
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** `length` as a BigInt, without a limit. */
  get lengthBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 3]) << 32n) | BigInt(this.words[(this.start >>> 2) + 2]);
  }
  set lengthBig(value: bigint) {
    this.words[(this.start >>> 2) + 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 3] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes from the start of the image file, for the kinds that have it. */
  get hostOffset(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'Extent.hostOffset');
  }
  set hostOffset(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'Extent.hostOffset');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `hostOffset` as a BigInt, without a limit. */
  get hostOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set hostOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** ExtentKind. */
  get kind(): number {
    return this.words[(this.start >>> 2) + 6];
  }
  set kind(value: number) {
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** Keeps the record at a power of two. */
  get reserved(): number {
    return this.words[(this.start >>> 2) + 7];
  }
  set reserved(value: number) {
    this.words[(this.start >>> 2) + 7] = value;
  }
}

// ---- assembly/abi/failure.ts

/** Which structure of the image a failure is about. */
export const Structure = {
  None: 0,
  Header: 1,
  HeaderExtension: 2,
  L1Table: 3,
  L2Table: 4,
  RefcountTable: 5,
  RefcountBlock: 6,
  SnapshotTable: 7,
  DataCluster: 8,
  File: 9,
  Request: 10,
  /** What lies behind the image; offsets are those of its virtual disk. */
  BackingFile: 11,
  BitmapDirectory: 16,
  BitmapTable: 17,
  BitmapBits: 18,
} as const;
/** Which structure of the image a failure is about. */
export type Structure = (typeof Structure)[keyof typeof Structure];

/** Which field or property of that structure is wrong. */
export const Field = {
  None: 0,
  Magic: 1,
  Version: 2,
  BackingFileOffset: 3,
  BackingFileLength: 4,
  ClusterBits: 5,
  Size: 6,
  CryptMethod: 7,
  L1Size: 8,
  L1TableOffset: 9,
  RefcountTableOffset: 10,
  RefcountTableClusters: 11,
  SnapshotCount: 12,
  SnapshotsOffset: 13,
  IncompatibleFeatures: 14,
  CompatibleFeatures: 15,
  AutoclearFeatures: 16,
  RefcountOrder: 17,
  HeaderLength: 18,
  CompressionType: 19,
  ExtensionLength: 20,
  BackingFile: 21,
  DataFile: 22,
  Encryption: 23,
  Compression: 24,
  ExtendedL2: 25,
  InternalSnapshots: 26,
  Bitmaps: 27,
  Dirty: 28,
  CorruptBit: 29,
  ReservedBits: 30,
  Offset: 31,
  Alignment: 32,
  Overlap: 33,
  Refcount: 34,
  Truncated: 35,
  Length: 36,
  Kind: 37,
  Cache: 38,
  BackingFormatLength: 39,
  ClusterSize: 40,
  RefcountBits: 41,
  /** The COPIED flag of an entry. */
  Copied: 42,
  /** The bitmap of an extended L2 entry. */
  Subclusters: 43,
  BitmapName: 64,
  BitmapGranularity: 65,
  BitmapTableSize: 66,
  /** Somebody has changed the bitmap and not stored it, or does so now. */
  BitmapInUse: 67,
  BitmapExtraData: 68,
  BitmapCount: 69,
  /** Room for another extension in the first cluster. */
  HeaderRoom: 70,
  /** Version 2 has no place for the disk's size when a snapshot was made: with snapshots the disk keeps its size. */
  SizeOfSnapshots: 80,
  /** Of a downgrade: incompatible features that version 2 does not have, `found`. */
  NewerFeatures: 81,
  /** Of a downgrade: compressed clusters of a type that version 2 does not have. */
  NewerCompression: 82,
  /** Of a downgrade: a snapshot whose disk has another size than the disk now, or whose saved state is too long. */
  NewerSnapshots: 83,
  /** A data file's clusters cannot be shared: no snapshots. */
  SnapshotOfDataFile: 84,
  /** Extra data of a snapshot, number `found` in the table. */
  SnapshotExtraData: 85,
  /** Of a downgrade: a refcount that is not the number of references, where those have to change. */
  WrongRefcounts: 86,
  /** Of a downgrade: bitmaps. */
  NewerBitmaps: 88,
} as const;
/** Which field or property of that structure is wrong. */
export type Field = (typeof Field)[keyof typeof Field];

/** Where the fields of Failure lie, in bytes from the start of the record. */
export const FailureLayout = {
  size: 56,
  alignment: 8,
  offsets: {
    status: 0,
    structure: 4,
    field: 8,
    operation: 12,
    hostOffset: 16,
    guestOffset: 24,
    found: 32,
    limit: 40,
    nameAddress: 48,
    nameLength: 52,
  },
} as const;

/** The detail of the last request that failed, valid while the host handles its `block.finish`. */
export class FailureView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`Failure at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Status that the request ends with. */
  get status(): number {
    return this.words[this.start >>> 2];
  }
  set status(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** Structure that is wrong. */
  get structure(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set structure(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Field of that structure. */
  get field(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set field(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** Index of the operation that failed when the host reported an error, else 2^32-1. */
  get operation(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set operation(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** Where in the file that structure or field lies, in bytes. */
  get hostOffset(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'Failure.hostOffset');
  }
  set hostOffset(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'Failure.hostOffset');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `hostOffset` as a BigInt, without a limit. */
  get hostOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set hostOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Where on the virtual disk it happened, in bytes; 2^64-1 when it does not apply. */
  get guestOffset(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'Failure.guestOffset');
  }
  set guestOffset(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'Failure.guestOffset');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `guestOffset` as a BigInt, without a limit. */
  get guestOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set guestOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  /** What was found. */
  get found(): number {
    return join(this.words[(this.start >>> 2) + 8], this.words[(this.start >>> 2) + 9], 'Failure.found');
  }
  set found(value: number) {
    this.words[(this.start >>> 2) + 9] = highWord(value, 'Failure.found');
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** `found` as a BigInt, without a limit. */
  get foundBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 9]) << 32n) | BigInt(this.words[(this.start >>> 2) + 8]);
  }
  set foundBig(value: bigint) {
    this.words[(this.start >>> 2) + 8] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 9] = Number((value >> 32n) & 0xffffffffn);
  }

  /** The limit or the value that was expected. */
  get limit(): number {
    return join(this.words[(this.start >>> 2) + 10], this.words[(this.start >>> 2) + 11], 'Failure.limit');
  }
  set limit(value: number) {
    this.words[(this.start >>> 2) + 11] = highWord(value, 'Failure.limit');
    this.words[(this.start >>> 2) + 10] = value;
  }

  /** `limit` as a BigInt, without a limit. */
  get limitBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 11]) << 32n) | BigInt(this.words[(this.start >>> 2) + 10]);
  }
  set limitBig(value: bigint) {
    this.words[(this.start >>> 2) + 10] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 11] = Number((value >> 32n) & 0xffffffffn);
  }

  /**
   * Address in the page of a name that belongs in the message, 0 when there is none: of an unknown incompatible feature,
   * from the feature name table, or of the bitmap that a resize cannot keep.
   */
  get nameAddress(): number {
    return this.words[(this.start >>> 2) + 12];
  }
  set nameAddress(value: number) {
    this.words[(this.start >>> 2) + 12] = value;
  }

  /** Bytes of that name, at most 1023. */
  get nameLength(): number {
    return this.words[(this.start >>> 2) + 13];
  }
  set nameLength(value: number) {
    this.words[(this.start >>> 2) + 13] = value;
  }
}

// ---- assembly/abi/image-info.ts

/** Where the fields of ImageInfo lie, in bytes from the start of the record. */
export const ImageInfoLayout = {
  size: 152,
  alignment: 8,
  offsets: {
    version: 0,
    clusterBits: 4,
    virtualSize: 8,
    fileLength: 16,
    incompatibleFeatures: 24,
    compatibleFeatures: 32,
    autoclearFeatures: 40,
    refcountOrder: 48,
    compressionType: 52,
    cryptMethod: 56,
    snapshotCount: 60,
    l1Size: 64,
    refcountTableClusters: 68,
    l1TableOffset: 72,
    refcountTableOffset: 80,
    snapshotsOffset: 88,
    headerLength: 96,
    hasBitmaps: 100,
    backingFileAddress: 104,
    backingFileLength: 108,
    backingFormatAddress: 112,
    backingFormatLength: 116,
    dataFileAddress: 120,
    dataFileLength: 124,
    featureNamesAddress: 128,
    featureNamesLength: 132,
    encryptionHeaderOffset: 136,
    encryptionHeaderLength: 144,
  },
} as const;

/**
 * Facts of an opened image; fixed address, see `Layout.info`. Names are byte strings in the page, valid while the host
 * handles the `block.finish` of Open.
 */
export class ImageInfoView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`ImageInfo at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Header version, 2 or 3. */
  get version(): number {
    return this.words[this.start >>> 2];
  }
  set version(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** log2 of the cluster size in bytes. */
  get clusterBits(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set clusterBits(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Bytes of the virtual disk. */
  get virtualSize(): number {
    return join(this.words[(this.start >>> 2) + 2], this.words[(this.start >>> 2) + 3], 'ImageInfo.virtualSize');
  }
  set virtualSize(value: number) {
    this.words[(this.start >>> 2) + 3] = highWord(value, 'ImageInfo.virtualSize');
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** `virtualSize` as a BigInt, without a limit. */
  get virtualSizeBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 3]) << 32n) | BigInt(this.words[(this.start >>> 2) + 2]);
  }
  set virtualSizeBig(value: bigint) {
    this.words[(this.start >>> 2) + 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 3] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes of the image file when it was opened. */
  get fileLength(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'ImageInfo.fileLength');
  }
  set fileLength(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'ImageInfo.fileLength');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `fileLength` as a BigInt, without a limit. */
  get fileLengthBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set fileLengthBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Feature bits as in the header; 0 for version 2. */
  get incompatibleFeatures(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'ImageInfo.incompatibleFeatures');
  }
  set incompatibleFeatures(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'ImageInfo.incompatibleFeatures');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `incompatibleFeatures` as a BigInt, without a limit. */
  get incompatibleFeaturesBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set incompatibleFeaturesBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  get compatibleFeatures(): number {
    return join(this.words[(this.start >>> 2) + 8], this.words[(this.start >>> 2) + 9], 'ImageInfo.compatibleFeatures');
  }
  set compatibleFeatures(value: number) {
    this.words[(this.start >>> 2) + 9] = highWord(value, 'ImageInfo.compatibleFeatures');
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** `compatibleFeatures` as a BigInt, without a limit. */
  get compatibleFeaturesBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 9]) << 32n) | BigInt(this.words[(this.start >>> 2) + 8]);
  }
  set compatibleFeaturesBig(value: bigint) {
    this.words[(this.start >>> 2) + 8] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 9] = Number((value >> 32n) & 0xffffffffn);
  }

  get autoclearFeatures(): number {
    return join(this.words[(this.start >>> 2) + 10], this.words[(this.start >>> 2) + 11], 'ImageInfo.autoclearFeatures');
  }
  set autoclearFeatures(value: number) {
    this.words[(this.start >>> 2) + 11] = highWord(value, 'ImageInfo.autoclearFeatures');
    this.words[(this.start >>> 2) + 10] = value;
  }

  /** `autoclearFeatures` as a BigInt, without a limit. */
  get autoclearFeaturesBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 11]) << 32n) | BigInt(this.words[(this.start >>> 2) + 10]);
  }
  set autoclearFeaturesBig(value: bigint) {
    this.words[(this.start >>> 2) + 10] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 11] = Number((value >> 32n) & 0xffffffffn);
  }

  /** log2 of the refcount width in bits. */
  get refcountOrder(): number {
    return this.words[(this.start >>> 2) + 12];
  }
  set refcountOrder(value: number) {
    this.words[(this.start >>> 2) + 12] = value;
  }

  /** 0 zlib, 1 zstd. */
  get compressionType(): number {
    return this.words[(this.start >>> 2) + 13];
  }
  set compressionType(value: number) {
    this.words[(this.start >>> 2) + 13] = value;
  }

  /** 0 none, 1 AES-CBC, 2 LUKS. */
  get cryptMethod(): number {
    return this.words[(this.start >>> 2) + 14];
  }
  set cryptMethod(value: number) {
    this.words[(this.start >>> 2) + 14] = value;
  }

  /** Internal snapshots that the header claims. */
  get snapshotCount(): number {
    return this.words[(this.start >>> 2) + 15];
  }
  set snapshotCount(value: number) {
    this.words[(this.start >>> 2) + 15] = value;
  }

  /** Entries of the active L1 table. */
  get l1Size(): number {
    return this.words[(this.start >>> 2) + 16];
  }
  set l1Size(value: number) {
    this.words[(this.start >>> 2) + 16] = value;
  }

  /** Clusters of the refcount table. */
  get refcountTableClusters(): number {
    return this.words[(this.start >>> 2) + 17];
  }
  set refcountTableClusters(value: number) {
    this.words[(this.start >>> 2) + 17] = value;
  }

  get l1TableOffset(): number {
    return join(this.words[(this.start >>> 2) + 18], this.words[(this.start >>> 2) + 19], 'ImageInfo.l1TableOffset');
  }
  set l1TableOffset(value: number) {
    this.words[(this.start >>> 2) + 19] = highWord(value, 'ImageInfo.l1TableOffset');
    this.words[(this.start >>> 2) + 18] = value;
  }

  /** `l1TableOffset` as a BigInt, without a limit. */
  get l1TableOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 19]) << 32n) | BigInt(this.words[(this.start >>> 2) + 18]);
  }
  set l1TableOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 18] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 19] = Number((value >> 32n) & 0xffffffffn);
  }

  get refcountTableOffset(): number {
    return join(this.words[(this.start >>> 2) + 20], this.words[(this.start >>> 2) + 21], 'ImageInfo.refcountTableOffset');
  }
  set refcountTableOffset(value: number) {
    this.words[(this.start >>> 2) + 21] = highWord(value, 'ImageInfo.refcountTableOffset');
    this.words[(this.start >>> 2) + 20] = value;
  }

  /** `refcountTableOffset` as a BigInt, without a limit. */
  get refcountTableOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 21]) << 32n) | BigInt(this.words[(this.start >>> 2) + 20]);
  }
  set refcountTableOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 20] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 21] = Number((value >> 32n) & 0xffffffffn);
  }

  get snapshotsOffset(): number {
    return join(this.words[(this.start >>> 2) + 22], this.words[(this.start >>> 2) + 23], 'ImageInfo.snapshotsOffset');
  }
  set snapshotsOffset(value: number) {
    this.words[(this.start >>> 2) + 23] = highWord(value, 'ImageInfo.snapshotsOffset');
    this.words[(this.start >>> 2) + 22] = value;
  }

  /** `snapshotsOffset` as a BigInt, without a limit. */
  get snapshotsOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 23]) << 32n) | BigInt(this.words[(this.start >>> 2) + 22]);
  }
  set snapshotsOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 22] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 23] = Number((value >> 32n) & 0xffffffffn);
  }

  get headerLength(): number {
    return this.words[(this.start >>> 2) + 24];
  }
  set headerLength(value: number) {
    this.words[(this.start >>> 2) + 24] = value;
  }

  /** Bits: 1 there are persistent bitmaps; 2 there were some, and a writer that did not know them changed the image. */
  get hasBitmaps(): number {
    return this.words[(this.start >>> 2) + 25];
  }
  set hasBitmaps(value: number) {
    this.words[(this.start >>> 2) + 25] = value;
  }

  /** Address and length in bytes of names; length 0 when the image has none. */
  get backingFileAddress(): number {
    return this.words[(this.start >>> 2) + 26];
  }
  set backingFileAddress(value: number) {
    this.words[(this.start >>> 2) + 26] = value;
  }

  get backingFileLength(): number {
    return this.words[(this.start >>> 2) + 27];
  }
  set backingFileLength(value: number) {
    this.words[(this.start >>> 2) + 27] = value;
  }

  get backingFormatAddress(): number {
    return this.words[(this.start >>> 2) + 28];
  }
  set backingFormatAddress(value: number) {
    this.words[(this.start >>> 2) + 28] = value;
  }

  get backingFormatLength(): number {
    return this.words[(this.start >>> 2) + 29];
  }
  set backingFormatLength(value: number) {
    this.words[(this.start >>> 2) + 29] = value;
  }

  get dataFileAddress(): number {
    return this.words[(this.start >>> 2) + 30];
  }
  set dataFileAddress(value: number) {
    this.words[(this.start >>> 2) + 30] = value;
  }

  get dataFileLength(): number {
    return this.words[(this.start >>> 2) + 31];
  }
  set dataFileLength(value: number) {
    this.words[(this.start >>> 2) + 31] = value;
  }

  /** The feature name table's entries (48 bytes each) in the page. */
  get featureNamesAddress(): number {
    return this.words[(this.start >>> 2) + 32];
  }
  set featureNamesAddress(value: number) {
    this.words[(this.start >>> 2) + 32] = value;
  }

  get featureNamesLength(): number {
    return this.words[(this.start >>> 2) + 33];
  }
  set featureNamesLength(value: number) {
    this.words[(this.start >>> 2) + 33] = value;
  }

  /** Where the LUKS header lies in the file, and how many bytes it has; length 0 when the image says nothing of one. */
  get encryptionHeaderOffset(): number {
    return join(this.words[(this.start >>> 2) + 34], this.words[(this.start >>> 2) + 35], 'ImageInfo.encryptionHeaderOffset');
  }
  set encryptionHeaderOffset(value: number) {
    this.words[(this.start >>> 2) + 35] = highWord(value, 'ImageInfo.encryptionHeaderOffset');
    this.words[(this.start >>> 2) + 34] = value;
  }

  /** `encryptionHeaderOffset` as a BigInt, without a limit. */
  get encryptionHeaderOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 35]) << 32n) | BigInt(this.words[(this.start >>> 2) + 34]);
  }
  set encryptionHeaderOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 34] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 35] = Number((value >> 32n) & 0xffffffffn);
  }

  get encryptionHeaderLength(): number {
    return join(this.words[(this.start >>> 2) + 36], this.words[(this.start >>> 2) + 37], 'ImageInfo.encryptionHeaderLength');
  }
  set encryptionHeaderLength(value: number) {
    this.words[(this.start >>> 2) + 37] = highWord(value, 'ImageInfo.encryptionHeaderLength');
    this.words[(this.start >>> 2) + 36] = value;
  }

  /** `encryptionHeaderLength` as a BigInt, without a limit. */
  get encryptionHeaderLengthBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 37]) << 32n) | BigInt(this.words[(this.start >>> 2) + 36]);
  }
  set encryptionHeaderLengthBig(value: bigint) {
    this.words[(this.start >>> 2) + 36] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 37] = Number((value >> 32n) & 0xffffffffn);
  }
}

// ---- assembly/abi/operation.ts

/** What the host is asked to do with the image file. */
export const OperationKind = {
  /** Read `length` bytes at `hostOffset` into the buffer. What lies beyond the end of the file reads as zeros. */
  Read: 1,
  /**
   * Write `zeroBefore` bytes, `length` bytes of the buffer and `zeroAfter` bytes at `hostOffset`, as one write. The bytes
   * around the buffer's are zeros, or from a scratch buffer: see `edges`.
   */
  Write: 2,
  /** Make `length` bytes at `hostOffset` read as zeros; the space stays allocated. Extends the file if needed. */
  WriteZeroes: 3,
  /** `length` bytes at `hostOffset` are not needed any more; afterwards they read as zeros or as before. */
  Discard: 4,
  /** Everything written and completed before this was submitted becomes durable, in every file. */
  Flush: 5,
  /** Make the file exactly `hostOffset` bytes long. */
  Truncate: 6,
  /**
   * Decompress the cluster whose compressed data are `sourceLength` bytes at `hostOffset` (the last of them may be
   * padding), and put `length` bytes of it, from its byte `sourceOffset` on, into the buffer.
   */
  Decompress: 7,
  /**
   * Read `length` bytes of what lies behind the image, its backing file's virtual disk, from guest byte `hostOffset` on,
   * and put `zeroAfter` zeros behind them. What lies beyond the end of that disk reads as zeros.
   */
  ReadBacking: 8,
  /**
   * Compress `length` bytes of the buffer, with zeros behind them up to a whole cluster, into scratch buffer `edges` - 1
   * from its start on, and zeros behind the result up to a whole sector. The host puts the bytes of that result, without
   * those zeros, into `sourceLength` before it answers: 0 when the sectors would be no less than the cluster.
   */
  Compress: 9,
} as const;
/** What the host is asked to do with the image file. */
export type OperationKind = (typeof OperationKind)[keyof typeof OperationKind];

/** Which of the host's files an operation is about. */
export const OperationFile = {
  /** The image. */
  Image: 0,
  /** The image's external data file: guest data lies there, and nothing else. */
  Data: 1,
} as const;
/** Which of the host's files an operation is about. */
export type OperationFile = (typeof OperationFile)[keyof typeof OperationFile];

/** Which memory an operation's `bufferOffset` counts in. */
export const BufferSpace = {
  /** The module's own memory: `bufferOffset` is an address. */
  Module: 0,
  /** The buffer that the host attached to request `request`. The core never sees these bytes. */
  Guest: 1,
  /** Scratch buffer number `request` of the host's: two clusters long, there from its first use on. */
  Scratch: 2,
} as const;
/** Which memory an operation's `bufferOffset` counts in. */
export type BufferSpace = (typeof BufferSpace)[keyof typeof BufferSpace];

/** Where the fields of Operation lie, in bytes from the start of the record. */
export const OperationLayout = {
  size: 64,
  alignment: 8,
  offsets: {
    kind: 0,
    space: 4,
    request: 8,
    length: 12,
    hostOffset: 16,
    bufferOffset: 24,
    zeroBefore: 28,
    zeroAfter: 32,
    owner: 36,
    ownerRecord: 40,
    nextFree: 44,
    sourceOffset: 48,
    sourceLength: 52,
    edges: 56,
    file: 60,
  },
} as const;

/**
 * One I/O operation, 64 bytes. The core fills it, hands its index to the host through the import `block.submit`, and
 * does not touch it until the host answers with the export `complete(index, status)`.
 */
export class OperationView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`Operation at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** OperationKind. */
  get kind(): number {
    return this.words[this.start >>> 2];
  }
  set kind(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** BufferSpace of `bufferOffset`. */
  get space(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set space(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Slot of the request whose buffer is meant when `space` is Guest; number of the buffer when it is Scratch. */
  get request(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set request(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** Bytes moved between buffer and file. */
  get length(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set length(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** Bytes from the start of the file; of the virtual disk for ReadBacking. */
  get hostOffset(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'Operation.hostOffset');
  }
  set hostOffset(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'Operation.hostOffset');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `hostOffset` as a BigInt, without a limit. */
  get hostOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set hostOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes from the start of the space. */
  get bufferOffset(): number {
    return this.words[(this.start >>> 2) + 6];
  }
  set bufferOffset(value: number) {
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** Write only: bytes that go to the file ahead of the buffer's, from `hostOffset` on; see `edges`. */
  get zeroBefore(): number {
    return this.words[(this.start >>> 2) + 7];
  }
  set zeroBefore(value: number) {
    this.words[(this.start >>> 2) + 7] = value;
  }

  /** Write: bytes that go to the file behind the buffer's; see `edges`. ReadBacking: zeros behind what was read. */
  get zeroAfter(): number {
    return this.words[(this.start >>> 2) + 8];
  }
  set zeroAfter(value: number) {
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** The core's own: which part of the core gets the completion. */
  get owner(): number {
    return this.words[(this.start >>> 2) + 9];
  }
  set owner(value: number) {
    this.words[(this.start >>> 2) + 9] = value;
  }

  /** The core's own: address of the record that the owner works on. */
  get ownerRecord(): number {
    return this.words[(this.start >>> 2) + 10];
  }
  set ownerRecord(value: number) {
    this.words[(this.start >>> 2) + 10] = value;
  }

  /** The core's own: link of the list of free operations. */
  get nextFree(): number {
    return this.words[(this.start >>> 2) + 11];
  }
  set nextFree(value: number) {
    this.words[(this.start >>> 2) + 11] = value;
  }

  /**
   * Decompress: first byte of the decompressed cluster that is wanted. Write with edges from a scratch buffer: where in
   * it the `zeroBefore` bytes begin; the `zeroAfter` bytes are its last ones.
   */
  get sourceOffset(): number {
    return this.words[(this.start >>> 2) + 12];
  }
  set sourceOffset(value: number) {
    this.words[(this.start >>> 2) + 12] = value;
  }

  /** Decompress: bytes of compressed data in the file. Compress: the host's answer. */
  get sourceLength(): number {
    return this.words[(this.start >>> 2) + 13];
  }
  set sourceLength(value: number) {
    this.words[(this.start >>> 2) + 13] = value;
  }

  /** Write: what surrounds the buffer's bytes. 0 for zeros, n for scratch buffer number n - 1. Compress: the target. */
  get edges(): number {
    return this.words[(this.start >>> 2) + 14];
  }
  set edges(value: number) {
    this.words[(this.start >>> 2) + 14] = value;
  }

  /** OperationFile. */
  get file(): number {
    return this.words[(this.start >>> 2) + 15];
  }
  set file(value: number) {
    this.words[(this.start >>> 2) + 15] = value;
  }
}

// ---- assembly/abi/preallocate-options.ts

/** What becomes of the space of clusters that a Preallocate request maps. */
export const PreallocateMode = {
  /** Nothing but the file's length: the space may be a hole. */
  Metadata: 1,
  /** It is allocated in the file: an operation WriteZeroes. */
  Allocated: 2,
  /** Zeros are written there: an operation Write. */
  Written: 3,
} as const;
/** What becomes of the space of clusters that a Preallocate request maps. */
export type PreallocateMode = (typeof PreallocateMode)[keyof typeof PreallocateMode];

/** Where the fields of PreallocateOptions lie, in bytes from the start of the record. */
export const PreallocateOptionsLayout = {
  size: 8,
  alignment: 4,
  offsets: {
    mode: 0,
    reserved: 4,
  },
} as const;

/** Options of a Preallocate request; the host writes them at the start of the page. */
export class PreallocateOptionsView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 3) !== 0) {
      throw new RangeError(`PreallocateOptions at ${address >>> 0}: not a multiple of 4`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** PreallocateMode. */
  get mode(): number {
    return this.words[this.start >>> 2];
  }
  set mode(value: number) {
    this.words[this.start >>> 2] = value;
  }

  get reserved(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set reserved(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }
}

// ---- assembly/abi/request.ts

/** What a host asks of an image. */
export const RequestKind = {
  /** Read and validate the header; with `RequestFlag.Writable` get ready to write. First request of an instance. */
  Open: 1,
  /** Make a new image in an empty file from the `CreateOptions` in the page. First request of an instance; then Open. */
  Create: 2,
  /** Flush, then refuse everything that follows. */
  Close: 3,
  /** Read `length` guest bytes at `guestOffset` into the request's buffer. */
  Read: 16,
  /** Write `length` bytes of the request's buffer at `guestOffset`. */
  Write: 17,
  /** Everything that was answered before this was submitted becomes durable. */
  Flush: 18,
  /** Make `length` bytes at `guestOffset` read as zeros; no buffer. */
  WriteZeroes: 19,
  /** `length` bytes at `guestOffset` are not needed any more: whole clusters of them are freed and read as zeros. */
  Discard: 20,
  /** Describe `length` guest bytes from `guestOffset` on as `Extent` records in the page; `result` is their count. */
  Map: 32,
  /**
   * Count every reference, compare with the refcounts; the page holds a `CheckResult`. With `RequestFlag.RepairLeaks` or
   * `RepairAll` put right what is wrong, on an image that was opened Writable and TablesOnly.
   */
  Check: 33,
  /** Make an internal snapshot of the disk as it is, from the `SnapshotOptions` in the page. Alone with the image. */
  SnapshotCreate: 48,
  /** Delete the snapshot that the `SnapshotOptions` in the page name. Alone with the image. */
  SnapshotDelete: 49,
  /** The disk becomes what that snapshot holds, its size too: `result` is the new one. Alone with the image. */
  SnapshotApply: 50,
  /** `SnapshotRecord`s from snapshot number `guestOffset` on into the page; `result` is their count. Also inspected. */
  SnapshotList: 51,
  /** Make the virtual disk longer or shorter, as the `ResizeOptions` in the page say. */
  Resize: 52,
  /** Change one property of the image, as the `AmendOptions` in the page say. Alone with the image. */
  Amend: 53,
  /**
   * Give every cluster of the `length` bytes from `guestOffset` on that has no host cluster a new one, which reads as
   * zeros, as the `PreallocateOptions` in the page say. Alone with the image; durable when it is answered.
   */
  Preallocate: 54,
  /** Makes the L1 table long enough for `length` bytes of the machine's saved state. Alone with the image; durable. */
  VmStateRoom: 55,
  /**
   * The persistent bitmaps from byte `guestOffset` of the directory on, as `BitmapItem` records in the page; `result` is
   * their count, `progress` where the next one begins, `progressTotal` the end. Also of an image that is only inspected.
   */
  BitmapList: 64,
  /** Make the bitmap that the `BitmapCall` in the page describes. */
  BitmapAdd: 65,
  /** Remove the bitmap that the `BitmapCall` names, inconsistent or not. */
  BitmapRemove: 66,
  /** From now on every change of the guest's is noted in the bitmap. */
  BitmapEnable: 67,
  /** From now on the bitmap stays as it is. */
  BitmapDisable: 68,
  /** Nothing is dirty any more in the bitmap. */
  BitmapClear: 69,
  /** Add what is dirty in the `Source` bitmap to the bitmap. */
  BitmapMerge: 70,
  /**
   * What is dirty in the bitmap within `length` guest bytes from `guestOffset` on, as `BitmapRange` records in the page;
   * `result` is their count, `progress` the guest byte up to which they are complete.
   */
  BitmapRanges: 71,
  /** What the `BitmapRange` records in the page name, `rangeCount` of them, becomes dirty in the bitmap too. */
  BitmapSet: 72,
} as const;
/** What a host asks of an image. */
export type RequestKind = (typeof RequestKind)[keyof typeof RequestKind];

/** Bits of `Request.flags`. */
export const RequestFlag = {
  /** Open: the image will be written. */
  Writable: 1,
  /** Open: only the header is wanted (`info`); features that cannot be read or written are no error. */
  Inspect: 2,
  /** Write and WriteZeroes: durable before it is answered (FUA). */
  Durable: 4,
  /**
   * Open: only tables will be read (`check`): what backs unallocated clusters does not matter, nor whether the guest's bytes
   * are encrypted. With Writable the image may be dirty or marked as corrupt. Requests about guest data are refused.
   */
  TablesOnly: 8,
  /** WriteZeroes: host clusters may be freed. Discard: what lies behind the image shows again, where there is anything. */
  Unmap: 16,
  /** Open: read the snapshot that the `SnapshotOptions` in the page name, not the disk as it is now. Not Writable. */
  Snapshot: 32,
  /** Check: lower the refcounts of leaked clusters. */
  RepairLeaks: 64,
  /** Check: also raise refcounts, set COPIED flags right, make new refcount structures; anything that loses no data. */
  RepairAll: 128,
  /** Write, of one whole cluster: in compressed form if that is smaller. */
  Compressed: 256,
  /**
   * Read and Write: of the machine's saved state, which lies behind the disk in the same tables; `guestOffset` counts from its
   * start. What was never saved reads as zeros. A Write needs room for it in the L1 table: see `VmStateRoom`.
   */
  VmState: 512,
} as const;
/** Bits of `Request.flags`. */
export type RequestFlag = (typeof RequestFlag)[keyof typeof RequestFlag];

/** Where the fields of Request lie, in bytes from the start of the record. */
export const RequestLayout = {
  size: 64,
  alignment: 8,
  offsets: {
    kind: 0,
    flags: 4,
    guestOffset: 8,
    length: 16,
    result: 24,
    progress: 32,
    progressTotal: 40,
    reserved0: 48,
    reserved1: 56,
  },
} as const;

/** One request slot, 64 bytes. The host fills it and calls `submit(slot)`; the answer is the import `block.finish`. */
export class RequestView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`Request at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** RequestKind. */
  get kind(): number {
    return this.words[this.start >>> 2];
  }
  set kind(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** RequestFlag bits. */
  get flags(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set flags(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Bytes from the start of the virtual disk. */
  get guestOffset(): number {
    return join(this.words[(this.start >>> 2) + 2], this.words[(this.start >>> 2) + 3], 'Request.guestOffset');
  }
  set guestOffset(value: number) {
    this.words[(this.start >>> 2) + 3] = highWord(value, 'Request.guestOffset');
    this.words[(this.start >>> 2) + 2] = value;
  }

  /** `guestOffset` as a BigInt, without a limit. */
  get guestOffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 3]) << 32n) | BigInt(this.words[(this.start >>> 2) + 2]);
  }
  set guestOffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 3] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes. At most 2^32-1 for Read and Write. */
  get length(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'Request.length');
  }
  set length(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'Request.length');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `length` as a BigInt, without a limit. */
  get lengthBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set lengthBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Answer: a count or size, by kind. */
  get result(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'Request.result');
  }
  set result(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'Request.result');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `result` as a BigInt, without a limit. */
  get resultBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set resultBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Check: how far it is, in host bytes walked. Snapshots: in L1 entries. Read by the host at any time. */
  get progress(): number {
    return join(this.words[(this.start >>> 2) + 8], this.words[(this.start >>> 2) + 9], 'Request.progress');
  }
  set progress(value: number) {
    this.words[(this.start >>> 2) + 9] = highWord(value, 'Request.progress');
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** `progress` as a BigInt, without a limit. */
  get progressBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 9]) << 32n) | BigInt(this.words[(this.start >>> 2) + 8]);
  }
  set progressBig(value: bigint) {
    this.words[(this.start >>> 2) + 8] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 9] = Number((value >> 32n) & 0xffffffffn);
  }

  /** As `progress`: how much there is to do in all. */
  get progressTotal(): number {
    return join(this.words[(this.start >>> 2) + 10], this.words[(this.start >>> 2) + 11], 'Request.progressTotal');
  }
  set progressTotal(value: number) {
    this.words[(this.start >>> 2) + 11] = highWord(value, 'Request.progressTotal');
    this.words[(this.start >>> 2) + 10] = value;
  }

  /** `progressTotal` as a BigInt, without a limit. */
  get progressTotalBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 11]) << 32n) | BigInt(this.words[(this.start >>> 2) + 10]);
  }
  set progressTotalBig(value: bigint) {
    this.words[(this.start >>> 2) + 10] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 11] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Keeps the record at a power of two. */
  get reserved0(): number {
    return join(this.words[(this.start >>> 2) + 12], this.words[(this.start >>> 2) + 13], 'Request.reserved0');
  }
  set reserved0(value: number) {
    this.words[(this.start >>> 2) + 13] = highWord(value, 'Request.reserved0');
    this.words[(this.start >>> 2) + 12] = value;
  }

  /** `reserved0` as a BigInt, without a limit. */
  get reserved0Big(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 13]) << 32n) | BigInt(this.words[(this.start >>> 2) + 12]);
  }
  set reserved0Big(value: bigint) {
    this.words[(this.start >>> 2) + 12] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 13] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Keeps the record at a power of two. */
  get reserved1(): number {
    return join(this.words[(this.start >>> 2) + 14], this.words[(this.start >>> 2) + 15], 'Request.reserved1');
  }
  set reserved1(value: number) {
    this.words[(this.start >>> 2) + 15] = highWord(value, 'Request.reserved1');
    this.words[(this.start >>> 2) + 14] = value;
  }

  /** `reserved1` as a BigInt, without a limit. */
  get reserved1Big(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 15]) << 32n) | BigInt(this.words[(this.start >>> 2) + 14]);
  }
  set reserved1Big(value: bigint) {
    this.words[(this.start >>> 2) + 14] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 15] = Number((value >> 32n) & 0xffffffffn);
  }
}

// ---- assembly/abi/resize-options.ts

/** Bits of `ResizeOptions.flags`. */
export const ResizeFlag = {
  /** The disk may become smaller, and what lies behind its new end be lost. */
  Shrink: 1,
  /** What is new must be made zeros, all of it: a backing file would show through. */
  ZeroNew: 2,
  /** Only whether it would be refused: nothing changes. */
  AskOnly: 4,
} as const;
/** Bits of `ResizeOptions.flags`. */
export type ResizeFlag = (typeof ResizeFlag)[keyof typeof ResizeFlag];

/** Where the fields of ResizeOptions lie, in bytes from the start of the record. */
export const ResizeOptionsLayout = {
  size: 16,
  alignment: 8,
  offsets: {
    virtualSize: 0,
    flags: 8,
    reserved: 12,
  },
} as const;

/** Options of a Resize request; the host writes them at the start of the page. */
export class ResizeOptionsView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`ResizeOptions at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Bytes of the virtual disk, a multiple of 512. */
  get virtualSize(): number {
    return join(this.words[this.start >>> 2], this.words[(this.start >>> 2) + 1], 'ResizeOptions.virtualSize');
  }
  set virtualSize(value: number) {
    this.words[(this.start >>> 2) + 1] = highWord(value, 'ResizeOptions.virtualSize');
    this.words[this.start >>> 2] = value;
  }

  /** `virtualSize` as a BigInt, without a limit. */
  get virtualSizeBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 1]) << 32n) | BigInt(this.words[this.start >>> 2]);
  }
  set virtualSizeBig(value: bigint) {
    this.words[this.start >>> 2] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 1] = Number((value >> 32n) & 0xffffffffn);
  }

  /** ResizeFlag bits. */
  get flags(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set flags(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  get reserved(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set reserved(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }
}

// ---- assembly/abi/snapshot.ts

/** Where the fields of SnapshotOptions lie, in bytes from the start of the record. */
export const SnapshotOptionsLayout = {
  size: 32,
  alignment: 8,
  offsets: {
    idLength: 0,
    nameLength: 4,
    seconds: 8,
    nanoseconds: 12,
    vmClock: 16,
    icount: 24,
  },
} as const;

/**
 * Names or describes a snapshot; the host writes it at the start of the page, with `idLength` bytes of id and `nameLength`
 * bytes of name behind it. Delete, Apply and Open take the first snapshot that has them both; a length of 0 fits any.
 */
export class SnapshotOptionsView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`SnapshotOptions at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  /** Bytes of the id, at most 127. Create: 0 for the next number that is free. */
  get idLength(): number {
    return this.words[this.start >>> 2];
  }
  set idLength(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** Bytes of the name, at most 255. */
  get nameLength(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set nameLength(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Create: when the snapshot is made, seconds since 1970 (UTC) and nanoseconds. */
  get seconds(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set seconds(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  get nanoseconds(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set nanoseconds(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** Create: nanoseconds that the guest has run. */
  get vmClock(): number {
    return join(this.words[(this.start >>> 2) + 4], this.words[(this.start >>> 2) + 5], 'SnapshotOptions.vmClock');
  }
  set vmClock(value: number) {
    this.words[(this.start >>> 2) + 5] = highWord(value, 'SnapshotOptions.vmClock');
    this.words[(this.start >>> 2) + 4] = value;
  }

  /** `vmClock` as a BigInt, without a limit. */
  get vmClockBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 5]) << 32n) | BigInt(this.words[(this.start >>> 2) + 4]);
  }
  set vmClockBig(value: bigint) {
    this.words[(this.start >>> 2) + 4] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 5] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Create: the guest's instruction count, 2^64-1 when it has none. */
  get icount(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'SnapshotOptions.icount');
  }
  set icount(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'SnapshotOptions.icount');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `icount` as a BigInt, without a limit. */
  get icountBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set icountBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }
}

/** Where the fields of SnapshotRecord lie, in bytes from the start of the record. */
export const SnapshotRecordLayout = {
  size: 72,
  alignment: 8,
  offsets: {
    recordLength: 0,
    index: 4,
    idLength: 8,
    nameLength: 12,
    seconds: 16,
    nanoseconds: 20,
    vmClock: 24,
    vmStateSize: 32,
    diskSize: 40,
    icount: 48,
    l1Offset: 56,
    l1Size: 64,
    extraLength: 68,
  },
} as const;

/** A snapshot in the answer of SnapshotList; id and name follow, and the next record after `recordLength` bytes. */
export class SnapshotRecordView {
  private readonly words: Uint32Array;
  private start = 0;

  /**
   * @param memory the core's whole memory; a view does not outlive its growth
   * @param address see `at`
   */
  constructor(memory: ArrayBufferLike, address = 0) {
    this.words = new Uint32Array(memory, 0, Math.floor(memory.byteLength / 4));
    this.at(address);
  }

  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */
  at(address: number): this {
    if ((address & 7) !== 0) {
      throw new RangeError(`SnapshotRecord at ${address >>> 0}: not a multiple of 8`);
    }
    this.start = address >>> 0;
    return this;
  }

  /** The address of the record in the memory, in bytes. */
  get recordAddress(): number {
    return this.start;
  }

  get recordLength(): number {
    return this.words[this.start >>> 2];
  }
  set recordLength(value: number) {
    this.words[this.start >>> 2] = value;
  }

  /** Number of the snapshot in the table. */
  get index(): number {
    return this.words[(this.start >>> 2) + 1];
  }
  set index(value: number) {
    this.words[(this.start >>> 2) + 1] = value;
  }

  /** Bytes of id and name behind the record: at most 4096 each, longer ones are cut. */
  get idLength(): number {
    return this.words[(this.start >>> 2) + 2];
  }
  set idLength(value: number) {
    this.words[(this.start >>> 2) + 2] = value;
  }

  get nameLength(): number {
    return this.words[(this.start >>> 2) + 3];
  }
  set nameLength(value: number) {
    this.words[(this.start >>> 2) + 3] = value;
  }

  /** When it was made, seconds since 1970 (UTC) and nanoseconds. */
  get seconds(): number {
    return this.words[(this.start >>> 2) + 4];
  }
  set seconds(value: number) {
    this.words[(this.start >>> 2) + 4] = value;
  }

  get nanoseconds(): number {
    return this.words[(this.start >>> 2) + 5];
  }
  set nanoseconds(value: number) {
    this.words[(this.start >>> 2) + 5] = value;
  }

  /** Nanoseconds that the guest had run. */
  get vmClock(): number {
    return join(this.words[(this.start >>> 2) + 6], this.words[(this.start >>> 2) + 7], 'SnapshotRecord.vmClock');
  }
  set vmClock(value: number) {
    this.words[(this.start >>> 2) + 7] = highWord(value, 'SnapshotRecord.vmClock');
    this.words[(this.start >>> 2) + 6] = value;
  }

  /** `vmClock` as a BigInt, without a limit. */
  get vmClockBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 7]) << 32n) | BigInt(this.words[(this.start >>> 2) + 6]);
  }
  set vmClockBig(value: bigint) {
    this.words[(this.start >>> 2) + 6] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 7] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes of the guest's saved state. */
  get vmStateSize(): number {
    return join(this.words[(this.start >>> 2) + 8], this.words[(this.start >>> 2) + 9], 'SnapshotRecord.vmStateSize');
  }
  set vmStateSize(value: number) {
    this.words[(this.start >>> 2) + 9] = highWord(value, 'SnapshotRecord.vmStateSize');
    this.words[(this.start >>> 2) + 8] = value;
  }

  /** `vmStateSize` as a BigInt, without a limit. */
  get vmStateSizeBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 9]) << 32n) | BigInt(this.words[(this.start >>> 2) + 8]);
  }
  set vmStateSizeBig(value: bigint) {
    this.words[(this.start >>> 2) + 8] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 9] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Bytes of the virtual disk; of the image as it is now when the snapshot does not say. */
  get diskSize(): number {
    return join(this.words[(this.start >>> 2) + 10], this.words[(this.start >>> 2) + 11], 'SnapshotRecord.diskSize');
  }
  set diskSize(value: number) {
    this.words[(this.start >>> 2) + 11] = highWord(value, 'SnapshotRecord.diskSize');
    this.words[(this.start >>> 2) + 10] = value;
  }

  /** `diskSize` as a BigInt, without a limit. */
  get diskSizeBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 11]) << 32n) | BigInt(this.words[(this.start >>> 2) + 10]);
  }
  set diskSizeBig(value: bigint) {
    this.words[(this.start >>> 2) + 10] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 11] = Number((value >> 32n) & 0xffffffffn);
  }

  /** Instruction count, 2^64-1 when there is none. */
  get icount(): number {
    return join(this.words[(this.start >>> 2) + 12], this.words[(this.start >>> 2) + 13], 'SnapshotRecord.icount');
  }
  set icount(value: number) {
    this.words[(this.start >>> 2) + 13] = highWord(value, 'SnapshotRecord.icount');
    this.words[(this.start >>> 2) + 12] = value;
  }

  /** `icount` as a BigInt, without a limit. */
  get icountBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 13]) << 32n) | BigInt(this.words[(this.start >>> 2) + 12]);
  }
  set icountBig(value: bigint) {
    this.words[(this.start >>> 2) + 12] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 13] = Number((value >> 32n) & 0xffffffffn);
  }

  get l1Offset(): number {
    return join(this.words[(this.start >>> 2) + 14], this.words[(this.start >>> 2) + 15], 'SnapshotRecord.l1Offset');
  }
  set l1Offset(value: number) {
    this.words[(this.start >>> 2) + 15] = highWord(value, 'SnapshotRecord.l1Offset');
    this.words[(this.start >>> 2) + 14] = value;
  }

  /** `l1Offset` as a BigInt, without a limit. */
  get l1OffsetBig(): bigint {
    return (BigInt(this.words[(this.start >>> 2) + 15]) << 32n) | BigInt(this.words[(this.start >>> 2) + 14]);
  }
  set l1OffsetBig(value: bigint) {
    this.words[(this.start >>> 2) + 14] = Number(value & 0xffffffffn);
    this.words[(this.start >>> 2) + 15] = Number((value >> 32n) & 0xffffffffn);
  }

  get l1Size(): number {
    return this.words[(this.start >>> 2) + 16];
  }
  set l1Size(value: number) {
    this.words[(this.start >>> 2) + 16] = value;
  }

  /** Bytes of extra data. */
  get extraLength(): number {
    return this.words[(this.start >>> 2) + 17];
  }
  set extraLength(value: number) {
    this.words[(this.start >>> 2) + 17] = value;
  }
}

// ---- assembly/abi/status.ts

/** How a request, an operation or a step of the core ended. Values are stable: hosts and the addon compare them. */
export const Status = {
  /** Done. */
  Ok: 0,
  /** Only inside the core: the step parked its request and is started over later. Never crosses the boundary. */
  Miss: 1,
  /** The request itself makes no sense (kind, alignment, slot in use). */
  Invalid: 2,
  /** The request reaches beyond the virtual disk. */
  OutOfRange: 3,
  /** A write to an image that was opened for reading. */
  ReadOnly: 4,
  /** The file does not begin with the QCOW2 magic. */
  NotQcow2: 5,
  /** A valid feature of the format that this engine does not do yet, or an unknown incompatible one. */
  Unsupported: 6,
  /** The image contradicts itself or the specification. */
  Corrupt: 7,
  /** The host reported an input/output error. */
  InputOutput: 8,
  /** The host reported that the storage is full. */
  NoSpace: 9,
  /** The host cancelled the request. */
  Cancelled: 10,
  /** A limit of the configuration or of the format is too small for what was asked. */
  TooLarge: 11,
  /** An earlier failure left the state on disk unknown: every later write is refused. */
  Broken: 12,
  /** What the request names is not there. */
  NotFound: 13,
  /** What the request would make is there already. */
  Exists: 14,
} as const;
/** How a request, an operation or a step of the core ended. Values are stable: hosts and the addon compare them. */
export type Status = (typeof Status)[keyof typeof Status];

/** A 64-bit number from its halves, while it is exact. */
function join(low: number, high: number, field: string): number {
  if (high > 0x1fffff) throw new RangeError(`${field} is beyond 2^53-1`);
  return high * 0x100000000 + low;
}

/** The upper half of what goes into a 64-bit field; storing the number itself keeps the lower half. */
function highWord(value: number, field: string): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${field} cannot be ${value}`);
  return Math.floor(value / 0x100000000);
}
