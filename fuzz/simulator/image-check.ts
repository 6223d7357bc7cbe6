/** Judges the structures of an image that nobody has open: after a power cut it may have lost clusters, nothing worse. */

import { type DiskBitmap, readBitmaps } from './bitmap-reader.js';
import {
  compressedRange,
  type Entry,
  type ImageReader,
  isCompressed,
  isCopied,
  isZero,
  offsetOf,
  type Root,
} from './image-reader.js';
import { nameOf, type Owner, References } from './references.js';
import { SimulationFailure } from './trace.js';

/** A stretch of the guest that has a cluster with data. */
export interface DataCluster {
  readonly guestOffset: number;
  readonly hostOffset: number;
  /** Bytes of compressed data at `hostOffset`; 0 when it is a plain cluster. */
  readonly compressedLength: number;
  /** Where its L2 entry lies in the file. */
  readonly entryOffset: number;
}

/** What an L1 table leads to. */
export interface Mappings {
  /** 0 for the active disk, else the number of the snapshot. */
  readonly number: number;
  /** Bytes of the disk. */
  readonly size: number;
  readonly clusters: readonly DataCluster[];
  /** Guest offsets of the clusters that are marked as zeros. */
  readonly zeroes: ReadonlySet<number>;
}

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
  const active = addMappings(reader, references, reader.active, judgesFlags, copied);
  const snapshots = roots.map((root) => addMappings(reader, references, root, false, []));
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

function addMappings(
  reader: ImageReader,
  references: References,
  root: Root,
  judgesFlags: boolean,
  copied: number[],
): Mappings {
  const clusters: DataCluster[] = [];
  const zeroes = new Set<number>();
  const { clusterSize, header } = reader;
  for (let table = 0; table < root.l1Size; table++) {
    const l1Entry = reader.l1Entry(table, root);
    if (l1Entry.high === 0 && l1Entry.low === 0) continue;
    const tableOffset = offsetOf(l1Entry);
    references.add(tableOffset, clusterSize, { kind: 'L2 table', root: root.number, index: table });
    if (isCopied(l1Entry)) copied.push(tableOffset / clusterSize);
    const reserved = (l1Entry.high & 0x7f000000) !== 0 || (l1Entry.low & 0x1ff) !== 0;
    if (reserved || (judgesFlags && isWronglyCopied(reader, l1Entry, tableOffset))) {
      throw new SimulationFailure(`L1 entry ${table} of disk ${root.number} is wrong: ${show(l1Entry)}`);
    }
    for (let index = 0; index < clusterSize / 8; index++) {
      const entry = reader.l2Entry(tableOffset, index);
      if (entry.high === 0 && entry.low === 0) continue;
      const owner: Owner = { kind: 'entry', index, table, root: root.number };
      checkEntry(reader, entry, owner, judgesFlags);
      const guestOffset = table * reader.tableCoverage + index * clusterSize;
      const entryOffset = tableOffset + index * 8;
      if (isCompressed(entry)) {
        const { offset, length } = compressedRange(entry, header.clusterBits);
        references.addSectors(offset, length, { ...owner, kind: 'compressed' });
        clusters.push({ guestOffset, hostOffset: offset, compressedLength: length, entryOffset });
        continue;
      }
      const hostOffset = offsetOf(entry);
      if (hostOffset !== 0) references.add(hostOffset, clusterSize, owner);
      if (isCopied(entry)) copied.push(hostOffset / clusterSize);
      if (isZero(entry)) zeroes.add(guestOffset);
      else if (hostOffset !== 0) clusters.push({ guestOffset, hostOffset, compressedLength: 0, entryOffset });
    }
  }
  return { number: root.number, size: root.size, clusters, zeroes };
}

function checkEntry(reader: ImageReader, entry: Entry, owner: Owner, judgesFlags: boolean): void {
  const { version } = reader.header;
  const reserved = (entry.high & 0x3f000000) !== 0 || (entry.low & 0x1fe) !== 0 || (version < 3 && isZero(entry));
  const flagged = judgesFlags && isWronglyCopied(reader, entry, offsetOf(entry));
  const wrong = isCompressed(entry) ? isCopied(entry) : reserved || flagged;
  if (wrong) throw new SimulationFailure(`${nameOf(owner)} is wrong: ${show(entry)}`);
}

/** In the tables of the active disk COPIED says that the refcount is one; elsewhere nobody looks at it. */
function isWronglyCopied(reader: ImageReader, entry: Entry, hostOffset: number): boolean {
  const single = hostOffset !== 0 && reader.refcount(Math.floor(hostOffset / reader.clusterSize)) === 1;
  return isCopied(entry) !== single;
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

function show({ high, low }: Entry): string {
  return `0x${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`;
}
