/**
 * Compressed cluster descriptor (specification, "Compressed Clusters Descriptor"), x = 62 - (cluster_bits - 8):
 *
 *   63 62  61 ................ x  x-1 ............ 0
 *   0  1   additional sectors     host byte offset
 *
 * The data begins at the byte offset and ends at the latest with the last of 1 + additional sectors of 512 bytes,
 * counted from the sector in which it begins.
 */

function offsetBits(clusterBits: u32): u32 {
  return 62 - (clusterBits - 8);
}

export function compressedOffset(entry: u64, clusterBits: u32): u64 {
  return entry & ((u64(1) << offsetBits(clusterBits)) - 1);
}

/** The entry for `length` bytes at `offset`, both of whole sectors. */
export function makeCompressedEntry(offset: u64, length: u32, clusterBits: u32): u64 {
  const additionalSectors = u64(length / 512 - 1);
  return (u64(1) << 62) | (additionalSectors << offsetBits(clusterBits)) | offset;
}

/** Bytes from `compressedOffset` to the end of the last sector. */
export function compressedLength(entry: u64, clusterBits: u32): u64 {
  const bits = offsetBits(clusterBits);
  const additionalSectors = (entry & 0x3fffffffffffffff) >> bits;
  return (additionalSectors + 1) * 512 - (compressedOffset(entry, clusterBits) & 511);
}
