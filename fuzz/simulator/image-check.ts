/** Judges the structures of an image that nobody has open: after a power cut it may have lost clusters, nothing worse. */

import { type DiskBitmap, readBitmaps } from './bitmap-reader.js';
import type { ImageReader } from './image-reader.js';
import { addMappings, type Mappings } from './mappings.js';
import { References } from './references.js';
import { SimulationFailure } from './trace.js';

export interface CheckOutcome {
  /** Every cluster in use but those of the refcount structures. */
  readonly used: Iterable<number>;
  /** Bytes of the active virtual disk. */
  readonly size: number;
  readonly active: Mappings;
  readonly snapshots: readonly Mappings[];
  readonly references: References;
  readonly bitmaps: readonly DiskBitmap[];
  /** Clusters that an entry of the active disk says may be written in place. */
  readonly copied: readonly number[];
  /** How many clusters below `limit` are counted more often than used; takes a walk over all refcounts. */
  countLeaks(limit?: number): number;
}

/**
 * Throws at the first thing that is wrong. COPIED flags must be exact, or, when a change of snapshots has not come to its
 * end, only not there where something is shared. Without `counts` only the way from the header to the data is looked at.
 */
export function checkImage(reader: ImageReader, exactFlags: boolean, counts = true): CheckOutcome {
  const outcome = walkImage(reader, exactFlags && counts, counts);
  if (!counts) return outcome;
  outcome.references.checkCounts();
  for (const cluster of outcome.copied) {
    if (outcome.references.countOf(cluster) <= 1) continue;
    throw new SimulationFailure(`cluster ${cluster} is shared, and an entry says that it may be written in place`);
  }
  return outcome;
}

/** Follows every reference, with `counts` those of the refcount structures too; `judgesFlags` when COPIED must be right. */
export function walkImage(reader: ImageReader, judgesFlags: boolean, counts = true): CheckOutcome {
  const { header, clusterSize } = reader;
  const references = new References(reader);
  references.add(0, clusterSize, { kind: 'header' });
  const { roots, end } = reader.snapshots;
  if (roots.length > 0) {
    references.add(header.snapshotsOffset, end - header.snapshotsOffset, { kind: 'snapshot table' });
  }
  for (const root of [reader.active, ...roots]) {
    references.add(root.l1Offset, root.l1Size * 8, { kind: 'L1 table', root: root.number });
  }
  const copied: number[] = [];
  const active = addMappings(reader, references, reader.active, { flags: judgesFlags, copied });
  const snapshots = roots.map((root) => addMappings(reader, references, root, { flags: false, copied: [] }));
  const { bitmaps, parts } = readBitmaps(reader.file, clusterSize, header.virtualSize);
  for (const { offset, length, kind } of parts) references.add(offset, length, { kind });
  const used = [...references.clusters()];
  let blocks: number[] = [];
  if (counts) {
    references.add(header.refcountTableOffset, header.refcountTableClusters * clusterSize, { kind: 'refcount table' });
    blocks = addBlocks(reader, references);
  }
  return {
    used,
    size: header.virtualSize,
    active,
    snapshots,
    references,
    bitmaps,
    copied,
    countLeaks: (limit = Number.POSITIVE_INFINITY) => countLeaks(reader, references, blocks, limit),
  };
}

function addBlocks(reader: ImageReader, references: References): number[] {
  const blocks: number[] = [];
  for (let index = 0; index < reader.refcountTableEntries; index++) {
    const entry = reader.refcountTableEntry(index);
    if (entry.high === 0 && entry.low === 0) continue;
    if ((entry.low & 0x1ff) !== 0) throw new SimulationFailure(`refcount table entry ${index} has reserved bits`);
    references.add(entry.high * 0x100000000 + entry.low, reader.clusterSize, { kind: 'refcount block', index });
    blocks.push(index);
  }
  return blocks;
}

function countLeaks(reader: ImageReader, references: References, blocks: number[], limit: number): number {
  let leaks = 0;
  for (const block of blocks) {
    const start = block * reader.blockCoverage;
    for (let cluster = start; cluster < Math.min(limit, start + reader.blockCoverage); cluster++) {
      if (reader.refcount(cluster) > references.countOf(cluster)) leaks++;
    }
  }
  return leaks;
}
