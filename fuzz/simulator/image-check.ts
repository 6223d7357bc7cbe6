/** Judges the structures of an image that nobody has open: after a power cut it may have lost clusters, nothing worse. */

import { type DiskBitmap, readBitmaps } from './bitmap-reader.js';
import { type Entry, type ImageReader, isCompressed, isCopied, isZero, offsetOf } from './image-reader.js';
import { SimulationFailure } from './trace.js';

/** A stretch of the guest that has a cluster with data. */
export interface DataCluster {
  readonly guestOffset: number;
  readonly hostOffset: number;
  /** Where its L2 entry lies in the file. */
  readonly entryOffset: number;
}

export interface CheckOutcome {
  /** Every cluster in use but those of the refcount structures. */
  readonly used: Iterable<number>;
  /** Bytes of the virtual disk. */
  readonly size: number;
  readonly clusters: readonly DataCluster[];
  readonly bitmaps: readonly DiskBitmap[];
  /** How many clusters below `limit` are counted and not used; takes a walk over all refcounts. */
  countLeaks(limit?: number): number;
}

/** Throws at the first thing that is wrong. Without `counts` only the way from the header to the data is looked at. */
export function checkImage(reader: ImageReader, counts = true): CheckOutcome {
  const { header, clusterSize } = reader;
  const used = new References(reader);
  used.add(0, clusterSize, 'header');
  used.add(header.l1Offset, header.l1Size * 8, 'L1 table');
  const clusters = addMappings(reader, used, counts);
  const { bitmaps, parts } = readBitmaps(reader.file, clusterSize, header.virtualSize);
  for (const { offset, length, kind } of parts) used.add(offset, length, kind);
  const inUse = [...used.clusters()];
  let blocks: number[] = [];
  if (counts) {
    used.add(header.refcountTableOffset, header.refcountTableClusters * clusterSize, 'refcount table');
    blocks = addBlocks(reader, used);
    used.checkCounts();
  }
  return {
    used: inUse,
    size: header.virtualSize,
    clusters,
    bitmaps,
    countLeaks: (limit = Number.POSITIVE_INFINITY) => countLeaks(reader, used, blocks, limit),
  };
}

/** Who uses a cluster; becomes words only when something is wrong. */
interface Owner {
  readonly kind: string;
  readonly index: number;
  /** L1 index of the table that an entry belongs to. */
  readonly table: number;
}

function nameOf({ kind, index, table }: Owner): string {
  return kind === 'entry' ? `entry ${index} of L2 table ${table}` : `${kind} ${index}`;
}

/** Who uses which host cluster. */
class References {
  private readonly owners = new Map<number, Owner>();

  constructor(private readonly reader: ImageReader) {}

  /** Notes the clusters of a structure; two of them may not meet. */
  add(offset: number, length: number, kind: string, index = 0, table = 0): void {
    const { clusterSize, file } = this.reader;
    const owner = { kind, index, table };
    if (offset % clusterSize !== 0)
      throw new SimulationFailure(`${nameOf(owner)} at ${offset} does not begin at a cluster`);
    if (length > 0 && offset >= file.length) {
      throw new SimulationFailure(`${nameOf(owner)} lies at ${offset}, beyond the end of the file at ${file.length}`);
    }
    for (let cluster = offset / clusterSize; cluster * clusterSize < offset + length; cluster++) {
      const other = this.owners.get(cluster);
      if (other !== undefined)
        throw new SimulationFailure(`cluster ${cluster} belongs to ${nameOf(other)} and to ${nameOf(owner)}`);
      this.owners.set(cluster, owner);
    }
  }

  clusters(): Iterable<number> {
    return this.owners.keys();
  }

  has(cluster: number): boolean {
    return this.owners.has(cluster);
  }

  /** Everything is used once here (no snapshots), and every COPIED flag was seen to be set: refcounts must be one. */
  checkCounts(): void {
    for (const [cluster, owner] of this.owners) {
      const count = this.reader.refcount(cluster);
      if (count !== 1) throw new SimulationFailure(`cluster ${cluster} of ${nameOf(owner)} has refcount ${count}`);
    }
  }
}

function addBlocks(reader: ImageReader, used: References): number[] {
  const blocks: number[] = [];
  for (let index = 0; index < reader.refcountTableEntries; index++) {
    const entry = reader.refcountTableEntry(index);
    if (entry.high === 0 && entry.low === 0) continue;
    if ((entry.low & 0x1ff) !== 0) throw new SimulationFailure(`refcount table entry ${index} has reserved bits`);
    used.add(entry.high * 0x100000000 + entry.low, reader.clusterSize, 'refcount block', index);
    blocks.push(index);
  }
  return blocks;
}

function addMappings(reader: ImageReader, used: References, flags: boolean): DataCluster[] {
  const clusters: DataCluster[] = [];
  const { clusterSize, header } = reader;
  const tableEntries = clusterSize / 8;
  for (let l1Index = 0; l1Index < header.l1Size; l1Index++) {
    const l1Entry = reader.l1Entry(l1Index);
    if (l1Entry.high === 0 && l1Entry.low === 0) continue;
    if ((l1Entry.high & 0x7f000000) !== 0 || (l1Entry.low & 0x1ff) !== 0 || (flags && !isCopied(l1Entry))) {
      throw new SimulationFailure(`L1 entry ${l1Index} is wrong: ${show(l1Entry)}`);
    }
    const tableOffset = offsetOf(l1Entry);
    used.add(tableOffset, clusterSize, 'L2 table', l1Index);
    for (let index = 0; index < tableEntries; index++) {
      const entry = reader.l2Entry(tableOffset, index);
      if (entry.high === 0 && entry.low === 0) continue;
      checkEntry(entry, header.version, index, l1Index, flags);
      const hostOffset = offsetOf(entry);
      if (hostOffset === 0) continue;
      used.add(hostOffset, clusterSize, 'entry', index, l1Index);
      if (isZero(entry)) continue;
      const guestOffset = l1Index * reader.tableCoverage + index * clusterSize;
      clusters.push({ guestOffset, hostOffset, entryOffset: tableOffset + index * 8 });
    }
  }
  return clusters;
}

function checkEntry(entry: Entry, version: number, index: number, table: number, flags: boolean): void {
  const reserved = (entry.high & 0x3f000000) !== 0 || (entry.low & 0x1fe) !== 0 || (version < 3 && isZero(entry));
  // COPIED is set exactly where a cluster is, as nothing here is shared.
  const copied = !flags || isCopied(entry) === (offsetOf(entry) !== 0);
  if (!reserved && !isCompressed(entry) && copied) return;
  throw new SimulationFailure(`${nameOf({ kind: 'entry', index, table })} is wrong: ${show(entry)}`);
}

function countLeaks(reader: ImageReader, used: References, blocks: number[], limit: number): number {
  let leaks = 0;
  for (const block of blocks) {
    const start = block * reader.blockCoverage;
    for (let cluster = start; cluster < Math.min(limit, start + reader.blockCoverage); cluster++) {
      if (reader.refcount(cluster) !== 0 && !used.has(cluster)) leaks++;
    }
  }
  return leaks;
}

function show({ high, low }: Entry): string {
  return `0x${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`;
}
