/** Version of the records in this folder that no hash can see: their meaning. */
export const ABI_VERSION: u32 = 1;

/** Bytes of the page through which control requests pass names and lists. */
export const PAGE_LENGTH: u32 = 65536;

/** Scratch buffers of an instance; see `BufferSpace.Scratch`. */
export const SCRATCH_COUNT: u32 = 8;

/** Bits of `Configuration.flags`. */
export enum ConfigurationFlag {
  /** Bytes beyond the end of the file read as zeros once it grows: a regular file, not a device. */
  ZeroBeyondEnd = 1,
  /** The host carries out Decompress operations. */
  Decompresses = 2,
  /** The host has scratch buffers: parts of shared, compressed and backed clusters can be written. */
  Scratch = 4,
  /** The host carries out ReadBacking operations. */
  Backing = 8,
  /** The host has opened the image's external data file. */
  DataFile = 16,
  /** The host carries out Compress operations. */
  Compresses = 32,
  /** Lazy refcounts whatever the header says; version 2 is refused for writing. */
  LazyRefcounts = 64,
  /** No lazy refcounts, whatever the header says. */
  EagerRefcounts = 128,
  /** Discarded clusters of version 3 keep their host clusters, for later; the image does not fragment. */
  KeepDiscarded = 256,
  /** Host clusters are discarded in the file when the guest discards them, or unmaps zeros. */
  DiscardRequest = 512,
  /** They are when they become free with a snapshot. */
  DiscardSnapshot = 1024,
  /** They are when they become free in any other way. */
  DiscardOther = 2048,
}

/**
 * Bits of `Configuration.overlapChecks`: which structures no write may hit, as QEMU names them. What the cache holds is
 * checked always.
 */
export enum OverlapCheck {
  MainHeader = 1,
  ActiveL1 = 2,
  ActiveL2 = 4,
  RefcountBlock = 8,
  RefcountTable = 16,
  SnapshotTable = 32,
  InactiveL1 = 64,
  /** Reads every snapshot's L1 table when the first write is checked. */
  InactiveL2 = 128,
  BitmapDirectory = 256,
}

/** What the host decides before anything else; fixed address, from the export `configuration()`. */
@unmanaged
export class Configuration {
  /** Request slots, 1 to 16385. */
  requestCapacity: u32 = 0;
  /**
   * Bytes of the metadata cache; raised to what `requestCapacity` needs so that no request can starve. An image that is
   * written may have an enabled bitmap for each 256 bytes of it, and 256 at least.
   */
  cacheSize: u32 = 0;
  /** Bytes for counting references in Check; 0 when the instance will not check. */
  checkSize: u32 = 0;
  /** ConfigurationFlag bits. */
  flags: u32 = 0;
  /** Bytes of the image file now. */
  fileLength: u64 = 0;
  /** Bytes of the external data file now, when there is one. */
  dataFileLength: u64 = 0;
  /** OverlapCheck bits. */
  overlapChecks: u32 = 0;
  reserved: u32 = 0;
}

/** Where the shared records lie; from the export `configure()`, addresses in bytes. */
@unmanaged
export class Layout {
  /** Request records, `requestCapacity` of them. */
  requests: u32 = 0;
  requestCapacity: u32 = 0;
  /** Operation records. */
  operations: u32 = 0;
  operationCapacity: u32 = 0;
  /** Failure record. */
  failure: u32 = 0;
  /** ImageInfo record. */
  info: u32 = 0;
  /** Page of PAGE_LENGTH bytes. */
  page: u32 = 0;
  /** Statistics record. */
  statistics: u32 = 0;
}

/** Counters since open; fixed address, read at any time. */
@unmanaged
export class Statistics {
  cacheHits: u64 = 0;
  cacheMisses: u64 = 0;
  cacheEvictions: u64 = 0;
  /** Bytes that the metadata cache really holds. */
  cacheSize: u64 = 0;
  /** Host clusters allocated. */
  allocatedClusters: u64 = 0;
  /** Rounds of writing dirty metadata. */
  writeOuts: u64 = 0;
  /** Flush operations submitted. */
  flushes: u64 = 0;
  /** Times a request waited for another one. */
  waits: u64 = 0;
}
