/** Compares a file that nobody has open with what its structures must be and what its guest may find. */

import type { Change } from './bitmap-ledger.js';
import { decompressCells } from './fake-codec.js';
import { type CheckOutcome, checkImage } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { DataCluster, Mappings, Stretch } from './mappings.js';
import type { Model, SnapshotChange } from './model.js';
import { identify, MIXED, makePatternMemory, SECTOR } from './pattern.js';
import type { CutResult } from './power-cut.js';
import { SimulationFailure } from './trace.js';

const memory = makePatternMemory(65536);

/** What one cell of a disk holds. */
type Judge = (cell: number, found: number) => void;

/**
 * Throws at the first thing that is wrong. With `decide`, what lies there is the truth from now on; without `counts`
 * refcounts and flags may be anything.
 */
export function examine(file: CutResult, model: Model, decide: boolean, counts = true): CheckOutcome {
  const reader = new ImageReader(file);
  // A dirty image says itself that its refcounts may be wrong.
  const counted = counts && !reader.header.dirty;
  const outcome = checkImage(reader, counted && model.pending === undefined && !model.flagsUncertain, counted);
  const { cells, applied } = judgeDisk(reader, model, outcome);
  const captured = judgeSnapshots(reader, model, outcome);
  judgeBitmaps(model, outcome, cells);
  if (!decide) return outcome;
  if (applied !== undefined) model.applySnapshot({ ...applied, submittedAt: Number.POSITIVE_INFINITY });
  for (const [cell, found] of cells) model.decide(cell, found);
  model.cutOff(outcome.size);
  model.bitmaps.decide(outcome.bitmaps);
  const { pending } = model;
  if (pending?.verb === 'create' && captured !== undefined) model.snapshots.set(pending.number, captured);
  if (pending?.verb === 'delete' && !outcome.snapshots.some(({ number }) => number === pending.number)) {
    model.snapshots.delete(pending.number);
  }
  if (pending !== undefined) model.flagsUncertain = true;
  model.pending = undefined;
  return outcome;
}

/** Every change that the disk shows is noted in the bitmaps that were enabled. */
function judgeBitmaps(model: Model, outcome: CheckOutcome, cells: ReadonlyMap<number, number>): void {
  const changes: Change[] = [];
  for (const [cell, found] of cells) {
    const submittedAt = model.bitmaps.submissionOf(found);
    if (submittedAt !== undefined) changes.push({ offset: model.cells.offsetOf(cell), length: 1, submittedAt });
  }
  model.bitmaps.judge(outcome.bitmaps, changes);
}

/** What the snapshot holds that was just made; throws when it cannot be that. */
export function captureSnapshot(file: CutResult, model: Model): Map<number, number> {
  const reader = new ImageReader(file);
  const captured = judgeSnapshots(reader, model, checkImage(reader, false));
  if (captured === undefined) throw new SimulationFailure('a snapshot was made, and is not there');
  return captured;
}

/** The cells of the disk: as it was, or all of them as in the snapshot that is being applied; then that is `applied`. */
function judgeDisk(
  reader: ImageReader,
  model: Model,
  outcome: CheckOutcome,
): { cells: Map<number, number>; applied?: SnapshotChange } {
  const cells = new Map<number, number>();
  const { pending } = model;
  const contents = pending?.verb === 'apply' ? model.snapshots.get(pending.number) : undefined;
  const touched = [...model.touched(), ...(contents?.keys() ?? [])];
  inspectDisk(reader, model, outcome.active, touched, (cell, found) => cells.set(cell, found));
  try {
    for (const [cell, found] of cells) model.checkSurvivor(cell, found);
    return { cells };
  } catch (error) {
    if (pending === undefined || contents === undefined) throw error;
    for (const [cell, found] of cells) model.checkSnapshot(pending.number, cell, found);
    return { cells, applied: pending };
  }
}

/** Every snapshot is there and holds what it must; the contents of the one that is being made, when it is there already. */
function judgeSnapshots(reader: ImageReader, model: Model, outcome: CheckOutcome): Map<number, number> | undefined {
  const { pending } = model;
  let captured: Map<number, number> | undefined;
  for (const snapshot of outcome.snapshots) {
    const { number } = snapshot;
    const known = model.snapshots.get(number);
    if (known !== undefined) {
      inspectDisk(reader, model, snapshot, known.keys(), (cell, found) => model.checkSnapshot(number, cell, found));
      continue;
    }
    if (pending?.verb !== 'create' || pending.number !== number) {
      throw new SimulationFailure(`snapshot ${number} is there, and nobody has made it`);
    }
    const contents = new Map<number, number>();
    inspectDisk(reader, model, snapshot, model.touched(), (cell, found) => {
      model.checkCaptured(cell, found, pending.submittedAt);
      if (found !== model.background(cell)) contents.set(cell, found);
    });
    captured = contents;
  }
  for (const number of model.snapshots.keys()) {
    const there = outcome.snapshots.some((snapshot) => snapshot.number === number);
    if (there || (pending?.verb === 'delete' && pending.number === number)) continue;
    throw new SimulationFailure(`snapshot ${number} is lost`);
  }
  return captured;
}

/** Whether the header says that refcounts may be behind. */
export function isDirty(file: CutResult): boolean {
  return new ImageReader(file).header.dirty;
}

/** Judges every cell that the image has something to say about, and those of `touched`. */
function inspectDisk(reader: ImageReader, model: Model, disk: Mappings, touched: Iterable<number>, judge: Judge): void {
  const { unitSize } = reader;
  const { cells } = model;
  const mapped = new Set<number>();
  const note = ({ guestOffset, length }: Stretch) => {
    for (let at = guestOffset; at < guestOffset + length; at += unitSize) mapped.add(at);
  };
  for (const cluster of disk.clusters) {
    note(cluster);
    // What lies behind the end of the disk is nobody's business.
    if (cluster.guestOffset >= disk.size) continue;
    identifyCells(reader, model, cluster, disk.size, judge);
  }
  for (const stretch of disk.zeroes) {
    note(stretch);
    const firstCell = (stretch.guestOffset / SECTOR) * cells.perSector;
    const end = Math.min(stretch.guestOffset + stretch.length, disk.size);
    for (let cell = firstCell; cells.offsetOf(cell) < end; cell++) judge(cell, 0);
  }
  for (const cell of touched) {
    if (cells.offsetOf(cell) < disk.size && !mapped.has(Math.floor(cells.offsetOf(cell) / unitSize) * unitSize))
      judge(cell, model.background(cell));
  }
}

function identifyCells(reader: ImageReader, model: Model, cluster: DataCluster, diskSize: number, judge: Judge): void {
  const { cells } = model;
  const { guestOffset } = cluster;
  const length = Math.min(cluster.length, diskSize - guestOffset);
  const readable = readCluster(reader, model, cluster);
  const firstCell = (guestOffset / SECTOR) * cells.perSector;
  const endCell = firstCell + (length / SECTOR) * cells.perSector;
  for (let cell = firstCell, at = 0; cell < endCell; cell++) {
    const end = cells.offsetOf(cell + 1) - guestOffset;
    judge(cell, readable ? identify(memory, at, guestOffset + at, end - at) : MIXED);
    at = end;
  }
}

/** Puts the stretch's bytes into `memory`; false when they cannot be decompressed. */
function readCluster(
  reader: ImageReader,
  model: Model,
  { hostOffset, compressedLength, length }: DataCluster,
): boolean {
  const target = memory.bytes.subarray(0, length);
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
