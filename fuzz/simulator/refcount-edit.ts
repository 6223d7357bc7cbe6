/** Refcounts and COPIED flags of an image that somebody else has changed. */

import { type CheckOutcome, checkImage, walkImage } from './image-check.js';
import { type Entry, ImageReader, isCompressed, isCopied, offsetOf } from './image-reader.js';
import type { CutResult } from './power-cut.js';

/** The largest refcount that is wanted here. */
export function highestRefcount({ header }: ImageReader): number {
  return header.refcountBits < 8 ? 2 ** header.refcountBits - 1 : 255;
}

/**
 * After a change of entries: every cluster whose number of users is another one than `before` gets it as its refcount,
 * and COPIED stands where the refcount is one. What was leaked before stays so.
 */
export function settleCounts(file: CutResult, before: CheckOutcome): CheckOutcome {
  const { references } = walkImage(new ImageReader(file), false);
  const reader = new ImageReader(file);
  for (const cluster of new Set([...before.references.clusters(), ...references.clusters()])) {
    const count = references.countOf(cluster);
    if (count !== before.references.countOf(cluster)) setRefcount(file, reader, cluster, count);
  }
  setFlags(file, new ImageReader(file));
  return checkImage(new ImageReader(file), true);
}

/** Sets COPIED in the active disk's entries where it belongs. */
function setFlags(file: CutResult, reader: ImageReader): void {
  const { header, clusterSize } = reader;
  const set = (entry: Entry, at: number) => {
    if (entry.high === 0 && entry.low === 0) return;
    const hostOffset = offsetOf(entry);
    const copied = hostOffset !== 0 && reader.refcount(hostOffset / clusterSize) === 1;
    if (copied !== isCopied(entry)) {
      file.bytes.write(at, Uint8Array.of(((entry.high >>> 24) & 0x7f) | (copied ? 0x80 : 0)));
    }
  };
  for (let table = 0; table < header.l1Size; table++) {
    const l1Entry = reader.l1Entry(table);
    set(l1Entry, header.l1Offset + table * 8);
    const tableOffset = offsetOf(l1Entry);
    if (tableOffset === 0) continue;
    // The clusters of a data file have no refcounts.
    for (let index = 0; index < reader.tableEntries && !header.dataFile; index++) {
      const entry = reader.l2Entry(tableOffset, index);
      if (!isCompressed(entry)) set(entry, tableOffset + index * reader.entrySize);
    }
  }
}

/** Values up to 255, for widths that have no fewer bits. */
export function setRefcount(file: CutResult, reader: ImageReader, cluster: number, value: number): void {
  const { refcountBits } = reader.header;
  const block = Math.floor(cluster / reader.blockCoverage);
  const index = cluster - block * reader.blockCoverage;
  const { high, low } = reader.refcountTableEntry(block);
  const blockOffset = high * 0x100000000 + low;
  if (refcountBits >= 8) {
    const bytes = new Uint8Array(refcountBits / 8);
    bytes[bytes.length - 1] = value;
    file.bytes.write(blockOffset + index * bytes.length, bytes);
    return;
  }
  const at = blockOffset + Math.floor((index * refcountBits) / 8);
  const shift = (index * refcountBits) % 8;
  const byte = new Uint8Array(1);
  file.bytes.read(at, byte);
  const cleared = (byte[0] as number) & ~(((1 << refcountBits) - 1) << shift);
  file.bytes.write(at, Uint8Array.of(cleared | (value << shift)));
}
