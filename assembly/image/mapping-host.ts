/** Whether an L2 entry names a host cluster: with an external data file, the one at offset 0 may be guest data. */

import { clusterOffset, isCopied, isZero } from '../format/l2-entry';
import { Image } from './image';

/** The entry names no host cluster. */
export const NO_HOST: u64 = 0xffffffffffffffff;

/**
 * Host offset of the entry's cluster, or NO_HOST. Offset 0 counts in a data file when the entry is marked as COPIED; with
 * the zero flag of a standard entry it stands for nothing, as in QEMU.
 */
export function hostOf(image: Image, entry: u64): u64 {
  const offset = clusterOffset(entry);
  if (offset !== 0) return offset;
  return image.hasDataFile && isCopied(entry) && !isZero(entry) ? 0 : NO_HOST;
}
