/** The guest: what it asks next. */

import { SECTOR } from './pattern.js';
import type { Random } from './random.js';
import type { Habits, Scenario } from './scenario.js';

/** One request; cells from `firstCell` up to, not including, `endCell`. */
export interface GuestRequest {
  readonly verb: 'read' | 'write' | 'durable write' | 'flush';
  readonly firstCell: number;
  readonly endCell: number;
}

/** Draws requests that often meet each other: hot spots, whole clusters, odd lengths. */
export function drawRequest(random: Random, scenario: Scenario, habits: Habits): GuestRequest {
  const verb = drawVerb(random, habits);
  if (verb === 'flush') return { verb, firstCell: 0, endCell: 0 };
  const { cells, virtualSize, clusterBits } = scenario;
  const sectors = virtualSize / SECTOR;
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
  const end = Math.min(sectors, first + Math.max(1, Math.min(count, habits.longest / SECTOR)));
  const perSector = cells.perSector;
  const firstCell = first * perSector + random.below(perSector);
  const endCell = Math.max(firstCell + 1, end * perSector - random.below(perSector));
  return { verb, firstCell, endCell };
}

function drawVerb(random: Random, { reads, writes, durableWrites, flushes }: Habits): GuestRequest['verb'] {
  let at = random.below((reads + writes + durableWrites + flushes) * 10) / 10;
  if (at < reads) return 'read';
  at -= reads;
  if (at < writes) return 'write';
  at -= writes;
  return at < durableWrites ? 'durable write' : 'flush';
}

/** Short ones are more frequent than long ones. */
function drawLength(random: Random, longest: number): number {
  return random.chance(0.5) ? random.between(1, Math.min(8, longest)) : random.between(1, longest);
}
