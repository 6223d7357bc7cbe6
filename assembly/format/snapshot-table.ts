/**
 * Snapshot table (specification, "Snapshots"): entries of variable length, each at a multiple of 8 bytes:
 *
 *   0              8        12         14           16 ... 36                  40
 *   L1 offset      L1 size  id length  name length  ...    extra data length   extra data, id, name
 */

/** Fields of an entry, in bytes from its start. */
export enum SnapshotOffset {
  L1TableOffset = 0,
  L1Size = 8,
  IdLength = 12,
  NameLength = 14,
  ExtraDataLength = 36,
}

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
