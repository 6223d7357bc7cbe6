/** Reads that skip the entries of a table which maps one unbroken stretch of the file. */

import { describe, expect, test } from 'vitest';
import { Image } from '../../host/image.js';
import { MemoryFile } from '../../host/memory-file.js';
import { loadCore } from '../../host/node/core.js';
import { expectSameBytes } from '../same-bytes.js';
import { compileMutated } from './mutated-core.js';

const CLUSTER = 4096;
/** Two slices of 512 entries. */
const SIZE = 1024 * CLUSTER;
/** More than a table is read before it is looked at as a whole. */
const READS = 100;

/** What a guest finds at the places of `changes` when each of them follows on many reads of its table. */
async function readBack(core: WebAssembly.Module): Promise<{ found: Uint8Array; expected: Uint8Array }> {
  const file = new MemoryFile();
  await Image.create(file, { core, virtualSize: SIZE, clusterSize: CLUSTER });
  const image = await Image.open(file, { core, write: true });
  const expected = new Uint8Array(SIZE);
  for (let index = 0; index < SIZE; index += 8) expected[index] = 1 + ((index / CLUSTER) % 251);
  await image.write(0, expected);

  const changes: (() => Promise<void>)[] = [
    () => image.discard(5 * CLUSTER, CLUSTER),
    () => image.writeZeroes(600 * CLUSTER, 2 * CLUSTER),
    () => image.write(5 * CLUSTER + 512, new Uint8Array(512).fill(0xee)),
  ];
  for (const change of changes) {
    for (const table of [0, 512]) {
      for (let count = 0; count < READS; count++) await image.read((table + count) * CLUSTER + 8, new Uint8Array(8));
    }
    await change();
  }
  expected.fill(0, 5 * CLUSTER, 6 * CLUSTER);
  expected.fill(0xee, 5 * CLUSTER + 512, 5 * CLUSTER + 1024);
  expected.fill(0, 600 * CLUSTER, 602 * CLUSTER);

  const found = new Uint8Array(SIZE);
  for (let offset = 0; offset < SIZE; offset += CLUSTER) {
    await image.read(offset, found.subarray(offset, offset + CLUSTER));
  }
  await image.close();
  return { found, expected };
}

describe('a table that maps one unbroken stretch of the file', () => {
  test('is looked at again after every change', async () => {
    const { found, expected } = await readBack(loadCore());

    expectSameBytes(found, expected);
  });

  test('would give old bytes if a change were forgotten', async () => {
    const core = await compileMutated({ file: 'cache/write-order.ts', find: '  slice.linear = 0;\n', replace: '' });

    const { found, expected } = await readBack(core);

    expect(Buffer.compare(found, expected)).not.toBe(0);
  });
});
