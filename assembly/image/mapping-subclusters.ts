/** Runs of subclusters: what extended L2 entries say from one byte of a cluster on. */

import { ExtentKind } from '../abi/extent';
import { loadU64 } from '../base/bytes';
import { hasReservedBits, isCompressed, isCopied } from '../format/l2-entry';
import {
  countSubclusters,
  hasReservedExtendedBits,
  isBitmapValid,
  SUBCLUSTER_COUNT_BITS,
  SubclusterState,
  subclusterState,
} from '../format/l2-subclusters';
import { dataLength, Image } from './image';
import { hostOf, NO_HOST } from './mapping-host';

const SUBCLUSTERS: u32 = 1 << SUBCLUSTER_COUNT_BITS;

/** The entry at `address`, not compressed, has no zero flag and a bitmap that makes sense. */
export function isExtendedEntryValid(address: usize, hasHost: bool): bool {
  return !hasReservedExtendedBits(loadU64(address)) && isBitmapValid(loadU64(address + 8), hasHost);
}

/**
 * Sets kind and length of `image.run`, whose first entry has been checked and is not compressed: subclusters that are
 * alike, on into the following clusters when those follow in the file.
 */
export function extendSubclusters(image: Image, data: usize, inCluster: u64, length: u64): void {
  const geometry = image.geometry;
  const run = image.run;
  const bits = geometry.subclusterBits;
  const entries = u32(1) << (geometry.sliceBits - geometry.l2EntryBits);
  let index = run.sliceIndex;
  let address = data + (usize(index) << geometry.l2EntryBits);
  const host = hostOf(image, loadU64(address));
  const hasHost = host !== NO_HOST;
  const first = u32(inCluster >> bits);
  const state = subclusterState(loadU64(address + 8), first);
  let end = first + countSubclusters(loadU64(address + 8), first, SUBCLUSTERS);
  run.kind = subclusterKind(state, hasHost);
  run.length = min(length, (u64(end) << bits) - inCluster);
  let expected = hasHost ? host + geometry.clusterSize : NO_HOST;
  while (end === SUBCLUSTERS && run.length < length && ++index < entries) {
    address = data + (usize(index) << geometry.l2EntryBits);
    const entry = loadU64(address);
    if (isCompressed(entry) || hostOf(image, entry) !== expected || isCopied(entry) !== run.copied) break;
    // A wrong entry ends the run; it is refused when somebody asks for its own bytes.
    if (hasReservedBits(entry, image.version) || !isExtendedEntryValid(address, hasHost)) break;
    if (hasHost && expected >= dataLength(image)) break;
    if (subclusterState(loadU64(address + 8), 0) !== state) break;
    end = countSubclusters(loadU64(address + 8), 0, SUBCLUSTERS);
    run.length = min(length, run.length + (u64(end) << bits));
    if (hasHost) expected += geometry.clusterSize;
  }
}

function subclusterKind(state: SubclusterState, hasHost: bool): ExtentKind {
  if (state === SubclusterState.Allocated) return ExtentKind.Data;
  if (state === SubclusterState.Zeroes) return hasHost ? ExtentKind.ZeroAllocated : ExtentKind.ZeroPlain;
  return hasHost ? ExtentKind.Reserved : ExtentKind.Unallocated;
}
