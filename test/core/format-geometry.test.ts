/** What follows from cluster size, refcount width and kind of L2 entry, computed the long way. */

import { beforeAll, describe, expect, test } from 'vitest';
import { below, chooseSeed, randomFrom } from '../random.js';
import { assemblyModule } from './assembly-module.js';

interface Exports extends Record<string, unknown> {
  setGeometry(geometry: number, clusterBits: number, refcountOrder: number, extended: boolean): void;
  l2Coverage(geometry: number): bigint;
  l1Index(geometry: number, guestOffset: bigint): bigint;
  l2Index(geometry: number, guestOffset: bigint): number;
  l1EntriesFor(geometry: number, size: bigint): bigint;
  blockIndex(geometry: number, cluster: bigint): bigint;
  blockSliceOffset(geometry: number, cluster: bigint): bigint;
  sliceRefcountBits(geometry: number): number;
}

/** Behind everything that the module keeps in its memory. */
const GEOMETRY = 32768;
const OFFSETS = 200;

let format: Exports;

beforeAll(async () => {
  format = await assemblyModule<Exports>('format/geometry.ts');
});

const images = [9, 10, 12, 14, 16, 21].flatMap((clusterBits) =>
  [false, true].filter((extended) => !extended || clusterBits >= 14).map((extended) => ({ clusterBits, extended })),
);

describe('guest offsets', () => {
  test.each(images)('with clusters of 2^$clusterBits bytes, extended: $extended, lead to their entries', (image) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const clusterSize = 2n ** BigInt(image.clusterBits);
    const entries = clusterSize / (image.extended ? 16n : 8n);
    format.setGeometry(GEOMETRY, image.clusterBits, 4, image.extended);

    expect(format.l2Coverage(GEOMETRY)).toBe(entries * clusterSize);
    for (let round = 0; round < OFFSETS; round++) {
      const offset = BigInt(below(random, 2 ** (20 + below(random, 32))));
      const cluster = offset / clusterSize;
      expect(format.l1Index(GEOMETRY, offset), `${offset}, seed ${seed}`).toBe(cluster / entries);
      expect(BigInt(format.l2Index(GEOMETRY, offset)), `${offset}, seed ${seed}`).toBe(cluster % entries);
      const tables = (offset + entries * clusterSize - 1n) / (entries * clusterSize);
      expect(format.l1EntriesFor(GEOMETRY, offset), `${offset}, seed ${seed}`).toBe(tables);
    }
  });

  test('a disk of nearly 2^64 bytes does not overflow the count of its tables', () => {
    format.setGeometry(GEOMETRY, 9, 4, false);

    expect(BigInt.asUintN(64, format.l1EntriesFor(GEOMETRY, 2n ** 64n - 1n))).toBe(2n ** 49n);
  });
});

describe('host clusters', () => {
  const widths = [0, 1, 2, 3, 4, 5, 6].flatMap((order) =>
    [9, 12, 16, 21].map((clusterBits) => ({ order, clusterBits })),
  );

  test.each(widths)('with refcounts of 2^$order bits and clusters of 2^$clusterBits lead to theirs', (image) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const clusterSize = 2n ** BigInt(image.clusterBits);
    const perBlock = (clusterSize * 8n) / 2n ** BigInt(image.order);
    const sliceSize = clusterSize < 4096n ? clusterSize : 4096n;
    format.setGeometry(GEOMETRY, image.clusterBits, image.order, false);

    expect(2n ** BigInt(format.sliceRefcountBits(GEOMETRY))).toBe((sliceSize * perBlock) / clusterSize);
    for (let round = 0; round < OFFSETS; round++) {
      const cluster = BigInt(below(random, 2 ** (8 + below(random, 38))));
      const byte = ((cluster % perBlock) * clusterSize) / perBlock;
      expect(format.blockIndex(GEOMETRY, cluster), `${cluster}, seed ${seed}`).toBe(cluster / perBlock);
      expect(format.blockSliceOffset(GEOMETRY, cluster), `${cluster}, seed ${seed}`).toBe(byte - (byte % sliceSize));
    }
  });
});
