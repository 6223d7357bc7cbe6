// Generated from assembly/abi/ by `npm run abi`. Do not edit: change the declarations there.

#pragma once

#include <cstddef>
#include <cstdint>

namespace corral::abi {

/** Hash of these declarations; the core exports its own. */
inline constexpr uint32_t ABI_HASH = 0x6bba17d9u;

// ---- assembly/abi/amend-options.ts

/** Where in the page the names begin: backing file and backing format, one behind the other, or data file. */
inline constexpr uint32_t AMEND_NAMES_OFFSET = 64u;

/** What one Amend request changes. */
enum class AmendKind : uint32_t {
  /** To version 3. */
  Upgrade = 1,
  /**
   * To version 2: zero clusters become unallocated, and what version 2 does not have is refused. With `value` 1 it is only
   * looked whether anything is in the way but the width of the refcounts; nothing changes.
   */
  Downgrade = 2,
  /** The compatible feature bit of lazy refcounts; `value` 0 or 1. */
  LazyRefcounts = 3,
  /**
   * The names of backing file and backing format, which lie at AMEND_NAMES_OFFSET; the disk's contents stay as they are
   * in the file, whatever shows through now.
   */
  BackingFile = 4,
  /** The data file is a raw image no longer: `value` 0. */
  DataFileRaw = 5,
  /** The width of the refcounts: `value` is log2 of the bits. */
  RefcountOrder = 6,
  /** The name of the external data file, at AMEND_NAMES_OFFSET; only of an image that has one. */
  DataFile = 7,
};

/** Options of an Amend request; the host writes them at the start of the page. */
struct AmendOptions {
  /** AmendKind. */
  uint32_t kind;
  uint32_t value;
  /** Bytes of each name, at most 1023; both 0 to have no backing file any more. */
  uint32_t backingFileLength;
  uint32_t backingFormatLength;
  /** Bytes of the name, at most 1023; 0 for none: who opens the image has to know it. */
  uint32_t dataFileLength;
};
static_assert(sizeof(AmendOptions) == 20 && alignof(AmendOptions) == 4);
static_assert(offsetof(AmendOptions, kind) == 0);
static_assert(offsetof(AmendOptions, value) == 4);
static_assert(offsetof(AmendOptions, backingFileLength) == 8);
static_assert(offsetof(AmendOptions, backingFormatLength) == 12);
static_assert(offsetof(AmendOptions, dataFileLength) == 16);

// ---- assembly/abi/bitmap.ts

/** Bits of a bitmap's flags, as in the bitmap directory. */
enum class BitmapFlag : uint32_t {
  /** Somebody changes it, or did not get to store it: its contents say nothing. */
  InUse = 1,
  /** Enabled: every write is noted in it. */
  Auto = 2,
  /** It may be used although its extra data is not understood. */
  ExtraDataCompatible = 4,
};

/** Where the parameters and answers of the bitmap requests lie in the page, in bytes from its start. */
enum class BitmapPage : uint32_t {
  /** BitmapCall. */
  Call = 0,
  /** Name of the bitmap. */
  Name = 1024,
  /** BitmapMerge: name of the bitmap whose bits are added. */
  Source = 2048,
  /** Answers: `BitmapItem` or `BitmapRange` records up to the end of the page; the ranges of a BitmapSet. */
  Answer = 4096,
};

/** Parameters of a bitmap request, at the start of the page. */
struct BitmapCall {
  /** Bytes of the name, 1 to 1023; no NUL behind them. */
  uint32_t nameLength;
  /** BitmapMerge: bytes of the other name. */
  uint32_t sourceLength;
  /** BitmapAdd: log2 of the guest bytes that one bit stands for, 9 to 31. */
  uint32_t granularityBits;
  /** BitmapAdd: BitmapFlag.Auto or 0. */
  uint32_t flags;
  /** BitmapSet: records from `Answer` on. */
  uint32_t rangeCount;
  /** Keeps the record at a multiple of eight. */
  uint32_t reserved;
};
static_assert(sizeof(BitmapCall) == 24 && alignof(BitmapCall) == 4);
static_assert(offsetof(BitmapCall, nameLength) == 0);
static_assert(offsetof(BitmapCall, sourceLength) == 4);
static_assert(offsetof(BitmapCall, granularityBits) == 8);
static_assert(offsetof(BitmapCall, flags) == 12);
static_assert(offsetof(BitmapCall, rangeCount) == 16);
static_assert(offsetof(BitmapCall, reserved) == 20);

/** One answer of BitmapList. Its name follows; the next record begins at a multiple of 8. */
struct BitmapItem {
  /** BitmapFlag bits. InUse only when it is inconsistent, not while this instance keeps it up to date. */
  uint32_t flags;
  uint32_t granularityBits;
  /** Bytes of the name behind this record. */
  uint32_t nameLength;
  /** Bytes of extra data, of which no kind is known. */
  uint32_t extraDataLength;
};
static_assert(sizeof(BitmapItem) == 16 && alignof(BitmapItem) == 4);
static_assert(offsetof(BitmapItem, flags) == 0);
static_assert(offsetof(BitmapItem, granularityBits) == 4);
static_assert(offsetof(BitmapItem, nameLength) == 8);
static_assert(offsetof(BitmapItem, extraDataLength) == 12);

/** One answer of BitmapRanges, or what a BitmapSet is about: a stretch of the virtual disk that is dirty. */
struct BitmapRange {
  /** Bytes from the start of the virtual disk. */
  uint64_t guestOffset;
  /** Bytes. */
  uint64_t length;
};
static_assert(sizeof(BitmapRange) == 16 && alignof(BitmapRange) == 8);
static_assert(offsetof(BitmapRange, guestOffset) == 0);
static_assert(offsetof(BitmapRange, length) == 8);

// ---- assembly/abi/check-result.ts

/** Bits of `CheckResult.outcome`. */
enum class CheckOutcome : uint32_t {
  /** The refcount table and its blocks were made anew. */
  Rebuilt = 1,
  /** Only RepairAll can help, by making the refcount table anew: nothing was changed. */
  NeedsRebuild = 2,
  /** Leaked clusters were left alone: a damaged structure that cannot be repaired may have named them. */
  LeaksKept = 4,
};

/** What a Check request found; lies at the start of the page. Counts are QEMU's: after a repair, of what is left. */
struct CheckResult {
  /** References without (enough) refcount, entries that point nowhere, wrong COPIED flags. */
  uint64_t corruptions;
  /** Clusters whose refcount is higher than their references. */
  uint64_t leaks;
  /** Structures that could not be read or are not understood. */
  uint64_t checkErrors;
  /** Guest clusters with data, zero-allocated ones included. */
  uint64_t allocatedClusters;
  /** Guest clusters of the virtual disk. */
  uint64_t totalClusters;
  /** Allocated clusters whose predecessor in the guest is not their predecessor in the file. */
  uint64_t fragmentedClusters;
  uint64_t compressedClusters;
  /** End of the last host cluster in use, in bytes. */
  uint64_t imageEndOffset;
  /** What a repair has put right. */
  uint64_t corruptionsFixed;
  uint64_t leaksFixed;
  /** `CheckFinding` records behind this one in the page: the first ones found. */
  uint32_t findingCount;
  /** CheckOutcome bits. */
  uint32_t outcome;
};
static_assert(sizeof(CheckResult) == 88 && alignof(CheckResult) == 8);
static_assert(offsetof(CheckResult, corruptions) == 0);
static_assert(offsetof(CheckResult, leaks) == 8);
static_assert(offsetof(CheckResult, checkErrors) == 16);
static_assert(offsetof(CheckResult, allocatedClusters) == 24);
static_assert(offsetof(CheckResult, totalClusters) == 32);
static_assert(offsetof(CheckResult, fragmentedClusters) == 40);
static_assert(offsetof(CheckResult, compressedClusters) == 48);
static_assert(offsetof(CheckResult, imageEndOffset) == 56);
static_assert(offsetof(CheckResult, corruptionsFixed) == 64);
static_assert(offsetof(CheckResult, leaksFixed) == 72);
static_assert(offsetof(CheckResult, findingCount) == 80);
static_assert(offsetof(CheckResult, outcome) == 84);

/** One thing that Check found. */
struct CheckFinding {
  /** Structure. */
  uint32_t structure;
  /** Field. */
  uint32_t field;
  /** Where in the file the wrong value stands, or the host cluster whose count is wrong, in bytes. */
  uint64_t hostOffset;
  /** Value found (refcount, entry). */
  uint64_t found;
  /** Value expected (references). */
  uint64_t expected;
  /** 1 for a leak, 0 for a corruption. */
  uint32_t leak;
  /** 1 when it was repaired: `expected` is there now. */
  uint32_t repaired;
};
static_assert(sizeof(CheckFinding) == 40 && alignof(CheckFinding) == 8);
static_assert(offsetof(CheckFinding, structure) == 0);
static_assert(offsetof(CheckFinding, field) == 4);
static_assert(offsetof(CheckFinding, hostOffset) == 8);
static_assert(offsetof(CheckFinding, found) == 16);
static_assert(offsetof(CheckFinding, expected) == 24);
static_assert(offsetof(CheckFinding, leak) == 32);
static_assert(offsetof(CheckFinding, repaired) == 36);

// ---- assembly/abi/configuration.ts

/** Version of the records in this folder that no hash can see: their meaning. */
inline constexpr uint32_t ABI_VERSION = 1u;

/** Bytes of the page through which control requests pass names and lists. */
inline constexpr uint32_t PAGE_LENGTH = 65536u;

/** Scratch buffers of an instance; see `BufferSpace.Scratch`. */
inline constexpr uint32_t SCRATCH_COUNT = 8u;

/** Bits of `Configuration.flags`. */
enum class ConfigurationFlag : uint32_t {
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
};

/**
 * Bits of `Configuration.overlapChecks`: which structures no write may hit, as QEMU names them. What the cache holds is
 * checked always.
 */
enum class OverlapCheck : uint32_t {
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
};

/** What the host decides before anything else; fixed address, from the export `configuration()`. */
struct Configuration {
  /** Request slots, 1 to 16385. */
  uint32_t requestCapacity;
  /**
   * Bytes of the metadata cache; raised to what `requestCapacity` needs so that no request can starve. An image that is
   * written may have an enabled bitmap for each 256 bytes of it, and 256 at least.
   */
  uint32_t cacheSize;
  /** Bytes for counting references in Check; 0 when the instance will not check. */
  uint32_t checkSize;
  /** ConfigurationFlag bits. */
  uint32_t flags;
  /** Bytes of the image file now. */
  uint64_t fileLength;
  /** Bytes of the external data file now, when there is one. */
  uint64_t dataFileLength;
  /** OverlapCheck bits. */
  uint32_t overlapChecks;
  uint32_t reserved;
};
static_assert(sizeof(Configuration) == 40 && alignof(Configuration) == 8);
static_assert(offsetof(Configuration, requestCapacity) == 0);
static_assert(offsetof(Configuration, cacheSize) == 4);
static_assert(offsetof(Configuration, checkSize) == 8);
static_assert(offsetof(Configuration, flags) == 12);
static_assert(offsetof(Configuration, fileLength) == 16);
static_assert(offsetof(Configuration, dataFileLength) == 24);
static_assert(offsetof(Configuration, overlapChecks) == 32);
static_assert(offsetof(Configuration, reserved) == 36);

/** Where the shared records lie; from the export `configure()`, addresses in bytes. */
struct Layout {
  /** Request records, `requestCapacity` of them. */
  uint32_t requests;
  uint32_t requestCapacity;
  /** Operation records. */
  uint32_t operations;
  uint32_t operationCapacity;
  /** Failure record. */
  uint32_t failure;
  /** ImageInfo record. */
  uint32_t info;
  /** Page of PAGE_LENGTH bytes. */
  uint32_t page;
  /** Statistics record. */
  uint32_t statistics;
};
static_assert(sizeof(Layout) == 32 && alignof(Layout) == 4);
static_assert(offsetof(Layout, requests) == 0);
static_assert(offsetof(Layout, requestCapacity) == 4);
static_assert(offsetof(Layout, operations) == 8);
static_assert(offsetof(Layout, operationCapacity) == 12);
static_assert(offsetof(Layout, failure) == 16);
static_assert(offsetof(Layout, info) == 20);
static_assert(offsetof(Layout, page) == 24);
static_assert(offsetof(Layout, statistics) == 28);

/** Counters since open; fixed address, read at any time. */
struct Statistics {
  uint64_t cacheHits;
  uint64_t cacheMisses;
  uint64_t cacheEvictions;
  /** Bytes that the metadata cache really holds. */
  uint64_t cacheSize;
  /** Host clusters allocated. */
  uint64_t allocatedClusters;
  /** Rounds of writing dirty metadata. */
  uint64_t writeOuts;
  /** Flush operations submitted. */
  uint64_t flushes;
  /** Times a request waited for another one. */
  uint64_t waits;
};
static_assert(sizeof(Statistics) == 64 && alignof(Statistics) == 8);
static_assert(offsetof(Statistics, cacheHits) == 0);
static_assert(offsetof(Statistics, cacheMisses) == 8);
static_assert(offsetof(Statistics, cacheEvictions) == 16);
static_assert(offsetof(Statistics, cacheSize) == 24);
static_assert(offsetof(Statistics, allocatedClusters) == 32);
static_assert(offsetof(Statistics, writeOuts) == 40);
static_assert(offsetof(Statistics, flushes) == 48);
static_assert(offsetof(Statistics, waits) == 56);

// ---- assembly/abi/create-options.ts

/** Where in the page the names begin: backing file, backing format and data file, one behind the other. */
inline constexpr uint32_t CREATE_NAMES_OFFSET = 64u;

/** Bits of `CreateOptions.flags`. */
enum class CreateFlag : uint32_t {
  /** The compatible feature bit of lazy refcounts. */
  LazyRefcounts = 1,
  /** L2 entries of 16 bytes that describe subclusters; clusters of at least 16 KiB. */
  ExtendedL2 = 2,
  /** Guest data lies in a file of its own, which the host makes. */
  DataFile = 4,
  /** That file is a raw image at any time. */
  DataFileRaw = 8,
};

/** Options of a Create request; the host writes them at the start of the page, the names at CREATE_NAMES_OFFSET. */
struct CreateOptions {
  /** Bytes of the virtual disk, a multiple of 512. */
  uint64_t virtualSize;
  /** 2 or 3. */
  uint32_t version;
  /** log2 of the cluster size in bytes, 9 to 21. */
  uint32_t clusterBits;
  /** log2 of the refcount width in bits, 0 to 6; 4 in version 2. */
  uint32_t refcountOrder;
  /** CreateFlag bits. */
  uint32_t flags;
  /** 0 zlib, 1 zstd. */
  uint32_t compressionType;
  /** Bytes of each name, at most 1023; 0 when there is none. */
  uint32_t backingFileLength;
  uint32_t backingFormatLength;
  uint32_t dataFileLength;
};
static_assert(sizeof(CreateOptions) == 40 && alignof(CreateOptions) == 8);
static_assert(offsetof(CreateOptions, virtualSize) == 0);
static_assert(offsetof(CreateOptions, version) == 8);
static_assert(offsetof(CreateOptions, clusterBits) == 12);
static_assert(offsetof(CreateOptions, refcountOrder) == 16);
static_assert(offsetof(CreateOptions, flags) == 20);
static_assert(offsetof(CreateOptions, compressionType) == 24);
static_assert(offsetof(CreateOptions, backingFileLength) == 28);
static_assert(offsetof(CreateOptions, backingFormatLength) == 32);
static_assert(offsetof(CreateOptions, dataFileLength) == 36);

// ---- assembly/abi/extent.ts

/** What a stretch of the virtual disk is. */
enum class ExtentKind : uint32_t {
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
};

/** One answer of a Map request, 32 bytes. Neighbours never could have been one extent within one answer. */
struct Extent {
  /** Bytes from the start of the virtual disk. */
  uint64_t guestOffset;
  /** Bytes. */
  uint64_t length;
  /** Bytes from the start of the image file, for the kinds that have it. */
  uint64_t hostOffset;
  /** ExtentKind. */
  uint32_t kind;
  /** Keeps the record at a power of two. */
  uint32_t reserved;
};
static_assert(sizeof(Extent) == 32 && alignof(Extent) == 8);
static_assert(offsetof(Extent, guestOffset) == 0);
static_assert(offsetof(Extent, length) == 8);
static_assert(offsetof(Extent, hostOffset) == 16);
static_assert(offsetof(Extent, kind) == 24);
static_assert(offsetof(Extent, reserved) == 28);

// ---- assembly/abi/failure.ts

/** Which structure of the image a failure is about. */
enum class Structure : uint32_t {
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
};

/** Which field or property of that structure is wrong. */
enum class Field : uint32_t {
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
};

/** The detail of the last request that failed, valid while the host handles its `block.finish`. */
struct Failure {
  /** Status that the request ends with. */
  uint32_t status;
  /** Structure that is wrong. */
  uint32_t structure;
  /** Field of that structure. */
  uint32_t field;
  /** Index of the operation that failed when the host reported an error, else 2^32-1. */
  uint32_t operation;
  /** Where in the file that structure or field lies, in bytes. */
  uint64_t hostOffset;
  /** Where on the virtual disk it happened, in bytes; 2^64-1 when it does not apply. */
  uint64_t guestOffset;
  /** What was found. */
  uint64_t found;
  /** The limit or the value that was expected. */
  uint64_t limit;
  /**
   * Address in the page of a name that belongs in the message, 0 when there is none: of an unknown incompatible feature,
   * from the feature name table, or of the bitmap that a resize cannot keep.
   */
  uint32_t nameAddress;
  /** Bytes of that name, at most 1023. */
  uint32_t nameLength;
};
static_assert(sizeof(Failure) == 56 && alignof(Failure) == 8);
static_assert(offsetof(Failure, status) == 0);
static_assert(offsetof(Failure, structure) == 4);
static_assert(offsetof(Failure, field) == 8);
static_assert(offsetof(Failure, operation) == 12);
static_assert(offsetof(Failure, hostOffset) == 16);
static_assert(offsetof(Failure, guestOffset) == 24);
static_assert(offsetof(Failure, found) == 32);
static_assert(offsetof(Failure, limit) == 40);
static_assert(offsetof(Failure, nameAddress) == 48);
static_assert(offsetof(Failure, nameLength) == 52);

// ---- assembly/abi/image-info.ts

/**
 * Facts of an opened image; fixed address, see `Layout.info`. Names are byte strings in the page, valid while the host
 * handles the `block.finish` of Open.
 */
struct ImageInfo {
  /** Header version, 2 or 3. */
  uint32_t version;
  /** log2 of the cluster size in bytes. */
  uint32_t clusterBits;
  /** Bytes of the virtual disk. */
  uint64_t virtualSize;
  /** Bytes of the image file when it was opened. */
  uint64_t fileLength;
  /** Feature bits as in the header; 0 for version 2. */
  uint64_t incompatibleFeatures;
  uint64_t compatibleFeatures;
  uint64_t autoclearFeatures;
  /** log2 of the refcount width in bits. */
  uint32_t refcountOrder;
  /** 0 zlib, 1 zstd. */
  uint32_t compressionType;
  /** 0 none, 1 AES-CBC, 2 LUKS. */
  uint32_t cryptMethod;
  /** Internal snapshots that the header claims. */
  uint32_t snapshotCount;
  /** Entries of the active L1 table. */
  uint32_t l1Size;
  /** Clusters of the refcount table. */
  uint32_t refcountTableClusters;
  uint64_t l1TableOffset;
  uint64_t refcountTableOffset;
  uint64_t snapshotsOffset;
  uint32_t headerLength;
  /** Bits: 1 there are persistent bitmaps; 2 there were some, and a writer that did not know them changed the image. */
  uint32_t hasBitmaps;
  /** Address and length in bytes of names; length 0 when the image has none. */
  uint32_t backingFileAddress;
  uint32_t backingFileLength;
  uint32_t backingFormatAddress;
  uint32_t backingFormatLength;
  uint32_t dataFileAddress;
  uint32_t dataFileLength;
  /** The feature name table's entries (48 bytes each) in the page. */
  uint32_t featureNamesAddress;
  uint32_t featureNamesLength;
  /** Where the LUKS header lies in the file, and how many bytes it has; length 0 when the image says nothing of one. */
  uint64_t encryptionHeaderOffset;
  uint64_t encryptionHeaderLength;
};
static_assert(sizeof(ImageInfo) == 152 && alignof(ImageInfo) == 8);
static_assert(offsetof(ImageInfo, version) == 0);
static_assert(offsetof(ImageInfo, clusterBits) == 4);
static_assert(offsetof(ImageInfo, virtualSize) == 8);
static_assert(offsetof(ImageInfo, fileLength) == 16);
static_assert(offsetof(ImageInfo, incompatibleFeatures) == 24);
static_assert(offsetof(ImageInfo, compatibleFeatures) == 32);
static_assert(offsetof(ImageInfo, autoclearFeatures) == 40);
static_assert(offsetof(ImageInfo, refcountOrder) == 48);
static_assert(offsetof(ImageInfo, compressionType) == 52);
static_assert(offsetof(ImageInfo, cryptMethod) == 56);
static_assert(offsetof(ImageInfo, snapshotCount) == 60);
static_assert(offsetof(ImageInfo, l1Size) == 64);
static_assert(offsetof(ImageInfo, refcountTableClusters) == 68);
static_assert(offsetof(ImageInfo, l1TableOffset) == 72);
static_assert(offsetof(ImageInfo, refcountTableOffset) == 80);
static_assert(offsetof(ImageInfo, snapshotsOffset) == 88);
static_assert(offsetof(ImageInfo, headerLength) == 96);
static_assert(offsetof(ImageInfo, hasBitmaps) == 100);
static_assert(offsetof(ImageInfo, backingFileAddress) == 104);
static_assert(offsetof(ImageInfo, backingFileLength) == 108);
static_assert(offsetof(ImageInfo, backingFormatAddress) == 112);
static_assert(offsetof(ImageInfo, backingFormatLength) == 116);
static_assert(offsetof(ImageInfo, dataFileAddress) == 120);
static_assert(offsetof(ImageInfo, dataFileLength) == 124);
static_assert(offsetof(ImageInfo, featureNamesAddress) == 128);
static_assert(offsetof(ImageInfo, featureNamesLength) == 132);
static_assert(offsetof(ImageInfo, encryptionHeaderOffset) == 136);
static_assert(offsetof(ImageInfo, encryptionHeaderLength) == 144);

// ---- assembly/abi/operation.ts

/** What the host is asked to do with the image file. */
enum class OperationKind : uint32_t {
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
};

/** Which of the host's files an operation is about. */
enum class OperationFile : uint32_t {
  /** The image. */
  Image = 0,
  /** The image's external data file: guest data lies there, and nothing else. */
  Data = 1,
};

/** Which memory an operation's `bufferOffset` counts in. */
enum class BufferSpace : uint32_t {
  /** The module's own memory: `bufferOffset` is an address. */
  Module = 0,
  /** The buffer that the host attached to request `request`. The core never sees these bytes. */
  Guest = 1,
  /** Scratch buffer number `request` of the host's: two clusters long, there from its first use on. */
  Scratch = 2,
};

/**
 * One I/O operation, 64 bytes. The core fills it, hands its index to the host through the import `block.submit`, and
 * does not touch it until the host answers with the export `complete(index, status)`.
 */
struct Operation {
  /** OperationKind. */
  uint32_t kind;
  /** BufferSpace of `bufferOffset`. */
  uint32_t space;
  /** Slot of the request whose buffer is meant when `space` is Guest; number of the buffer when it is Scratch. */
  uint32_t request;
  /** Bytes moved between buffer and file. */
  uint32_t length;
  /** Bytes from the start of the file; of the virtual disk for ReadBacking. */
  uint64_t hostOffset;
  /** Bytes from the start of the space. */
  uint32_t bufferOffset;
  /** Write only: bytes that go to the file ahead of the buffer's, from `hostOffset` on; see `edges`. */
  uint32_t zeroBefore;
  /** Write: bytes that go to the file behind the buffer's; see `edges`. ReadBacking: zeros behind what was read. */
  uint32_t zeroAfter;
  /** The core's own: which part of the core gets the completion. */
  uint32_t owner;
  /** The core's own: address of the record that the owner works on. */
  uint32_t ownerRecord;
  /** The core's own: link of the list of free operations. */
  uint32_t nextFree;
  /**
   * Decompress: first byte of the decompressed cluster that is wanted. Write with edges from a scratch buffer: where in
   * it the `zeroBefore` bytes begin; the `zeroAfter` bytes are its last ones.
   */
  uint32_t sourceOffset;
  /** Decompress: bytes of compressed data in the file. Compress: the host's answer. */
  uint32_t sourceLength;
  /** Write: what surrounds the buffer's bytes. 0 for zeros, n for scratch buffer number n - 1. Compress: the target. */
  uint32_t edges;
  /** OperationFile. */
  uint32_t file;
};
static_assert(sizeof(Operation) == 64 && alignof(Operation) == 8);
static_assert(offsetof(Operation, kind) == 0);
static_assert(offsetof(Operation, space) == 4);
static_assert(offsetof(Operation, request) == 8);
static_assert(offsetof(Operation, length) == 12);
static_assert(offsetof(Operation, hostOffset) == 16);
static_assert(offsetof(Operation, bufferOffset) == 24);
static_assert(offsetof(Operation, zeroBefore) == 28);
static_assert(offsetof(Operation, zeroAfter) == 32);
static_assert(offsetof(Operation, owner) == 36);
static_assert(offsetof(Operation, ownerRecord) == 40);
static_assert(offsetof(Operation, nextFree) == 44);
static_assert(offsetof(Operation, sourceOffset) == 48);
static_assert(offsetof(Operation, sourceLength) == 52);
static_assert(offsetof(Operation, edges) == 56);
static_assert(offsetof(Operation, file) == 60);

// ---- assembly/abi/preallocate-options.ts

/** What becomes of the space of clusters that a Preallocate request maps. */
enum class PreallocateMode : uint32_t {
  /** Nothing but the file's length: the space may be a hole. */
  Metadata = 1,
  /** It is allocated in the file: an operation WriteZeroes. */
  Allocated = 2,
  /** Zeros are written there: an operation Write. */
  Written = 3,
};

/** Options of a Preallocate request; the host writes them at the start of the page. */
struct PreallocateOptions {
  /** PreallocateMode. */
  uint32_t mode;
  uint32_t reserved;
};
static_assert(sizeof(PreallocateOptions) == 8 && alignof(PreallocateOptions) == 4);
static_assert(offsetof(PreallocateOptions, mode) == 0);
static_assert(offsetof(PreallocateOptions, reserved) == 4);

// ---- assembly/abi/request.ts

/** What a host asks of an image. */
enum class RequestKind : uint32_t {
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
};

/** Bits of `Request.flags`. */
enum class RequestFlag : uint32_t {
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
};

/** One request slot, 64 bytes. The host fills it and calls `submit(slot)`; the answer is the import `block.finish`. */
struct Request {
  /** RequestKind. */
  uint32_t kind;
  /** RequestFlag bits. */
  uint32_t flags;
  /** Bytes from the start of the virtual disk. */
  uint64_t guestOffset;
  /** Bytes. At most 2^32-1 for Read and Write. */
  uint64_t length;
  /** Answer: a count or size, by kind. */
  uint64_t result;
  /** Check: how far it is, in host bytes walked. Snapshots: in L1 entries. Read by the host at any time. */
  uint64_t progress;
  /** As `progress`: how much there is to do in all. */
  uint64_t progressTotal;
  /** Keeps the record at a power of two. */
  uint64_t reserved0;
  /** Keeps the record at a power of two. */
  uint64_t reserved1;
};
static_assert(sizeof(Request) == 64 && alignof(Request) == 8);
static_assert(offsetof(Request, kind) == 0);
static_assert(offsetof(Request, flags) == 4);
static_assert(offsetof(Request, guestOffset) == 8);
static_assert(offsetof(Request, length) == 16);
static_assert(offsetof(Request, result) == 24);
static_assert(offsetof(Request, progress) == 32);
static_assert(offsetof(Request, progressTotal) == 40);
static_assert(offsetof(Request, reserved0) == 48);
static_assert(offsetof(Request, reserved1) == 56);

// ---- assembly/abi/resize-options.ts

/** Bits of `ResizeOptions.flags`. */
enum class ResizeFlag : uint32_t {
  /** The disk may become smaller, and what lies behind its new end be lost. */
  Shrink = 1,
  /** What is new must be made zeros, all of it: a backing file would show through. */
  ZeroNew = 2,
  /** Only whether it would be refused: nothing changes. */
  AskOnly = 4,
};

/** Options of a Resize request; the host writes them at the start of the page. */
struct ResizeOptions {
  /** Bytes of the virtual disk, a multiple of 512. */
  uint64_t virtualSize;
  /** ResizeFlag bits. */
  uint32_t flags;
  uint32_t reserved;
};
static_assert(sizeof(ResizeOptions) == 16 && alignof(ResizeOptions) == 8);
static_assert(offsetof(ResizeOptions, virtualSize) == 0);
static_assert(offsetof(ResizeOptions, flags) == 8);
static_assert(offsetof(ResizeOptions, reserved) == 12);

// ---- assembly/abi/snapshot.ts

/**
 * Names or describes a snapshot; the host writes it at the start of the page, with `idLength` bytes of id and `nameLength`
 * bytes of name behind it. Delete, Apply and Open take the first snapshot that has them both; a length of 0 fits any.
 */
struct SnapshotOptions {
  /** Bytes of the id, at most 127. Create: 0 for the next number that is free. */
  uint32_t idLength;
  /** Bytes of the name, at most 255. */
  uint32_t nameLength;
  /** Create: when the snapshot is made, seconds since 1970 (UTC) and nanoseconds. */
  uint32_t seconds;
  uint32_t nanoseconds;
  /** Create: nanoseconds that the guest has run. */
  uint64_t vmClock;
  /** Create: the guest's instruction count, 2^64-1 when it has none. */
  uint64_t icount;
};
static_assert(sizeof(SnapshotOptions) == 32 && alignof(SnapshotOptions) == 8);
static_assert(offsetof(SnapshotOptions, idLength) == 0);
static_assert(offsetof(SnapshotOptions, nameLength) == 4);
static_assert(offsetof(SnapshotOptions, seconds) == 8);
static_assert(offsetof(SnapshotOptions, nanoseconds) == 12);
static_assert(offsetof(SnapshotOptions, vmClock) == 16);
static_assert(offsetof(SnapshotOptions, icount) == 24);

/** A snapshot in the answer of SnapshotList; id and name follow, and the next record after `recordLength` bytes. */
struct SnapshotRecord {
  uint32_t recordLength;
  /** Number of the snapshot in the table. */
  uint32_t index;
  /** Bytes of id and name behind the record: at most 4096 each, longer ones are cut. */
  uint32_t idLength;
  uint32_t nameLength;
  /** When it was made, seconds since 1970 (UTC) and nanoseconds. */
  uint32_t seconds;
  uint32_t nanoseconds;
  /** Nanoseconds that the guest had run. */
  uint64_t vmClock;
  /** Bytes of the guest's saved state. */
  uint64_t vmStateSize;
  /** Bytes of the virtual disk; of the image as it is now when the snapshot does not say. */
  uint64_t diskSize;
  /** Instruction count, 2^64-1 when there is none. */
  uint64_t icount;
  uint64_t l1Offset;
  uint32_t l1Size;
  /** Bytes of extra data. */
  uint32_t extraLength;
};
static_assert(sizeof(SnapshotRecord) == 72 && alignof(SnapshotRecord) == 8);
static_assert(offsetof(SnapshotRecord, recordLength) == 0);
static_assert(offsetof(SnapshotRecord, index) == 4);
static_assert(offsetof(SnapshotRecord, idLength) == 8);
static_assert(offsetof(SnapshotRecord, nameLength) == 12);
static_assert(offsetof(SnapshotRecord, seconds) == 16);
static_assert(offsetof(SnapshotRecord, nanoseconds) == 20);
static_assert(offsetof(SnapshotRecord, vmClock) == 24);
static_assert(offsetof(SnapshotRecord, vmStateSize) == 32);
static_assert(offsetof(SnapshotRecord, diskSize) == 40);
static_assert(offsetof(SnapshotRecord, icount) == 48);
static_assert(offsetof(SnapshotRecord, l1Offset) == 56);
static_assert(offsetof(SnapshotRecord, l1Size) == 64);
static_assert(offsetof(SnapshotRecord, extraLength) == 68);

// ---- assembly/abi/status.ts

/** How a request, an operation or a step of the core ended. Values are stable: hosts and the addon compare them. */
enum class Status : uint32_t {
  /** Done. */
  Ok = 0,
  /** Only inside the core: the step parked its request and is started over later. Never crosses the boundary. */
  Miss = 1,
  /** The request itself makes no sense (kind, alignment, slot in use). */
  Invalid = 2,
  /** The request reaches beyond the virtual disk. */
  OutOfRange = 3,
  /** A write to an image that was opened for reading. */
  ReadOnly = 4,
  /** The file does not begin with the QCOW2 magic. */
  NotQcow2 = 5,
  /** A valid feature of the format that this engine does not do yet, or an unknown incompatible one. */
  Unsupported = 6,
  /** The image contradicts itself or the specification. */
  Corrupt = 7,
  /** The host reported an input/output error. */
  InputOutput = 8,
  /** The host reported that the storage is full. */
  NoSpace = 9,
  /** The host cancelled the request. */
  Cancelled = 10,
  /** A limit of the configuration or of the format is too small for what was asked. */
  TooLarge = 11,
  /** An earlier failure left the state on disk unknown: every later write is refused. */
  Broken = 12,
  /** What the request names is not there. */
  NotFound = 13,
  /** What the request would make is there already. */
  Exists = 14,
};

}  // namespace corral::abi
