/** Somebody else makes or deletes internal snapshots: the tables of the active disk are theirs too. */

import type { CheckOutcome } from './image-check.js';
import { ImageReader, offsetOf, type Root } from './image-reader.js';
import type { Model } from './model.js';
import type { CutResult } from './power-cut.js';
import type { Random } from './random.js';
import { highestRefcount } from './refcount-edit.js';
import type { Scenario } from './scenario.js';

/** So few that their table fits the smallest cluster. */
const MOST_SNAPSHOTS = 3;
/** Bytes of a table entry with extra data of 16 bytes, an ID of one digit and no name. */
const ENTRY_LENGTH = 64;
const EXTRA_LENGTH = 16;
const SNAPSHOT_COUNT_OFFSET = 60;
/** Free clusters that are looked at. */
const LONGEST_SEARCH = 4096;

/** Makes a snapshot when there is room for its tables; refcounts are left to the caller. Returns the file. */
export function addSnapshot(
  random: Random,
  file: CutResult,
  { regular }: Scenario,
  model: Model,
  { references }: CheckOutcome,
): CutResult {
  const reader = new ImageReader(file);
  const { header, clusterSize } = reader;
  const { roots } = reader.snapshots;
  let highest = 0;
  for (const cluster of references.clusters()) highest = Math.max(highest, references.countOf(cluster));
  // Nothing is used more often by the active disk than by all of them.
  if (roots.length === MOST_SNAPSHOTS || highest * 2 > highestRefcount(reader)) return file;
  const l1Clusters = Math.ceil((header.l1Size * 8) / clusterSize);
  const fileClusters = Math.floor(file.length / clusterSize);
  const first = random.chance(0.5) ? fileClusters : random.below(fileClusters);
  const place = findFree(reader, first, l1Clusters + 1, regular ? Number.POSITIVE_INFINITY : fileClusters);
  if (place === undefined) return file;

  const l1 = new Uint8Array(header.l1Size * 8);
  file.bytes.read(header.l1Offset, l1);
  for (let at = 0; at < l1.length; at += 8) l1[at] = (l1[at] as number) & 0x7f;
  const number = 1 + Math.max(0, ...roots.map((root) => root.number));
  const added: Root = { number, size: header.virtualSize, l1Offset: (place + 1) * clusterSize, l1Size: header.l1Size };
  file.bytes.write(added.l1Offset, l1);
  // Tables are written as a whole, in a new place; the old one is freed by the recount.
  writeTable(file, place * clusterSize, [...roots, added]);
  model.takeSnapshot(number);
  return { bytes: file.bytes, length: Math.max(file.length, (place + 1 + l1Clusters) * clusterSize) };
}

/** Deletes one of the snapshots. */
export function removeSnapshot(random: Random, file: CutResult, model: Model): void {
  const { header, snapshots } = new ImageReader(file);
  const removed = random.pick(snapshots.roots);
  const kept = snapshots.roots.filter((root) => root !== removed);
  writeTable(file, header.snapshotsOffset, kept);
  model.snapshots.delete(removed.number);
}

/** The first of `count` clusters, from `first` on, that have a place in a refcount block and are not counted. */
function findFree(reader: ImageReader, first: number, count: number, limit: number): number | undefined {
  let start = first;
  for (let cluster = first; cluster < Math.min(limit, first + LONGEST_SEARCH); cluster++) {
    const block = Math.floor(cluster / reader.blockCoverage);
    const hasBlock = block < reader.refcountTableEntries && offsetOf(reader.refcountTableEntry(block)) !== 0;
    if (!hasBlock || reader.refcount(cluster) !== 0) start = cluster + 1;
    else if (cluster - start + 1 === count) return start;
  }
  return undefined;
}

function writeTable(file: CutResult, offset: number, roots: readonly Root[]): void {
  const bytes = new Uint8Array(roots.length * ENTRY_LENGTH);
  const view = new DataView(bytes.buffer);
  roots.forEach((root, index) => {
    const at = index * ENTRY_LENGTH;
    view.setBigUint64(at, BigInt(root.l1Offset));
    view.setUint32(at + 8, root.l1Size);
    view.setUint16(at + 12, 1);
    view.setUint32(at + 36, EXTRA_LENGTH);
    view.setBigUint64(at + 48, BigInt(root.size));
    view.setUint8(at + 40 + EXTRA_LENGTH, 0x30 + root.number);
  });
  file.bytes.write(offset, bytes);
  const fields = new DataView(new ArrayBuffer(12));
  fields.setUint32(0, roots.length);
  fields.setBigUint64(4, BigInt(roots.length === 0 ? 0 : offset));
  file.bytes.write(SNAPSHOT_COUNT_OFFSET, new Uint8Array(fields.buffer));
}
