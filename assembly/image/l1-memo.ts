/** The L1 entries used last, checked: they save the way through the cache on every request. */

import { l2TableOffset } from '../format/l1-entry';
import { Image } from './image';

/** Entries of the memo, a power of two. */
const MEMO_ENTRIES: u64 = 64;
/** Each is the index plus one, 0 when empty, and the entry. */
const MEMO_ENTRY_BITS: usize = 4;

export const MEMO_LENGTH: u64 = 1024;

/** Offset of the L2 table that L1 entry `index` names; 0 when it is not remembered. */
export function recallL2Table(image: Image, index: u64): u64 {
  const memo = memoOf(image, index);
  return load<u64>(memo) === index + 1 ? l2TableOffset(load<u64>(memo, 8)) : 0;
}

/** Remembers an entry that was checked and names a table, or the one that has just replaced it. */
export function rememberL1Entry(image: Image, index: u64, entry: u64): void {
  const memo = memoOf(image, index);
  store<u64>(memo, index + 1);
  store<u64>(memo, entry, 8);
}

/** The L1 table has become another one. */
export function forgetL1Entries(image: Image): void {
  memory.fill(image.l1Memo, 0, usize(MEMO_LENGTH));
}

function memoOf(image: Image, index: u64): usize {
  return image.l1Memo + (usize(index & (MEMO_ENTRIES - 1)) << MEMO_ENTRY_BITS);
}
