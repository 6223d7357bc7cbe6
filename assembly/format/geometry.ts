/** Sizes and shifts that follow from cluster size, refcount width and the kind of L2 entries. */

import { L2_ENTRY_BITS } from './l2-entry';
import { EXTENDED_L2_ENTRY_BITS, SUBCLUSTER_COUNT_BITS } from './l2-subclusters';

@unmanaged
export class Geometry {
  clusterBits: u32 = 0;
  clusterSize: u32 = 0;
  /** L2 entries have 16 bytes and describe subclusters. */
  extended: bool = false;
  /** log2 of the bytes of an L2 entry. */
  l2EntryBits: u32 = 0;
  /** log2 of the entries of an L2 table. */
  l2Bits: u32 = 0;
  /** log2 of the bytes that are allocated together: of a subcluster, or of the whole cluster. */
  subclusterBits: u32 = 0;
  /** log2 of the refcounts of a refcount block. */
  blockBits: u32 = 0;
  refcountOrder: u32 = 0;
  /** log2 of the bytes of a cached table slice: 4 KiB, or the cluster size when that is smaller. */
  sliceBits: u32 = 0;
}

export function setGeometry(geometry: Geometry, clusterBits: u32, refcountOrder: u32, extended: bool): void {
  geometry.clusterBits = clusterBits;
  geometry.clusterSize = 1 << clusterBits;
  geometry.extended = extended;
  geometry.l2EntryBits = extended ? EXTENDED_L2_ENTRY_BITS : L2_ENTRY_BITS;
  geometry.l2Bits = clusterBits - geometry.l2EntryBits;
  geometry.subclusterBits = extended ? clusterBits - SUBCLUSTER_COUNT_BITS : clusterBits;
  geometry.blockBits = clusterBits + 3 - refcountOrder;
  geometry.refcountOrder = refcountOrder;
  geometry.sliceBits = min<u32>(clusterBits, 12);
}

/** Guest bytes that one L2 table maps. */
export function l2Coverage(geometry: Geometry): u64 {
  return u64(1) << (geometry.clusterBits + geometry.l2Bits);
}

/** Index into the L1 table for a guest offset. */
export function l1Index(geometry: Geometry, guestOffset: u64): u64 {
  return guestOffset >> (geometry.clusterBits + geometry.l2Bits);
}

/** Index into its L2 table for a guest offset. */
export function l2Index(geometry: Geometry, guestOffset: u64): u32 {
  return u32(guestOffset >> geometry.clusterBits) & ((u32(1) << geometry.l2Bits) - 1);
}

/** L1 entries that a virtual disk of `size` bytes needs. */
export function l1EntriesFor(geometry: Geometry, size: u64): u64 {
  const bits = geometry.clusterBits + geometry.l2Bits;
  return (size >> bits) + u64((size & ((u64(1) << bits) - 1)) !== 0);
}

/** Refcount table index of a host cluster. */
export function blockIndex(geometry: Geometry, cluster: u64): u64 {
  return cluster >> geometry.blockBits;
}

/** Byte within its refcount block at which the slice with that cluster's refcount begins. */
export function blockSliceOffset(geometry: Geometry, cluster: u64): u64 {
  const index = cluster & ((u64(1) << geometry.blockBits) - 1);
  const byte =
    geometry.refcountOrder >= 3 ? index << (geometry.refcountOrder - 3) : index >> (3 - geometry.refcountOrder);
  return (byte >> geometry.sliceBits) << geometry.sliceBits;
}

/** log2 of the refcounts in one slice of a refcount block. */
export function sliceRefcountBits(geometry: Geometry): u32 {
  return geometry.sliceBits + 3 - geometry.refcountOrder;
}
