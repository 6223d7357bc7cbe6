/**
 * Header extensions (specification, "Header extensions"), from the end of the header to the backing file name or the end
 * of the first cluster:
 *
 *   0      4        8 .......... 8 + length ... to a multiple of 8
 *   type   length   data         padding
 */

/** Types of the specification. */
export enum ExtensionType {
  End = 0,
  BackingFormat = 0xe2792aca,
  FeatureNames = 0x6803f857,
  Bitmaps = 0x23852875,
  LuksHeader = 0x0537be77,
  DataFile = 0x44415441,
}

export const EXTENSION_HEADER_SIZE: u32 = 8;
/** Data of the LUKS header pointer: offset and length of the header, 8 bytes each. */
export const LUKS_POINTER_SIZE: u32 = 16;

/** Bytes from one extension's data to the next extension. */
export function paddedLength(length: u32): u64 {
  return (u64(length) + 7) & ~u64(7);
}
