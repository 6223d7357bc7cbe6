/** What a disk consists of through all its layers: as each place by itself says it, and without asking a layer for each of them. */

import { expect, test } from 'vitest';
import { type ChainExtent, mapChain } from '../../host/chain-map.js';
import type { Layer } from '../../host/layer.js';
import type { MapExtent } from '../../host/map-extent.js';
import { below, chooseSeed, randomFrom } from '../random.js';

const UNIT = 512;

interface Disk {
  readonly backing: Layer | undefined;
  readonly length: number;
  /** Kinds of its units. */
  readonly units: readonly MapExtent['kind'][];
  asked: number;
  map(options: { offset: number; length: number }): AsyncIterable<MapExtent>;
}

/** A disk whose units are of these kinds; unit n lies at unit n + 1000 of its file. */
function diskOf(units: readonly MapExtent['kind'][], backing?: Disk): Disk {
  const length = units.length * UNIT;
  return {
    units,
    length,
    backing: backing as Layer | undefined,
    asked: 0,
    async *map({ offset, length: wanted }) {
      this.asked++;
      const end = Math.min(length, offset + wanted);
      for (let start = offset; start < end; ) {
        const kind = units[Math.floor(start / UNIT)] as MapExtent['kind'];
        let next = start;
        while (next < end && units[Math.floor(next / UNIT)] === kind) next = Math.min(end, next + UNIT - (next % UNIT));
        const allocated = kind === 'data';
        yield {
          offset: start,
          length: next - start,
          kind,
          allocated,
          hostOffset: allocated ? start + 1000 * UNIT : undefined,
        };
        start = next;
      }
    },
  };
}

/** What one unit is, layer by layer. */
function unitOf(disk: Disk, unit: number, layers: number, depth = 0): { kind: string; depth: number } {
  const kind = disk.units[unit] as string;
  const backing = disk.backing as unknown as Disk | undefined;
  if (kind !== 'unallocated' || backing === undefined || unit >= backing.units.length) return { kind, depth };
  return depth + 1 >= layers ? { kind, depth: depth + 1 } : unitOf(backing, unit, layers, depth + 1);
}

async function mapped(
  disk: Disk,
  options: { offset: number; length: number; layers?: number },
): Promise<ChainExtent[]> {
  const extents: ChainExtent[] = [];
  for await (const extent of mapChain(disk, options)) extents.push(extent);
  return extents;
}

test('every stretch of a random chain is what its places are', async () => {
  const random = randomFrom(chooseSeed());
  for (let round = 0; round < 200; round++) {
    let disk: Disk | undefined;
    for (let layer = 1 + below(random, 4); layer > 0; layer--) {
      const units: MapExtent['kind'][] = [];
      const count = 1 + below(random, 120);
      while (units.length < count) {
        const kind = (['unallocated', 'unallocated', 'data', 'zero'] as const)[below(random, 4)] as MapExtent['kind'];
        const run = 1 + below(random, below(random, 4) === 0 ? 40 : 3);
        for (let index = 0; index < run; index++) units.push(kind);
      }
      disk = diskOf(units, disk);
    }
    const top = disk as Disk;
    const first = below(random, top.units.length);
    const last = first + 1 + below(random, top.units.length - first);
    const layers = 1 + below(random, 5);

    const extents = await mapped(top, { offset: first * UNIT, length: (last - first) * UNIT, layers });

    let position = first * UNIT;
    for (const { offset, length, kind, depth, hostOffset } of extents) {
      expect(offset).toBe(position);
      expect(length).toBeGreaterThan(0);
      position += length;
      expect(hostOffset).toBe(kind === 'data' ? offset + 1000 * UNIT : undefined);
      for (let unit = offset / UNIT; unit < position / UNIT; unit++) {
        expect({ kind, depth }).toEqual(unitOf(top, unit, layers));
      }
    }
    expect(position).toBe(last * UNIT);
  }
});

test('a layer is walked over once, however often those above it cover it', async () => {
  const base = diskOf(Array.from({ length: 1000 }, (_, unit) => (unit % 3 === 0 ? 'zero' : 'data')));
  const top = diskOf(
    Array.from({ length: 1000 }, (_, unit) => (unit % 2 === 0 ? 'data' : 'unallocated')),
    base,
  );

  const extents = await mapped(top, { offset: 0, length: top.length });

  expect(extents).toHaveLength(1000);
  expect([top.asked, base.asked]).toEqual([1, 1]);
});

test('what those above cover is not walked over when it is long', async () => {
  const base = diskOf(Array.from({ length: 1000 }, (_, unit) => (unit % 2 === 0 ? 'zero' : 'data')));
  const top = diskOf(
    Array.from({ length: 1000 }, (_, unit) => (unit === 0 || unit === 999 ? 'unallocated' : 'data')),
    base,
  );
  let passed = 0;
  const { map } = base;
  base.map = async function* (options) {
    for await (const extent of map.call(base, options)) {
      passed++;
      yield extent;
    }
  };

  const extents = await mapped(top, { offset: 0, length: top.length });

  expect(extents.map(({ depth }) => depth)).toEqual([1, 0, 1]);
  expect(passed).toBeLessThan(20);
});
