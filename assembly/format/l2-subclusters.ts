/**
 * Extended L2 entry (specification, "Extended L2 Entries"): 16 bytes, a standard entry whose bit 0 is reserved, and a
 * bitmap with two bits for each of the cluster's 32 subclusters:
 *
 *   63 ............................ 32 31 ............................ 0
 *   31 reads as zeros .............. 0 31 allocated .................. 0
 *
 *   allocated  zeros   with a host cluster             without one
 *   0          0       unallocated, space reserved     unallocated
 *   1          0       data                            (invalid)
 *   0          1       zeros, space reserved           zeros
 *   1          1       (invalid)                       (invalid)
 *
 * A compressed cluster is one piece: its bitmap is zero.
 */

/** log2 of the bytes of an extended entry. */
export const EXTENDED_L2_ENTRY_BITS: u32 = 4;
/** log2 of the subclusters of a cluster. */
export const SUBCLUSTER_COUNT_BITS: u32 = 5;
/** Subclusters have at least a sector. */
export const MINIMUM_EXTENDED_CLUSTER_BITS: u32 = 14;

/** Every subcluster holds data. */
export const ALL_ALLOCATED: u64 = 0x00000000ffffffff;

/** Every subcluster reads as zeros. */
export const ALL_ZEROES: u64 = 0xffffffff00000000;

const ZEROES_SHIFT: u32 = 32;
const RESERVED: u64 = 1;

/** What subcluster `index` is: bit 0 says allocated, bit 1 zeros. */
export enum SubclusterState {
  Unallocated = 0,
  Allocated = 1,
  Zeroes = 2,
  Invalid = 3,
}

export function subclusterState(bitmap: u64, index: u32): SubclusterState {
  return u32((bitmap >> index) & 1) | (u32((bitmap >> (index + ZEROES_SHIFT)) & 1) << 1);
}

/** No subcluster is both, and without a host cluster none is allocated. */
export function isBitmapValid(bitmap: u64, hasHost: bool): bool {
  const allocated = u32(bitmap);
  return hasHost ? (allocated & u32(bitmap >> ZEROES_SHIFT)) === 0 : allocated === 0;
}

/** The bitmap when the subclusters from `first` to before `end` hold data. */
export function withAllocated(bitmap: u64, first: u32, end: u32): u64 {
  const mask = rangeMask(first, end);
  return (bitmap | mask) & ~(mask << ZEROES_SHIFT);
}

/** The bitmap when they read as zeros. */
export function withZeroes(bitmap: u64, first: u32, end: u32): u64 {
  const mask = rangeMask(first, end);
  return (bitmap | (mask << ZEROES_SHIFT)) & ~mask;
}

function rangeMask(first: u32, end: u32): u64 {
  return ((u64(1) << end) - 1) & ~((u64(1) << first) - 1);
}

/** Subclusters from `index` on, and before `end`, that are what `index` is: at least one. */
export function countSubclusters(bitmap: u64, index: u32, end: u32): u32 {
  const state = subclusterState(bitmap, index);
  let next = index + 1;
  while (next < end && subclusterState(bitmap, next) === state) next++;
  return next - index;
}

/** The subclusters from `first` to `last` hold data, and the bitmap is a valid one of a host cluster. */
export function areAllocated(bitmap: u64, first: u32, last: u32): bool {
  const mask = (u32(0xffffffff) >> (31 - (last - first))) << first;
  return (u32(bitmap) & mask) === mask && isBitmapValid(bitmap, true);
}

/** Whether any subcluster holds data. */
export function areAnyAllocated(bitmap: u64): bool {
  return u32(bitmap) !== 0;
}

/** Bit 0, the zero flag of standard entries, is set. */
export function hasReservedExtendedBits(entry: u64): bool {
  return (entry & RESERVED) !== 0;
}
