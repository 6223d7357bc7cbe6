/**
 * Standard L2 table entry (specification, "L2 table entry"):
 *
 *   63      62          61 ........ 56 55 .................. 9 8 ....... 1 0
 *   COPIED  compressed  reserved       host cluster offset     reserved    reads as zeros (version 3)
 *
 * With bit 62 set the rest is a compressed cluster descriptor, see compressed.ts.
 */

export const L2_ENTRY_SIZE: u32 = 8;
export const L2_ENTRY_BITS: u32 = 3;

const COPIED: u64 = 0x8000000000000000;
const COMPRESSED: u64 = 0x4000000000000000;
const ZERO: u64 = 0x0000000000000001;
const OFFSET: u64 = 0x00fffffffffffe00;
const RESERVED: u64 = 0x3f000000000001fe;

/** The cluster's refcount is exactly one: it may be written in place. */
export function isCopied(entry: u64): bool {
  return (entry & COPIED) !== 0;
}

/** The same entry with the other COPIED flag; L1 entries have it at the same place. */
export function flipCopied(entry: u64): u64 {
  return entry ^ COPIED;
}

export function isCompressed(entry: u64): bool {
  return (entry & COMPRESSED) !== 0;
}

export function isZero(entry: u64): bool {
  return (entry & ZERO) !== 0;
}

/** Data and nothing else: not compressed, no zeros, no reserved bits. */
export function isPlainData(entry: u64): bool {
  return (entry & (COMPRESSED | RESERVED | ZERO)) === 0 && (entry & OFFSET) !== 0;
}

/** Offset of the host cluster of a standard entry; 0 when nothing is allocated. */
export function clusterOffset(entry: u64): u64 {
  return entry & OFFSET;
}

/** A standard entry whose reserved bits are set; in version 2 the zero bit is reserved too. */
export function hasReservedBits(entry: u64, version: u32): bool {
  if ((entry & RESERVED) !== 0) return true;
  return version < 3 && (entry & ZERO) !== 0;
}

/** Entry of a data cluster with a refcount of one. */
export function makeDataEntry(hostOffset: u64): u64 {
  return hostOffset | COPIED;
}

/** The same entry, not to be written in place. */
export function clearCopied(entry: u64): u64 {
  return entry & ~COPIED;
}

/** Zeros without a host cluster. */
export const ZERO_PLAIN_ENTRY: u64 = ZERO;

/** The same host cluster, if any, kept for later; it reads as zeros. */
export function makeZeroEntry(entry: u64): u64 {
  return entry | ZERO;
}
