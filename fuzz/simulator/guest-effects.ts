/** What a guest request does to the model when it is sent. */

import type { GuestWrite } from './model.js';
import { SECTOR } from './pattern.js';
import type { World } from './sent.js';
import type { GuestRequest, Verb } from './workload.js';

const ZEROING: readonly Verb[] = ['write zeroes', 'unmap', 'discard'];

/** What the request will change in an image of that version, if it is one that changes anything. */
export function enterModel(
  world: World,
  version: number,
  { verb, firstCell, endCell }: GuestRequest,
): GuestWrite | undefined {
  if (verb === 'read' || verb === 'flush') return undefined;
  const { scenario, model } = world;
  if (verb !== 'discard' && verb !== 'uncover') return model.submitWrite(firstCell, endCell, ZEROING.includes(verb));
  // Whole clusters only, but for the end of the disk.
  if (verb === 'discard' && version === 2 && scenario.backingLength > 0) return undefined;
  const { perSector } = model.cells;
  const cluster = (2 ** scenario.clusterBits / SECTOR) * perSector;
  const diskEnd = (world.size / SECTOR) * perSector;
  const first = Math.ceil(firstCell / cluster) * cluster;
  const end = endCell === diskEnd ? diskEnd : Math.floor(endCell / cluster) * cluster;
  if (first >= end) return undefined;
  return verb === 'discard' ? model.submitWrite(first, end, true) : model.submitUncover(first, end);
}
