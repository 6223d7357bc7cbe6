/** What one Amend request changes. */
export enum AmendKind {
  /** To version 3. */
  Upgrade = 1,
  /**
   * To version 2: zero clusters become unallocated, and what version 2 does not have is refused. With `value` 1 it is only
   * looked whether anything is in the way but the width of the refcounts; nothing changes.
   */
  Downgrade = 2,
  /** The compatible feature bit of lazy refcounts; `value` 0 or 1. */
  LazyRefcounts = 3,
  /** The names of backing file and backing format, which lie at AMEND_NAMES_OFFSET; the disk's contents stay as they are
   * in the file, whatever shows through now. */
  BackingFile = 4,
  /** The data file is a raw image no longer: `value` 0. */
  DataFileRaw = 5,
  /** The width of the refcounts: `value` is log2 of the bits. */
  RefcountOrder = 6,
  /** The name of the external data file, at AMEND_NAMES_OFFSET; only of an image that has one. */
  DataFile = 7,
}

/** Where in the page the names begin: backing file and backing format, one behind the other, or data file. */
export const AMEND_NAMES_OFFSET: u32 = 64;

/** Options of an Amend request; the host writes them at the start of the page. */
@unmanaged
export class AmendOptions {
  /** AmendKind. */
  kind: u32 = 0;
  value: u32 = 0;
  /** Bytes of each name, at most 1023; both 0 to have no backing file any more. */
  backingFileLength: u32 = 0;
  backingFormatLength: u32 = 0;
  /** Bytes of the name, at most 1023; 0 for none: who opens the image has to know it. */
  dataFileLength: u32 = 0;
}
