/** Reads of a file that answers slowly: what is fetched for whom, and how often. */

import { expect, test } from 'vitest';
import { RangeCache } from '../../host/range-cache.js';

const BLOCK = 1024;

/** A file whose byte at `offset` follows from that, and what is fetched of it, in blocks. */
function watchedFile(options: { readAhead: number; firstAhead?: number; cacheSize?: number }) {
  const fetches: [first: number, count: number][] = [];
  const cache = new RangeCache({
    length: 1000 * BLOCK,
    blockSize: BLOCK,
    cacheSize: 100 * BLOCK,
    longestFetch: 16 * BLOCK,
    largestGap: 0,
    ...options,
    async fetchRange(offset, length) {
      fetches.push([offset / BLOCK, length / BLOCK]);
      return Uint8Array.from({ length }, (_, index) => ((offset + index) * 7) >> 8);
    },
  });
  return { cache, fetches };
}

async function readBlock(cache: RangeCache, block: number): Promise<void> {
  const target = new Uint8Array(BLOCK);
  await cache.read(block * BLOCK, target);
  expect(target[300]).toBe((((block * BLOCK + 300) * 7) >> 8) & 255);
}

test('for a reader that goes forward twice as much is fetched each time', async () => {
  const { cache, fetches } = watchedFile({ readAhead: 4 * BLOCK });

  for (let block = 10; block < 24; block++) await readBlock(cache, block);

  expect(fetches).toEqual([
    [10, 1],
    [11, 2],
    [13, 3],
    [16, 5],
    [21, 5],
  ]);
});

test('several readers that go forward by turns each find the next blocks there', async () => {
  const { cache, fetches } = watchedFile({ readAhead: 8 * BLOCK, firstAhead: 8 * BLOCK });

  for (let step = 0; step < 18; step++) {
    for (const start of [0, 200, 400, 600]) await readBlock(cache, start + step);
  }

  // The first block, then nine, then the next nine.
  expect(fetches.length).toBe(4 * 3);
});

test('what is fetched ahead for several readers fits into the memory that there is', async () => {
  const { cache, fetches } = watchedFile({ readAhead: 16 * BLOCK, firstAhead: 16 * BLOCK, cacheSize: 16 * BLOCK });

  for (let step = 0; step < 8; step++) {
    for (const start of [0, 200, 400, 600]) await readBlock(cache, start + step);
  }

  const blocks = fetches.reduce((sum, [, count]) => sum + count, 0);
  expect(blocks).toBeLessThan(2 * 4 * 8);
});

test('nothing is fetched ahead for a reader that jumps', async () => {
  const { cache, fetches } = watchedFile({ readAhead: 8 * BLOCK, firstAhead: 8 * BLOCK });

  for (const block of [5, 300, 7, 90, 4, 500]) await readBlock(cache, block);

  expect(fetches.map(([, count]) => count)).toEqual([1, 1, 1, 1, 1, 1]);
});
