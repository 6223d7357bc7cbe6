/** Compares a file that nobody has open with what its structures must be and what its guest may find. */

import type { Change } from './bitmap-ledger.js';
import { decompressCells } from './fake-codec.js';
import { type CheckOutcome, checkImage, type DataCluster, type Mappings } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { Model } from './model.js';
import { identify, MIXED, makePatternMemory, SECTOR } from './pattern.js';
import type { CutResult } from './power-cut.js';

const memory = makePatternMemory(65536);

/** What one cell of a disk holds. */
type Judge = (cell: number, found: number) => void;

/**
 * Throws at the first thing that is wrong. With `decide`, what lies there is the truth from now on; without `counts`
 * refcounts and flags may be anything.
 */
export function examine(file: CutResult, model: Model, decide: boolean, counts = true): CheckOutcome {
  const reader = new ImageReader(file);
  const outcome = checkImage(reader, counts);
  const changes: Change[] = [];
  inspectDisk(reader, model, outcome.active, model.touched(), (cell, found) => {
    model.checkSurvivor(cell, found);
    const submittedAt = model.bitmaps.submissionOf(found);
    if (submittedAt !== undefined) changes.push({ offset: model.cells.offsetOf(cell), length: 1, submittedAt });
    if (decide) model.decide(cell, found);
  });
  for (const snapshot of outcome.snapshots) {
    const touched = model.snapshots.get(snapshot.number)?.keys() ?? [];
    inspectDisk(reader, model, snapshot, touched, (cell, found) => model.checkSnapshot(snapshot.number, cell, found));
  }
  model.bitmaps.judge(outcome.bitmaps, changes);
  if (decide) model.bitmaps.decide(outcome.bitmaps);
  return outcome;
}

/** Judges every cell that the image has something to say about, and those of `touched`. */
function inspectDisk(reader: ImageReader, model: Model, disk: Mappings, touched: Iterable<number>, judge: Judge): void {
  const { clusterSize } = reader;
  const { cells } = model;
  const mapped = new Set<number>();
  for (const cluster of disk.clusters) {
    mapped.add(cluster.guestOffset);
    // What lies behind the end of the disk is nobody's business.
    if (cluster.guestOffset >= disk.size) continue;
    identifyCells(reader, model, cluster, disk.size, judge);
  }
  for (const guestOffset of disk.zeroes) {
    const firstCell = (guestOffset / SECTOR) * cells.perSector;
    const end = Math.min(guestOffset + clusterSize, disk.size);
    for (let cell = firstCell; cells.offsetOf(cell) < end; cell++) judge(cell, 0);
  }
  for (const cell of touched) {
    const cluster = Math.floor(cells.offsetOf(cell) / clusterSize) * clusterSize;
    if (!mapped.has(cluster) && !disk.zeroes.has(cluster)) judge(cell, model.background(cell));
  }
}

function identifyCells(reader: ImageReader, model: Model, cluster: DataCluster, diskSize: number, judge: Judge): void {
  const { cells } = model;
  const { guestOffset } = cluster;
  const length = Math.min(reader.clusterSize, diskSize - guestOffset);
  const readable = readCluster(reader, model, cluster);
  const firstCell = (guestOffset / SECTOR) * cells.perSector;
  const endCell = firstCell + (length / SECTOR) * cells.perSector;
  for (let cell = firstCell, at = 0; cell < endCell; cell++) {
    const end = cells.offsetOf(cell + 1) - guestOffset;
    judge(cell, readable ? identify(memory, at, guestOffset + at, end - at) : MIXED);
    at = end;
  }
}

/** Puts the cluster's bytes into `memory`; false when they cannot be decompressed. */
function readCluster(reader: ImageReader, model: Model, { hostOffset, compressedLength }: DataCluster): boolean {
  const target = memory.bytes.subarray(0, reader.clusterSize);
  if (compressedLength === 0) {
    reader.file.bytes.read(hostOffset, target);
    return true;
  }
  const source = new Uint8Array(compressedLength);
  reader.file.bytes.read(hostOffset, source);
  const cluster = decompressCells(source, reader.clusterSize, model.cells);
  if (cluster !== undefined) target.set(cluster);
  return cluster !== undefined;
}
