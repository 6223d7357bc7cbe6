/** The arrays of a check: references of the window's clusters, and their stored refcounts. */

import { Field, Structure } from '../abi/failure';
import { reportCorruption } from './report';
import { CheckState, NONE } from './state';

/** Two bits for each cluster of the window: what is known of its stored refcount. */
export enum Stored {
  NotOne = 0,
  One = 1,
  /** Its refcount block cannot be read. */
  Unknown = 2,
}

/** Begins a window at cluster `start`. */
export function openWindow(state: CheckState, start: u64): void {
  state.windowStart = start;
  state.windowEnd = min(start + state.capacity, state.clusterLimit);
  state.nextWindow = NONE;
  memory.fill(state.references, 0, usize(state.capacity) << state.referenceBits);
  memory.fill(state.stored, 0, usize(state.capacity) >> 2);
}

/**
 * Counts `weight` references to every cluster that the `length` bytes from `offset` on touch. False, and nothing is
 * counted, when they reach a cluster or more beyond the end of the file: only the last cluster may be cut short.
 */
export function countReferences(state: CheckState, offset: u64, length: u64, weight: u32): bool {
  if (length === 0) return true;
  const limit = state.fileLength + state.clusterSize;
  if (offset >= limit || length >= limit - offset) return false;
  const last = (offset + length - 1) >> state.clusterBits;
  if (last >= state.clusterCount) state.clusterCount = last + 1;
  state.highestUsed = max(state.highestUsed, last);
  for (let cluster = offset >> state.clusterBits; cluster <= last; cluster++) countCluster(state, cluster, weight);
  return true;
}

function countCluster(state: CheckState, cluster: u64, weight: u32): void {
  if (cluster < state.windowStart) return;
  if (cluster >= state.windowEnd) {
    if (cluster < state.nextWindow) state.nextWindow = cluster;
    return;
  }
  const maximum = state.referenceMaximum;
  let count = referencesOf(state, cluster) + u64(weight);
  if (count > maximum) {
    // Every reference that no refcount of this width can count is a corruption of its own, as QEMU has it.
    const offset = cluster << state.clusterBits;
    reportCorruption(state, count - maximum, Structure.RefcountBlock, Field.Refcount, offset, maximum, count);
    count = maximum;
    state.incomplete = true;
  }
  const address = state.references + (usize(cluster - state.windowStart) << state.referenceBits);
  if (state.referenceBits === 1) store<u16>(address, u16(count));
  else if (state.referenceBits === 0) store<u8>(address, u8(count));
  else store<u32>(address, u32(count));
}

export function isInWindow(state: CheckState, cluster: u64): bool {
  return cluster >= state.windowStart && cluster < state.windowEnd;
}

/** References counted so far to a cluster of the window. */
export function referencesOf(state: CheckState, cluster: u64): u64 {
  const address = state.references + (usize(cluster - state.windowStart) << state.referenceBits);
  if (state.referenceBits === 1) return load<u16>(address);
  if (state.referenceBits === 0) return load<u8>(address);
  return load<u32>(address);
}

/** Notes the stored refcount of a cluster of the window; once, it is NotOne before. */
export function noteStored(state: CheckState, cluster: u64, stored: Stored): void {
  const index = cluster - state.windowStart;
  const address = state.stored + usize(index >> 2);
  store<u8>(address, u8(u32(load<u8>(address)) | (u32(stored) << (u32(index & 3) << 1))));
}

/** What is known of the stored refcount of a cluster of the window. */
export function storedOf(state: CheckState, cluster: u64): Stored {
  const index = cluster - state.windowStart;
  return (u32(load<u8>(state.stored + usize(index >> 2))) >> (u32(index & 3) << 1)) & 3;
}
