/** What others do to an image between two lives: another program has used it, or it lies on used storage. */

import type { DataCluster } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { Model } from './model.js';
import { SECTOR } from './pattern.js';
import type { CutResult } from './power-cut.js';
import type { Random } from './random.js';
import type { Scenario } from './scenario.js';
import { GARBAGE } from './sparse-bytes.js';

/** Autoclear bit that no program knows; whoever writes to the image has to clear it. */
const AUTOCLEAR_OFFSET = 95;
const UNKNOWN_AUTOCLEAR = 0x40;
const LONGEST_TAIL = 64;
/** The file ends where the refcount table does. */
const TO_THE_END = 3;

/** Changes the image as the format allows, and the model with it. Returns the file as it is then. */
export function editImage(
  random: Random,
  file: CutResult,
  { regular, focus }: Scenario,
  model: Model,
  clusters: readonly DataCluster[],
): CutResult {
  const reader = new ImageReader(file);
  const { version } = reader.header;
  for (const cluster of clusters) {
    if (!random.chance(0.15)) continue;
    const choice = random.below(version === 3 ? 3 : 1);
    if (choice === 0) unmap(file, reader, cluster, 0);
    else if (choice === 1) unmap(file, reader, cluster, 1);
    else setZeroFlag(file, cluster);
    forget(model, reader, cluster.guestOffset);
  }
  if (version === 3 && random.chance(0.3)) setUnknownAutoclear(file);
  return regular ? lengthen(random, file, reader, focus === 'growth' ? TO_THE_END : random.below(4)) : file;
}

function setUnknownAutoclear(file: CutResult): void {
  const bits = new Uint8Array(1);
  file.bytes.read(AUTOCLEAR_OFFSET, bits);
  file.bytes.write(AUTOCLEAR_OFFSET, Uint8Array.of((bits[0] as number) | UNKNOWN_AUTOCLEAR));
}

/** Nothing refers to the cluster any more, and its bytes stay where they are. `low` is the entry that remains. */
function unmap(file: CutResult, reader: ImageReader, { hostOffset, entryOffset }: DataCluster, low: number): void {
  file.bytes.write(entryOffset, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, low));
  setRefcount(file, reader, hostOffset / reader.clusterSize, 0);
}

/** The cluster stays allocated, but reads as zeros. */
function setZeroFlag(file: CutResult, { entryOffset }: DataCluster): void {
  const last = new Uint8Array(1);
  file.bytes.read(entryOffset + 7, last);
  file.bytes.write(entryOffset + 7, Uint8Array.of((last[0] as number) | 1));
}

function forget(model: Model, reader: ImageReader, guestOffset: number): void {
  const { perSector } = model.cells;
  const end = Math.min(guestOffset + reader.clusterSize, reader.header.virtualSize);
  for (let cell = (guestOffset / SECTOR) * perSector; cell < (end / SECTOR) * perSector; cell++) model.decide(cell, 0);
}

/** Only 0 and 1: every width can hold them. */
export function setRefcount(file: CutResult, reader: ImageReader, cluster: number, value: 0 | 1): void {
  const { refcountBits } = reader.header;
  const block = Math.floor(cluster / reader.blockCoverage);
  const index = cluster - block * reader.blockCoverage;
  const { high, low } = reader.refcountTableEntry(block);
  const blockOffset = high * 0x100000000 + low;
  if (refcountBits >= 8) {
    const last = blockOffset + ((index + 1) * refcountBits) / 8 - 1;
    file.bytes.write(last, Uint8Array.of(value));
    return;
  }
  const at = blockOffset + Math.floor((index * refcountBits) / 8);
  const shift = (index * refcountBits) % 8;
  const byte = new Uint8Array(1);
  file.bytes.read(at, byte);
  const cleared = (byte[0] as number) & ~(((1 << refcountBits) - 1) << shift);
  file.bytes.write(at, Uint8Array.of(cleared | (value << shift)));
}

/** A tail that nothing counts: garbage, a hole, or so long that the refcounts must grow next. */
function lengthen(random: Random, file: CutResult, reader: ImageReader, how: number): CutResult {
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
      if (random.chance(0.5)) leakEverything(file, reader);
      return { bytes, length: endOf(random, file, reader.blockCoverage, clusterSize) };
    default:
      if (random.chance(0.9)) leakEverything(file, reader);
      return { bytes, length: endOf(random, file, reader.blockCoverage * reader.refcountTableEntries, clusterSize) };
  }
}

/** Every cluster that has a place in a refcount block is counted: the next one needs a new block, or a new table. */
export function leakEverything(file: CutResult, reader: ImageReader): void {
  const { refcountBits } = reader.header;
  const block = new Uint8Array(reader.clusterSize);
  if (refcountBits < 8) block.fill(0xff / (2 ** refcountBits - 1));
  else for (let last = refcountBits / 8 - 1; last < block.length; last += refcountBits / 8) block[last] = 1;
  for (let index = 0; index < reader.refcountTableEntries; index++) {
    const { high, low } = reader.refcountTableEntry(index);
    if (high !== 0 || low !== 0) file.bytes.write(high * 0x100000000 + low, block);
  }
}

/** A few clusters before, or after, the end of what `coverage` clusters are; never shorter than the file. */
function endOf(random: Random, file: CutResult, coverage: number, clusterSize: number): number {
  const ranges = Math.ceil(file.length / (coverage * clusterSize));
  return Math.max(file.length, (ranges * coverage - random.between(-2, random.pick([4, 24]))) * clusterSize);
}
