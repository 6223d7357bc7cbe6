/**
 * Feature bits (specification, "Header", version 3):
 *
 *                  63 ... 5   4            3                 2          1        0
 *   incompatible   reserved   extended L2  compression type  data file  corrupt  dirty
 *   compatible     reserved ......................................................  lazy refcounts
 *   autoclear      reserved ...........................................  raw data   bitmaps
 *
 * An entry of the feature name table: kind (8 bits), bit (8 bits), name (46 bytes).
 */

export const INCOMPATIBLE_DIRTY: u64 = 1;
export const INCOMPATIBLE_CORRUPT: u64 = 2;
export const INCOMPATIBLE_DATA_FILE: u64 = 4;
export const INCOMPATIBLE_COMPRESSION: u64 = 8;
export const INCOMPATIBLE_EXTENDED_L2: u64 = 16;
export const INCOMPATIBLE_KNOWN: u64 = 31;

export const COMPATIBLE_LAZY_REFCOUNTS: u64 = 1;

export const AUTOCLEAR_RAW_DATA: u64 = 2;
export const AUTOCLEAR_BITMAPS: u64 = 1;
/** Bitmaps and raw external data. */
export const AUTOCLEAR_KNOWN: u64 = 3;

/** Bytes of an entry of the feature name table: kind, bit, name padded with zeros. */
export const FEATURE_ENTRY_SIZE: u32 = 48;
export const FEATURE_NAME_LENGTH: u32 = 46;
