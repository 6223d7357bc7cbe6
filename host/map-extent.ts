/** Extents of a map, from the core's page. */

import { ExtentKind, ExtentView } from './abi.js';
import type { CoreInstance } from './core-instance.js';

const EXTENT_SIZE = 32;

/** A stretch of the virtual disk. Numbers are bytes. */
export interface MapExtent {
  readonly offset: number;
  readonly length: number;
  readonly kind: 'data' | 'zero' | 'unallocated' | 'compressed';
  /** Host clusters are there: always for data, sometimes for zeros, and in parts of clusters for what is unallocated. */
  readonly allocated: boolean;
  /** Where its bytes begin in the image file, when it has any. */
  readonly hostOffset: number | undefined;
}

/** What a Map request has put into the page; while it finishes. */
export function readExtents(core: CoreInstance, record: { result: number }): MapExtent[] {
  const view = new ExtentView(core.memory);
  return Array.from({ length: record.result }, (_, index) => {
    const extent = view.at(core.layout.page + index * EXTENT_SIZE);
    const kind = extent.kind;
    const allocated = kind !== ExtentKind.Unallocated && kind !== ExtentKind.ZeroPlain;
    return {
      offset: extent.guestOffset,
      length: extent.length,
      kind: KIND_NAMES[kind] ?? 'unallocated',
      allocated,
      hostOffset: allocated ? extent.hostOffset : undefined,
    };
  });
}

const KIND_NAMES: Readonly<Record<number, MapExtent['kind']>> = {
  [ExtentKind.Unallocated]: 'unallocated',
  [ExtentKind.ZeroPlain]: 'zero',
  [ExtentKind.ZeroAllocated]: 'zero',
  [ExtentKind.Data]: 'data',
  [ExtentKind.Compressed]: 'compressed',
  [ExtentKind.Reserved]: 'unallocated',
};

/** One extent for both when the second continues the first, in the guest and in the file. */
export function joinExtents(first: MapExtent, second: MapExtent): MapExtent | undefined {
  const sameKind = first.kind === second.kind && first.allocated === second.allocated && first.kind !== 'compressed';
  const follows = first.hostOffset === undefined || first.hostOffset + first.length === second.hostOffset;
  return sameKind && follows ? { ...first, length: first.length + second.length } : undefined;
}
