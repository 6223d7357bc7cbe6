/**
 * Refcounts of every width in a refcount block, and refcount table entries (specification, "Host cluster management").
 * Widths below a byte are packed from the least significant bit on; the others are big-endian.
 *
 *   refcount table entry:   63 ........................ 9 8 ........ 0
 *                           offset of the refcount block  reserved
 */

import { loadU16, loadU32, loadU64, storeU16, storeU32, storeU64 } from '../base/bytes';

export const REFCOUNT_TABLE_ENTRY_SIZE: u32 = 8;

const TABLE_RESERVED: u64 = 0x1ff;

export function hasReservedTableBits(entry: u64, clusterSize: u64): bool {
  return (entry & TABLE_RESERVED) !== 0 || (entry & (clusterSize - 1)) !== 0;
}

/** Host offset of the refcount block; 0 when there is none. */
export function refcountBlockOffset(entry: u64): u64 {
  return entry & ~TABLE_RESERVED;
}

export function hasReservedBlockBits(entry: u64): bool {
  return (entry & TABLE_RESERVED) !== 0;
}

/** Largest refcount of a width; `order` is log2 of the width in bits. */
export function maximumRefcount(order: u32): u64 {
  return order === 6 ? u64.MAX_VALUE : (u64(1) << (u64(1) << order)) - 1;
}

/** Refcount number `index` of the bytes at `address`; `order` is log2 of the width in bits. */
export function loadRefcount(address: usize, index: u32, order: u32): u64 {
  if (order === 4) return loadU16(address + (usize(index) << 1));
  if (order === 5) return loadU32(address + (usize(index) << 2));
  if (order === 6) return loadU64(address + (usize(index) << 3));
  if (order === 3) return load<u8>(address + index);
  const width: u32 = 1 << order;
  const bit: u32 = index << order;
  return (u64(load<u8>(address + (bit >> 3))) >> (bit & 7)) & ((u64(1) << width) - 1);
}

/** Stores a refcount; the caller has made sure that it fits. */
export function storeRefcount(address: usize, index: u32, order: u32, value: u64): void {
  if (order === 4) return storeU16(address + (usize(index) << 1), u16(value));
  if (order === 5) return storeU32(address + (usize(index) << 2), u32(value));
  if (order === 6) return storeU64(address + (usize(index) << 3), value);
  if (order === 3) return store<u8>(address + index, u8(value));
  const mask: u32 = (u32(1) << (u32(1) << order)) - 1;
  const bit: u32 = index << order;
  const byte = address + (bit >> 3);
  const shift: u32 = bit & 7;
  store<u8>(byte, u8((u32(load<u8>(byte)) & ~(mask << shift)) | ((u32(value) & mask) << shift)));
}
