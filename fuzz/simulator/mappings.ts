/** Follows an L1 table: what the guest has where, and whether the entries can be true. */

import { DATA_FILE_START } from './data-file.js';
import type { Root } from './image-reader.js';
import {
  compressedRange,
  type Entry,
  type ImageReader,
  isCompressed,
  isCopied,
  isZero,
  offsetOf,
} from './image-reader.js';
import { nameOf, type Owner, type References } from './references.js';
import { SimulationFailure } from './trace.js';

/** A stretch of the guest, within one cluster. */
export interface Stretch {
  readonly guestOffset: number;
  /** Bytes. */
  readonly length: number;
}

/** One that has data: a cluster, or some subclusters of one. */
export interface DataCluster extends Stretch {
  /** Where its first byte lies on the simulated disk, in the image or its data file. */
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
  /** What is marked as zeros. */
  readonly zeroes: readonly Stretch[];
}

/** How the tables are judged. */
export interface Judgement {
  /** COPIED flags must be right. */
  readonly flags: boolean;
  /** Takes the clusters that an entry says may be written in place. */
  readonly copied: number[];
}

interface Found {
  readonly clusters: DataCluster[];
  readonly zeroes: Stretch[];
}

/** Where an L2 entry stands. */
interface Place {
  readonly tableOffset: number;
  readonly owner: Owner;
  readonly guestOffset: number;
}

const SUBCLUSTERS = 32;

/** Notes every reference of a disk; throws at the first entry that is wrong. */
export function addMappings(reader: ImageReader, references: References, root: Root, judgement: Judgement): Mappings {
  const found: Found = { clusters: [], zeroes: [] };
  const { clusterSize } = reader;
  for (let table = 0; table < root.l1Size; table++) {
    const l1Entry = reader.l1Entry(table, root);
    if (l1Entry.high === 0 && l1Entry.low === 0) continue;
    const tableOffset = offsetOf(l1Entry);
    references.add(tableOffset, clusterSize, { kind: 'L2 table', root: root.number, index: table });
    if (isCopied(l1Entry)) judgement.copied.push(tableOffset / clusterSize);
    const reserved = (l1Entry.high & 0x7f000000) !== 0 || (l1Entry.low & 0x1ff) !== 0;
    if (reserved || (judgement.flags && isWronglyCopied(reader, l1Entry, tableOffset))) {
      throw new SimulationFailure(`L1 entry ${table} of disk ${root.number} is wrong: ${show(l1Entry)}`);
    }
    for (const index of reader.usedEntries(tableOffset)) {
      const owner: Owner = { kind: 'entry', index, table, root: root.number };
      const guestOffset = table * reader.tableCoverage + index * clusterSize;
      addEntry(reader, references, { tableOffset, owner, guestOffset }, judgement, found);
    }
  }
  return { number: root.number, size: root.size, ...found };
}

function addEntry(
  reader: ImageReader,
  references: References,
  { tableOffset, owner, guestOffset }: Place,
  judgement: Judgement,
  { clusters, zeroes }: Found,
): void {
  const { clusterSize, header } = reader;
  const index = owner.index as number;
  const entry = reader.l2Entry(tableOffset, index);
  const parts = header.extended ? reader.subclusters(tableOffset, index) : wholeCluster(reader, entry);
  checkEntry(reader, entry, parts, owner, judgement.flags);
  const entryOffset = tableOffset + index * reader.entrySize;
  if (isCompressed(entry)) {
    const { offset, length } = compressedRange(entry, header.clusterBits);
    references.addSectors(offset, length, { ...owner, kind: 'compressed' });
    clusters.push({ guestOffset, length: clusterSize, hostOffset: offset, compressedLength: length, entryOffset });
    return;
  }
  const hostOffset = offsetOf(entry);
  if (!header.dataFile && hostOffset !== 0) {
    references.add(hostOffset, clusterSize, owner);
    if (isCopied(entry)) judgement.copied.push(hostOffset / clusterSize);
  }
  if (header.rawDataFile && hasCluster(reader, entry) && hostOffset !== guestOffset) {
    throw new SimulationFailure(`${nameOf(owner)} is not where a raw image has it: ${show(entry)}`);
  }
  const start = header.dataFile ? DATA_FILE_START + hostOffset : hostOffset;
  const count = header.extended ? SUBCLUSTERS : 1;
  const length = clusterSize / count;
  for (let part = 0; part < count; part++) {
    const stretch = { guestOffset: guestOffset + part * length, length };
    if (((parts.high >>> part) & 1) === 1) zeroes.push(stretch);
    if (((parts.low >>> part) & 1) === 0) continue;
    clusters.push({ ...stretch, hostOffset: start + part * length, compressedLength: 0, entryOffset });
  }
}

/** What a standard entry says about its one part, as if it had subclusters. */
function wholeCluster(reader: ImageReader, entry: Entry): Entry {
  if (isCompressed(entry)) return { high: 0, low: 0 };
  if (isZero(entry)) return { high: 1, low: 0 };
  return { high: 0, low: hasCluster(reader, entry) ? 1 : 0 };
}

/** In a data file offset 0 is a place as any other; there every cluster that is used has COPIED. */
function hasCluster({ header }: ImageReader, entry: Entry): boolean {
  return offsetOf(entry) !== 0 || (header.dataFile && isCopied(entry));
}

function checkEntry(reader: ImageReader, entry: Entry, parts: Entry, owner: Owner, judgesFlags: boolean): void {
  const { version, extended, dataFile } = reader.header;
  const mayBeZero = version === 3 && !extended;
  const reserved = (entry.high & 0x3f000000) !== 0 || (entry.low & 0x1fe) !== 0 || (!mayBeZero && isZero(entry));
  const mustBeCopied = dataFile && hasCluster(reader, entry);
  const copiedWrong = dataFile ? mustBeCopied && !isCopied(entry) : isWronglyCopied(reader, entry, offsetOf(entry));
  const partsWrong = (parts.high & parts.low) !== 0 || (parts.low !== 0 && !hasCluster(reader, entry));
  const compressedWrong = isCopied(entry) || dataFile || parts.high !== 0 || parts.low !== 0;
  const wrong = isCompressed(entry) ? compressedWrong : reserved || partsWrong || (judgesFlags && copiedWrong);
  if (wrong) throw new SimulationFailure(`${nameOf(owner)} is wrong: ${show(entry)} ${extended ? show(parts) : ''}`);
}

/** In the tables of the active disk COPIED says that the refcount is one; elsewhere nobody looks at it. */
function isWronglyCopied(reader: ImageReader, entry: Entry, hostOffset: number): boolean {
  const single = hostOffset !== 0 && reader.refcount(Math.floor(hostOffset / reader.clusterSize)) === 1;
  return isCopied(entry) !== single;
}

function show({ high, low }: Entry): string {
  return `0x${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`;
}
