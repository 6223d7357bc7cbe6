/**
 * Snapshot table (specification, "Snapshots"): entries of variable length, each at a multiple of 8 bytes:
 *
 *   0          8        12         14           16       20           24        32             36            40
 *   L1 offset  L1 size  id length  name length  seconds  nanoseconds  VM clock  VM state size  extra length  extra data, id, name
 *
 * Extra data:  0 VM state size in 64 bits, which replaces the one above   8 virtual disk size   16 instruction count
 */

/** Fields of an entry, in bytes from its start. */
export enum SnapshotOffset {
  L1TableOffset = 0,
  L1Size = 8,
  IdLength = 12,
  NameLength = 14,
  Seconds = 16,
  Nanoseconds = 20,
  VmClock = 24,
  VmStateSize = 32,
  ExtraDataLength = 36,
}

/** Fields of the extra data, in bytes from the start of the entry. */
export enum SnapshotExtraOffset {
  VmStateSize = 40,
  DiskSize = 48,
  Icount = 56,
}

/** Bytes of an entry with all the extra data that is known, without id and name. */
export const SNAPSHOT_KNOWN_SIZE: u32 = 64;
/** The instruction count of a guest that has none. */
export const NO_ICOUNT: u64 = 0xffffffffffffffff;
/** Longest id and name of a new snapshot, as QEMU's own structures hold them. */
export const MAXIMUM_SNAPSHOT_ID: u32 = 127;
export const MAXIMUM_SNAPSHOT_NAME: u32 = 255;

/** Bytes of an entry without extra data, id and name. */
export const SNAPSHOT_HEADER_SIZE: u32 = 40;
export const SNAPSHOT_ALIGNMENT: u64 = 8;
/** QEMU's limits: extra data of one entry, and the whole table. */
export const MAXIMUM_EXTRA_DATA_LENGTH: u32 = 1024;
export const MAXIMUM_SNAPSHOT_TABLE_LENGTH: u64 = 67108864;

/** Extra data that an entry must have: version 3 requires the 64-bit VM state size and the disk size. */
export function requiredExtraData(version: u32): u32 {
  return version < 3 ? 0 : 16;
}

/** Length of the extra data of an entry that has `length` bytes of it, when it is put right. */
export function repairedExtraData(version: u32, length: u32): u32 {
  if (length < requiredExtraData(version)) return SNAPSHOT_KNOWN_SIZE - SNAPSHOT_HEADER_SIZE;
  return min(length, MAXIMUM_EXTRA_DATA_LENGTH);
}
