/** Create: tables in which every guest cluster has the cluster of a data file that lies where the guest has it. */

import { storeU64 } from '../base/bytes';
import { L1_ENTRY_SIZE, makeL1Entry } from '../format/l1-entry';
import { makeDataEntry } from '../format/l2-entry';
import { ALL_ALLOCATED } from '../format/l2-subclusters';
import { Image } from '../image/image';
import { NewLayout } from './create-plan';

/** Fills the zeroed scratch buffer with the slice of the L1 table or of an L2 table that lies at `hostOffset`. */
export function fillMapping(image: Image, layout: NewLayout, hostOffset: u64, guestClusters: u64): void {
  const geometry = image.geometry;
  const sliceSize = u32(1) << geometry.sliceBits;
  const tablesOffset = layout.firstTableCluster << geometry.clusterBits;
  if (hostOffset < tablesOffset) {
    const first = (hostOffset - layout.l1Offset) / L1_ENTRY_SIZE;
    const count = u32(min(u64(layout.l1Size) - min(first, layout.l1Size), sliceSize / L1_ENTRY_SIZE));
    for (let index: u32 = 0; index < count; index++) {
      const entry = makeL1Entry(tablesOffset + ((first + index) << geometry.clusterBits));
      storeU64(image.scratch + usize(index * L1_ENTRY_SIZE), entry);
    }
    return;
  }
  // The tables follow each other, and so do the clusters that they map.
  const first = (hostOffset - tablesOffset) >> geometry.l2EntryBits;
  const count = u32(min(guestClusters - min(first, guestClusters), sliceSize >> geometry.l2EntryBits));
  for (let index: u32 = 0; index < count; index++) {
    const address = image.scratch + (usize(index) << geometry.l2EntryBits);
    storeU64(address, makeDataEntry((first + index) << geometry.clusterBits));
    if (geometry.extended) storeU64(address + 8, ALL_ALLOCATED);
  }
}
