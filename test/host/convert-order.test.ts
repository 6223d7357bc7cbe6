/** In which order the writes of a copy begin. */

import { expect, test } from 'vitest';
import { convert } from '../../host/convert.js';

const PIECE = 2 << 20;

/** Offsets of the writes of a copy whose first piece takes long to read. */
async function writesOf(options: { anyOrder: boolean }): Promise<number[]> {
  const offsets: number[] = [];
  const source = {
    length: 3 * PIECE,
    async *ranges() {
      yield { offset: 0, length: 3 * PIECE, zero: false };
    },
    async read(offset: number, target: Uint8Array) {
      if (offset === 0) await new Promise((resolve) => setTimeout(resolve, 30));
      target.fill(1);
    },
  };
  const target = {
    granularity: 65_536,
    async write(offset: number) {
      offsets.push(offset);
    },
    async writeZeroes() {},
  };
  await convert(source, target, { targetIsZero: true, ...options });
  return offsets;
}

test('is that of the disk', async () => {
  expect(await writesOf({ anyOrder: false })).toEqual([0, PIECE, 2 * PIECE]);
});

test('is that in which the bytes are there, where any will do', async () => {
  expect((await writesOf({ anyOrder: true })).at(-1)).toBe(0);
});
