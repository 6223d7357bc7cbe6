/** Short reads of what the page cache has, on the calling thread: handing one to another thread takes longer than it. */

import { findAddon } from './addon.js';

/** Bytes that are copied in less time than another thread takes to wake. */
const LONGEST = 65536;
/** So many in a row; then timers, signals and sockets have their turn, which a chain of promises would not let them have. */
const MOST_IN_A_ROW = 128;

let left = MOST_IN_A_ROW;

/** True: the target is filled. False: the bytes have to be waited for, or have to be read in another way. */
export function isReadAtOnce(descriptor: number, offset: number, target: Uint8Array): boolean {
  if (target.length > LONGEST || target.length === 0 || left === 0) return false;
  if (left === MOST_IN_A_ROW) setImmediate(refill);
  left -= 1;
  return findAddon()?.readCached(descriptor, offset, target) === target.length;
}

function refill(): void {
  left = MOST_IN_A_ROW;
}
