/**
 * Bitmaps (specification, "Bitmaps"): the extension names a directory, its entries name bitmap tables, and those name
 * clusters of bits.
 *
 *   extension   0 count   4 reserved   8 directory length   16 directory offset
 *   entry       0 table offset   8 table size   12 flags   16 type   17 granularity   18 name length
 *               20 extra data length   24 extra data, name, padding to 8
 *   table       bits 9-55 offset of a cluster; without one, bit 0 says that all its bits are ones, not zeros
 *
 * Bit b of byte n of the bits stands for the guest bytes from (8n + b) << granularity on.
 */

import { BitmapFlag } from '../abi/bitmap';
import { unitsFor } from '../base/align';

/** Fields of the extension's data. */
export enum BitmapsExtension {
  Count = 0,
  DirectoryLength = 8,
  DirectoryOffset = 16,
}

export const BITMAPS_EXTENSION_LENGTH: u32 = 24;

/** Fields of an entry, in bytes from its start. */
export enum BitmapOffset {
  TableOffset = 0,
  TableSize = 8,
  Flags = 12,
  Type = 16,
  GranularityBits = 17,
  NameLength = 18,
  ExtraDataLength = 20,
}

/** Bytes of an entry without extra data and name. */
export const BITMAP_HEADER_SIZE: u32 = 24;
export const BITMAP_TYPE_DIRTY: u32 = 1;
export const BITMAP_KNOWN_FLAGS: u32 = BitmapFlag.InUse | BitmapFlag.Auto | BitmapFlag.ExtraDataCompatible;

/** QEMU's limits. */
export const MAXIMUM_BITMAPS: u32 = 65535;
export const MAXIMUM_BITMAP_DIRECTORY_LENGTH: u64 = 67107840;
export const MAXIMUM_BITMAP_NAME_LENGTH: u32 = 1023;
export const MINIMUM_GRANULARITY_BITS: u32 = 9;
export const MAXIMUM_GRANULARITY_BITS: u32 = 31;
/** Bytes of one bitmap's bits. */
export const MAXIMUM_BITMAP_LENGTH: u64 = 536870912;

export const BITMAP_ENTRY_SIZE: u64 = 8;
/** The table entry of a cluster that is not there because all its bits are ones. */
export const ALL_ONES_ENTRY: u64 = 1;
const OFFSET_MASK: u64 = 0x00fffffffffffe00;

/** Bytes of an entry with everything. */
export function bitmapEntryLength(extraDataLength: u32, nameLength: u32): u64 {
  return (u64(BITMAP_HEADER_SIZE) + u64(extraDataLength) + u64(nameLength) + 7) & ~u64(7);
}

/** Bits of a bitmap of a disk of `size` bytes. */
export function bitCount(size: u64, granularityBits: u32): u64 {
  return unitsFor(size, granularityBits);
}

/** Table entries of a bitmap of a disk of `size` bytes. */
export function bitmapTableSize(size: u64, granularityBits: u32, clusterBits: u32): u64 {
  return unitsFor(bitCount(size, granularityBits), clusterBits + 3);
}

/** Host offset of the cluster with the bits; 0 when there is none. */
export function bitsOffset(entry: u64): u64 {
  return entry & OFFSET_MASK;
}

/** Whether a table entry has bits that it may not have: reserved ones, an unaligned offset, or all ones with an offset. */
export function isWrongTableEntry(entry: u64, clusterSize: u32): bool {
  const offset = entry & OFFSET_MASK;
  if (offset === 0) return (entry & ~ALL_ONES_ENTRY) !== 0;
  return offset !== entry || (offset & (u64(clusterSize) - 1)) !== 0;
}
