/** What others do to an image between two lives: another program has used it, or it lies on used storage. */

import { compressRegion } from './compress-edit.js';
import type { CheckOutcome } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { DataCluster } from './mappings.js';
import type { Model } from './model.js';
import { SECTOR } from './pattern.js';
import type { CutResult } from './power-cut.js';
import type { Random } from './random.js';
import { setRefcount, settleCounts } from './refcount-edit.js';
import type { Scenario } from './scenario.js';
import { addSnapshot, removeSnapshot } from './snapshot-edit.js';
import { GARBAGE } from './sparse-bytes.js';
import { examine } from './survivors.js';

/** Autoclear bit that no program knows; whoever writes to the image has to clear it. */
const AUTOCLEAR_OFFSET = 95;
const UNKNOWN_AUTOCLEAR = 0x40;
const LONGEST_TAIL = 64;
/** The file ends where the refcount table does. */
const TO_THE_END = 3;

/** Changes the image as the format allows, and the model with it. Returns the file as it is then. */
export function editImage(
  random: Random,
  found: CutResult,
  scenario: Scenario,
  model: Model,
  before: CheckOutcome,
): CutResult {
  const { regular, focus } = scenario;
  let file = found;
  let outcome = before;
  const reader = new ImageReader(file);
  const { version } = reader.header;
  const plain = !reader.header.extended && !reader.header.dataFile;
  for (const cluster of plain ? outcome.active.clusters : []) {
    if (!random.chance(0.15) || isTableShared(reader, outcome, cluster)) continue;
    const choice = random.below(version === 3 ? 3 : 1);
    if (choice === 2 && cluster.compressedLength !== 0) continue;
    if (choice === 0) setEntry(file, cluster, 0);
    else if (choice === 1) setEntry(file, cluster, 1);
    else setZeroFlag(file, cluster);
    forget(model, reader, cluster.guestOffset, choice !== 0);
  }
  outcome = settleCounts(file, outcome);
  if (random.chance(scenario.compresses)) {
    file = compressRegion(random, file, outcome, model);
    outcome = settleCounts(file, outcome);
  }
  const removed = outcome.snapshots.length > 0 && random.chance(0.3);
  if (removed) {
    removeSnapshot(random, file, model);
    outcome = settleCounts(file, outcome);
  }
  if (random.chance(scenario.snapshots)) {
    file = addSnapshot(random, file, scenario, model, outcome);
    outcome = settleCounts(file, outcome);
  }
  if (version === 3 && random.chance(0.3)) setUnknownAutoclear(file);
  examine(file, model, false);
  if (!regular) return file;
  const how = focus === 'growth' ? TO_THE_END : random.below(4);
  return lengthen(random, file, new ImageReader(file), outcome, how);
}

function setUnknownAutoclear(file: CutResult): void {
  const bits = new Uint8Array(1);
  file.bytes.read(AUTOCLEAR_OFFSET, bits);
  file.bytes.write(AUTOCLEAR_OFFSET, Uint8Array.of((bits[0] as number) | UNKNOWN_AUTOCLEAR));
}

/** A snapshot has the same L2 table: what is changed there changes the snapshot too. */
function isTableShared(reader: ImageReader, { references }: CheckOutcome, { entryOffset }: DataCluster): boolean {
  return references.countOf(Math.floor(entryOffset / reader.clusterSize)) > 1;
}

/** The entry names no cluster any more, whose bytes stay where they are. `low` is what remains. */
function setEntry(file: CutResult, { entryOffset }: DataCluster, low: number): void {
  file.bytes.write(entryOffset, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, low));
}

/** The cluster stays allocated, but reads as zeros. */
function setZeroFlag(file: CutResult, { entryOffset }: DataCluster): void {
  const last = new Uint8Array(1);
  file.bytes.read(entryOffset + 7, last);
  file.bytes.write(entryOffset + 7, Uint8Array.of((last[0] as number) | 1));
}

function forget(model: Model, reader: ImageReader, guestOffset: number, zeros: boolean): void {
  const { perSector } = model.cells;
  const end = Math.min(guestOffset + reader.clusterSize, reader.header.virtualSize);
  for (let cell = (guestOffset / SECTOR) * perSector; cell < (end / SECTOR) * perSector; cell++)
    model.decide(cell, zeros ? 0 : model.background(cell));
}

/** A tail that nothing counts: garbage, a hole, or so long that the refcounts must grow next. */
function lengthen(random: Random, file: CutResult, reader: ImageReader, outcome: CheckOutcome, how: number): CutResult {
  const { clusterSize } = reader;
  const { bytes } = file;
  switch (how) {
    case 0: {
      const tail = GARBAGE.subarray(0, random.between(1, Math.min(GARBAGE.length, LONGEST_TAIL * clusterSize)));
      // The last cluster may be in use although the file ends within it.
      const start = Math.ceil(file.length / clusterSize) * clusterSize;
      bytes.write(start, tail);
      return { bytes, length: start + tail.length };
    }
    case 1:
      return { bytes, length: file.length + random.below(LONGEST_TAIL) * clusterSize };
    case 2:
      if (random.chance(0.5)) leakEverything(file, reader, outcome);
      return { bytes, length: endOf(random, file, reader.blockCoverage, clusterSize) };
    default:
      if (random.chance(0.9)) leakEverything(file, reader, outcome);
      return { bytes, length: endOf(random, file, reader.blockCoverage * reader.refcountTableEntries, clusterSize) };
  }
}

/** Every cluster that has a place in a refcount block is counted: the next one needs a new block, or a new table. */
export function leakEverything(file: CutResult, reader: ImageReader, { references }: CheckOutcome): void {
  const { refcountBits } = reader.header;
  const counts = [...references.clusters()].map((cluster) => [cluster, reader.refcount(cluster)] as const);
  const block = new Uint8Array(reader.clusterSize);
  if (refcountBits < 8) block.fill(0xff / (2 ** refcountBits - 1));
  else for (let last = refcountBits / 8 - 1; last < block.length; last += refcountBits / 8) block[last] = 1;
  for (let index = 0; index < reader.refcountTableEntries; index++) {
    const { high, low } = reader.refcountTableEntry(index);
    if (high !== 0 || low !== 0) file.bytes.write(high * 0x100000000 + low, block);
  }
  for (const [cluster, count] of counts) if (count !== 1) setRefcount(file, reader, cluster, count);
}

/** A few clusters before, or after, the end of what `coverage` clusters are; never shorter than the file. */
function endOf(random: Random, file: CutResult, coverage: number, clusterSize: number): number {
  const ranges = Math.ceil(file.length / (coverage * clusterSize));
  return Math.max(file.length, (ranges * coverage - random.between(-2, random.pick([4, 24]))) * clusterSize);
}
