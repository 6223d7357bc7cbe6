/** The guest: what it asks next. */

import { AmendKind, PreallocateMode } from '../../host/abi.js';
import { SECTOR } from './pattern.js';
import type { Random } from './random.js';
import { type Habits, LARGEST_RAW, type Scenario } from './scenario.js';

export type Verb =
  | 'read'
  | 'write'
  | 'durable write'
  | 'compressed write'
  | 'write zeroes'
  | 'unmap'
  | 'discard'
  | 'uncover'
  | 'flush'
  | 'resize'
  | 'amend'
  | 'snapshot'
  | 'bitmap'
  | 'preallocate'
  | 'question';

/** All of them hold the same. */
const BACKING_NAMES = ['base', 'other', 'far/'.padEnd(300, 'away')];
/** Bytes that a disk over a backing file gets at once, or some more. */
const MOST_OVER_BACKING = 1 << 20;

/** One request; cells from `firstCell` up to, not including, `endCell`. */
export interface GuestRequest {
  readonly verb: Verb;
  readonly firstCell: number;
  readonly endCell: number;
}

/** Draws requests that often meet each other: hot spots, whole clusters, odd lengths. */
export function drawRequest(random: Random, scenario: Scenario, size: number, habits: Habits): GuestRequest {
  const verb = drawVerb(random, habits);
  if (verb === 'flush') return { verb, firstCell: 0, endCell: 0 };
  const { cells, clusterBits } = scenario;
  const sectors = size / SECTOR;
  const clusterSectors = 2 ** clusterBits / SECTOR;
  let first = random.below(sectors);
  if (random.chance(habits.locality)) {
    const spread = Math.max(1, Math.floor(habits.spread / SECTOR));
    first = Math.floor(random.pick(habits.hotSpots) / SECTOR) + random.below(spread) - Math.floor(spread / 2);
  }
  let count = drawLength(random, habits.longest / SECTOR);
  // Whole clusters take other paths than parts of them.
  if (random.chance(0.2)) {
    first -= ((first % clusterSectors) + clusterSectors) % clusterSectors;
    if (clusterSectors <= habits.longest / SECTOR) count = Math.ceil(count / clusterSectors) * clusterSectors;
  }
  first = Math.max(0, Math.min(first, sectors - 1));
  const perSector = cells.perSector;
  if (verb === 'compressed write') {
    first -= first % clusterSectors;
    return { verb, firstCell: first * perSector, endCell: Math.min(sectors, first + clusterSectors) * perSector };
  }
  const end = Math.min(sectors, first + Math.max(1, Math.min(count, habits.longest / SECTOR)));
  const firstCell = first * perSector + random.below(perSector);
  const endCell = Math.max(firstCell + 1, end * perSector - random.below(perSector));
  return { verb, firstCell, endCell };
}

/** The next size of a disk of `size` bytes: a little more or less, anything, or so much that its L1 table moves. */
export function drawSize(
  random: Random,
  { clusterBits, virtualSize, dataFile, backingLength }: Scenario,
  size: number,
): number {
  const clusterSize = 2 ** clusterBits;
  const coverage = (clusterSize / 8) * clusterSize;
  const largest = dataFile === 'raw' ? LARGEST_RAW : 2 ** 34;
  // All that is new over a backing file is marked as zeros, or written.
  const room = backingLength === 0 ? coverage * (clusterSize / 4) : MOST_OVER_BACKING;
  const limit = Math.min(largest, virtualSize * 2 + room);
  const change = random.pick([SECTOR * 8, clusterSize * 8, coverage * 2, coverage * (clusterSize / 8)]);
  const wanted = random.chance(0.3) ? random.below(virtualSize * 1.5) : size + random.between(-change, change);
  const clamped = Math.max(SECTOR, Math.min(wanted, limit));
  return random.chance(0.1) ? size : Math.floor(clamped / SECTOR) * SECTOR;
}

/** A change of a property. */
export interface Amendment {
  readonly kind: AmendKind;
  readonly value: number;
  readonly backingFile?: string;
  readonly dataFile?: string;
}

/** A property that the image can have as it is now. */
export function drawAmend(
  random: Random,
  { extended, dataFile, bitmaps, backingLength }: Scenario,
  version: number,
  order: number,
): Amendment {
  if (backingLength > 0 && random.chance(0.4)) {
    return { kind: AmendKind.BackingFile, value: 0, backingFile: random.pick(BACKING_NAMES) };
  }
  if (version === 2) return { kind: AmendKind.Upgrade, value: 0 };
  // Version 2 has no bitmaps.
  const plain = !extended && !bitmaps && dataFile === 'none';
  if (plain && order === 4 && random.chance(0.3)) return { kind: AmendKind.Downgrade, value: 0 };
  if (dataFile !== 'none' && random.chance(0.2)) {
    return { kind: AmendKind.DataFile, value: 0, dataFile: random.pick(['', ...BACKING_NAMES]) };
  }
  if (dataFile === 'raw' && random.chance(0.1)) return { kind: AmendKind.DataFileRaw, value: 0 };
  if (random.chance(0.2)) return { kind: AmendKind.LazyRefcounts, value: random.below(2) };
  // With 16 bits the way down is open again.
  return { kind: AmendKind.RefcountOrder, value: random.chance(0.3) ? 4 : random.below(7) };
}

/** Clusters for a few, for many, or for all of a small disk. */
export function drawPreallocation(
  random: Random,
  { clusterBits }: Scenario,
  size: number,
): { mode: PreallocateMode; offset: number; length: number } {
  const clusterSize = 2 ** clusterBits;
  const mode = random.pick([
    PreallocateMode.Metadata,
    PreallocateMode.Metadata,
    PreallocateMode.Allocated,
    PreallocateMode.Written,
  ]);
  const longest = random.pick([clusterSize * 4, clusterSize * 100, clusterSize * 1000]);
  const offset = random.chance(0.3) ? 0 : random.below(size / SECTOR) * SECTOR;
  return { mode, offset, length: random.between(0, Math.min(size - offset, longest)) };
}

function drawVerb(random: Random, habits: Habits): Verb {
  const weights: readonly [Verb, number][] = [
    ['read', habits.reads],
    ['write', habits.writes],
    ['durable write', habits.durableWrites],
    ['compressed write', habits.compressedWrites],
    ['write zeroes', habits.zeroes],
    ['unmap', habits.zeroes],
    ['discard', habits.discards],
    ['uncover', habits.uncovers],
  ];
  let at = random.below((weights.reduce((sum, [, weight]) => sum + weight, 0) + habits.flushes) * 10) / 10;
  for (const [verb, weight] of weights) {
    if (at < weight) return verb;
    at -= weight;
  }
  return 'flush';
}

/** Short ones are more frequent than long ones. */
function drawLength(random: Random, longest: number): number {
  return random.chance(0.5) ? random.between(1, Math.min(8, longest)) : random.between(1, longest);
}
