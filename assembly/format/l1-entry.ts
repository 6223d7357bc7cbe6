/**
 * L1 table entry (specification, "L1 table entry"):
 *
 *   63      62 ........ 56 55 ..................... 9 8 ........ 0
 *   COPIED  reserved       offset of the L2 table     reserved
 */

import { Status } from '../abi/status';

export const L1_ENTRY_SIZE: u32 = 8;

const COPIED: u64 = 0x8000000000000000;
const OFFSET: u64 = 0x00fffffffffffe00;
const RESERVED: u64 = 0x7f000000000001ff;

/** Host offset of the L2 table; 0 when there is none. */
export function l2TableOffset(entry: u64): u64 {
  return entry & OFFSET;
}

/** The table's refcount is exactly one: it may be changed in place. */
export function isL1Copied(entry: u64): bool {
  return (entry & COPIED) !== 0;
}

export function hasReservedL1Bits(entry: u64): bool {
  return (entry & RESERVED) !== 0;
}

export function makeL1Entry(tableOffset: u64): u64 {
  return tableOffset | COPIED;
}

/** The same table, not to be changed in place. */
export function clearL1Copied(entry: u64): u64 {
  return entry & ~COPIED;
}

/** Corrupt when reserved bits are set or the table does not begin at a cluster. */
export function checkL1Entry(entry: u64, clusterSize: u64): Status {
  if (hasReservedL1Bits(entry)) return Status.Corrupt;
  return (entry & OFFSET & (clusterSize - 1)) === 0 ? Status.Ok : Status.Corrupt;
}
