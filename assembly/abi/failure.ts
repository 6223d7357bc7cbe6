/** Which structure of the image a failure is about. */
export enum Structure {
  None = 0,
  Header = 1,
  HeaderExtension = 2,
  L1Table = 3,
  L2Table = 4,
  RefcountTable = 5,
  RefcountBlock = 6,
  SnapshotTable = 7,
  DataCluster = 8,
  File = 9,
  Request = 10,
  /** What lies behind the image; offsets are those of its virtual disk. */
  BackingFile = 11,
  BitmapDirectory = 16,
  BitmapTable = 17,
  BitmapBits = 18,
}

/** Which field or property of that structure is wrong. */
export enum Field {
  None = 0,
  Magic = 1,
  Version = 2,
  BackingFileOffset = 3,
  BackingFileLength = 4,
  ClusterBits = 5,
  Size = 6,
  CryptMethod = 7,
  L1Size = 8,
  L1TableOffset = 9,
  RefcountTableOffset = 10,
  RefcountTableClusters = 11,
  SnapshotCount = 12,
  SnapshotsOffset = 13,
  IncompatibleFeatures = 14,
  CompatibleFeatures = 15,
  AutoclearFeatures = 16,
  RefcountOrder = 17,
  HeaderLength = 18,
  CompressionType = 19,
  ExtensionLength = 20,
  BackingFile = 21,
  DataFile = 22,
  Encryption = 23,
  Compression = 24,
  ExtendedL2 = 25,
  InternalSnapshots = 26,
  Bitmaps = 27,
  Dirty = 28,
  CorruptBit = 29,
  ReservedBits = 30,
  Offset = 31,
  Alignment = 32,
  Overlap = 33,
  Refcount = 34,
  Truncated = 35,
  Length = 36,
  Kind = 37,
  Cache = 38,
  BackingFormatLength = 39,
  ClusterSize = 40,
  RefcountBits = 41,
  /** The COPIED flag of an entry. */
  Copied = 42,
  /** The bitmap of an extended L2 entry. */
  Subclusters = 43,
  BitmapName = 64,
  BitmapGranularity = 65,
  BitmapTableSize = 66,
  /** Somebody has changed the bitmap and not stored it, or does so now. */
  BitmapInUse = 67,
  BitmapExtraData = 68,
  BitmapCount = 69,
  /** Room for another extension in the first cluster. */
  HeaderRoom = 70,
  /** Version 2 has no place for the disk's size when a snapshot was made: with snapshots the disk keeps its size. */
  SizeOfSnapshots = 80,
  /** Of a downgrade: incompatible features that version 2 does not have, `found`. */
  NewerFeatures = 81,
  /** Of a downgrade: compressed clusters of a type that version 2 does not have. */
  NewerCompression = 82,
  /** Of a downgrade: a snapshot whose disk has another size than the disk now, or whose saved state is too long. */
  NewerSnapshots = 83,
  /** A data file's clusters cannot be shared: no snapshots. */
  SnapshotOfDataFile = 84,
  /** Extra data of a snapshot, number `found` in the table. */
  SnapshotExtraData = 85,
  /** Of a downgrade: a refcount that is not the number of references, where those have to change. */
  WrongRefcounts = 86,
  /** Of a downgrade: bitmaps. */
  NewerBitmaps = 88,
}

/** The detail of the last request that failed, valid while the host handles its `block.finish`. */
@unmanaged
export class Failure {
  /** Status that the request ends with. */
  status: u32 = 0;
  /** Structure that is wrong. */
  structure: u32 = 0;
  /** Field of that structure. */
  field: u32 = 0;
  /** Index of the operation that failed when the host reported an error, else 2^32-1. */
  operation: u32 = 0;
  /** Where in the file that structure or field lies, in bytes. */
  hostOffset: u64 = 0;
  /** Where on the virtual disk it happened, in bytes; 2^64-1 when it does not apply. */
  guestOffset: u64 = 0;
  /** What was found. */
  found: u64 = 0;
  /** The limit or the value that was expected. */
  limit: u64 = 0;
  /**
   * Address in the page of a name that belongs in the message, 0 when there is none: of an unknown incompatible feature,
   * from the feature name table, or of the bitmap that a resize cannot keep.
   */
  nameAddress: u32 = 0;
  /** Bytes of that name, at most 1023. */
  nameLength: u32 = 0;
}
