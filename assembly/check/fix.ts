/** Changing one table entry, where that loses nothing. What overlaps another structure is left alone. */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { storeU64 } from '../base/bytes';
import { TableKind, TableSlice } from '../cache/table-cache';
import { markDirty } from '../cache/write-order';
import { flipCopied, isCopied, isZero, ZERO_PLAIN_ENTRY } from '../format/l2-entry';
import { areAnyAllocated } from '../format/l2-subclusters';
import { Image } from '../image/image';
import { checkTableOverlap } from '../image/overlap';
import { reportRepaired } from './report';
import { CheckState } from './state';

/**
 * Turns the COPIED flag of the L1 or L2 entry at `entryOffset` round. Without it a cluster is copied before it is
 * changed, which never is wrong; it is only set when everything that may name the cluster was counted.
 */
export function fixCopied(
  image: Image,
  state: CheckState,
  slice: TableSlice,
  kind: TableKind,
  entryOffset: u64,
  entry: u64,
): void {
  if (!isCopied(entry) && state.incomplete) return;
  if (!mayChange(image, slice, kind)) return;
  const replacement = flipCopied(entry);
  storeU64(slice.data + usize(entryOffset - slice.hostOffset), replacement);
  markDirty(image.order, slice);
  state.copiedFixed++;
  const structure = kind === TableKind.L1 ? Structure.L1Table : Structure.L2Table;
  reportRepaired(state, structure, Field.Copied, entryOffset, entry, replacement);
}

/** Whether the guest would miss the host cluster of a standard entry. */
export function holdsData(image: Image, entry: u64, bitmap: u64): bool {
  return image.geometry.extended ? areAnyAllocated(bitmap) : !isZero(entry);
}

/** Takes the host cluster from an entry that reads as zeros all the same; false when it may not be changed. */
export function fixByZero(image: Image, state: CheckState, slice: TableSlice, entryOffset: u64, entry: u64): bool {
  if (!mayChange(image, slice, TableKind.L2)) return false;
  // The bitmap of an extended entry says what is zero, and stays.
  const replacement: u64 = image.geometry.extended ? 0 : ZERO_PLAIN_ENTRY;
  storeU64(slice.data + usize(entryOffset - slice.hostOffset), replacement);
  markDirty(image.order, slice);
  reportRepaired(state, Structure.L2Table, Field.Alignment, entryOffset, entry, replacement);
  return true;
}

function mayChange(image: Image, slice: TableSlice, kind: TableKind): bool {
  if (slice.kind !== u8(kind)) return false;
  if (kind === TableKind.L1) return true;
  return checkTableOverlap(image, slice.hostOffset, u64(1) << image.cache.sliceBits) === Status.Ok;
}
