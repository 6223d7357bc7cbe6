/** Bits of `CreateOptions.flags`. */
export enum CreateFlag {
  /** The compatible feature bit of lazy refcounts. */
  LazyRefcounts = 1,
  /** L2 entries of 16 bytes that describe subclusters; clusters of at least 16 KiB. */
  ExtendedL2 = 2,
  /** Guest data lies in a file of its own, which the host makes. */
  DataFile = 4,
  /** That file is a raw image at any time. */
  DataFileRaw = 8,
}

/** Where in the page the names begin: backing file, backing format and data file, one behind the other. */
export const CREATE_NAMES_OFFSET: u32 = 64;

/** Options of a Create request; the host writes them at the start of the page, the names at CREATE_NAMES_OFFSET. */
@unmanaged
export class CreateOptions {
  /** Bytes of the virtual disk, a multiple of 512. */
  virtualSize: u64 = 0;
  /** 2 or 3. */
  version: u32 = 0;
  /** log2 of the cluster size in bytes, 9 to 21. */
  clusterBits: u32 = 0;
  /** log2 of the refcount width in bits, 0 to 6; 4 in version 2. */
  refcountOrder: u32 = 0;
  /** CreateFlag bits. */
  flags: u32 = 0;
  /** 0 zlib, 1 zstd. */
  compressionType: u32 = 0;
  /** Bytes of each name, at most 1023; 0 when there is none. */
  backingFileLength: u32 = 0;
  backingFormatLength: u32 = 0;
  dataFileLength: u32 = 0;
}
