/** Compressed clusters that Corral writes and rewrites, read and checked by QEMU. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createImage, openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const kinds = (['zlib', 'zstd'] as const).flatMap((compressionType) => [
  { compressionType, clusterSize: 512, refcountBits: 16 },
  { compressionType, clusterSize: 4096, refcountBits: 1 },
  { compressionType, clusterSize: 4096, refcountBits: 2 },
  { compressionType, clusterSize: 65536, refcountBits: 16 },
  { compressionType, clusterSize: 2 << 20, refcountBits: 64 },
]);

/** Bytes that compress to something between a few of them and more than there were. */
function someBytes(random: () => number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const noise = random();
  for (let index = 0; index < length; index++) bytes[index] = random() < noise * noise ? below(random, 256) : 0x41;
  return bytes;
}

/** The whole disk, as QEMU reads it, after a check without findings. */
function readByQemu(path: string, folder: string): Uint8Array {
  execFileSync('qemu-img', ['check', '-q', path]);
  const raw = join(folder, 'back.raw');
  execFileSync('qemu-img', ['convert', '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

describe('compressed writes', () => {
  test.each(kinds)('of $compressionType, clusters of $clusterSize, refcounts of $refcountBits bits', async (kind) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    const { clusterSize } = kind;
    // The last cluster is cut short by the end of the disk.
    const size = clusterSize * (clusterSize > 65536 ? 6 : 60) + 512 * (clusterSize > 512 ? 1 : 0);
    await createImage(path, { virtualSize: size, ...kind });
    const expected = new Uint8Array(size);

    for (let life = 0; life < 3; life++) {
      const image = await openImage(path, { write: true });
      for (let round = 0; round < 3; round++) {
        const work: Promise<void>[] = [];
        const touched = new Set<number>();
        for (let count = 0; count < 20; count++) {
          const cluster = below(random, Math.ceil(size / clusterSize));
          if (touched.has(cluster)) continue;
          touched.add(cluster);
          const start = cluster * clusterSize;
          const end = Math.min(start + clusterSize, size);
          const choice = below(random, 6);
          if (choice === 0) {
            expected.fill(0, start, end);
            work.push(image.discard(start, end - start));
          } else if (choice === 1) {
            const from = start + below(random, end - start);
            const part = someBytes(random, 1 + below(random, end - from));
            expected.set(part, from);
            work.push(image.write(from, part));
          } else {
            const bytes = someBytes(random, end - start);
            expected.set(bytes, start);
            work.push(image.writeCompressed(start, bytes));
          }
        }
        await Promise.all(work);
        if (below(random, 2) === 0) await image.flush();
      }
      const found = new Uint8Array(size);
      await image.read(0, found);
      expectSameBytes(found, expected, `seed ${seed}, life ${life}:`);
      await image.close();

      expectSameBytes(readByQemu(path, folder), expected, `seed ${seed}, life ${life}, QEMU:`);
    }
  });

  test('of compressible data take less room than the data', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    await createImage(path, { virtualSize: 1 << 20 });
    const image = await openImage(path, { write: true });

    await image.writeCompressed(0, new Uint8Array(1 << 20).fill(0x61));
    await image.close();

    // Header, refcount table and block, L1 and L2 table, and a few clusters that all sixteen share.
    expect(readFileSync(path).length).toBeLessThan(8 * 65536);
    const map = execFileSync('qemu-img', ['map', '--output', 'json', path], { encoding: 'utf8' });
    expect(JSON.parse(map)).toMatchObject([{ start: 0, length: 1 << 20, compressed: true }]);
  });

  test('must be of whole clusters', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    await createImage(path, { virtualSize: 1 << 20 });
    await using image = await openImage(path, { write: true });

    await expect(image.writeCompressed(512, new Uint8Array(65536))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
    await expect(image.writeCompressed(0, new Uint8Array(4096))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });

  test('have the levels of their library', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    await createImage(path, { virtualSize: 1 << 20 });

    await expect(openImage(path, { write: true, compressionLevel: 10 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('Levels of zlib are 1 to 9, not 10'),
    });
  });

  test.each([
    { compressionType: 'zlib' as const, levels: [1, 9] },
    { compressionType: 'zstd' as const, levels: [1, 9] },
  ])('of $compressionType take less room at a higher level', async ({ compressionType, levels }) => {
    const folder = temporaryFolder();
    // Long enough that the difference is more than what compressed clusters lose between each other.
    const source = readFileSync(process.execPath).subarray(0, 4 << 20);
    const lengths: number[] = [];
    for (const compressionLevel of levels) {
      const path = join(folder, `${compressionLevel}.qcow2`);
      await createImage(path, { virtualSize: source.length, compressionType });
      const image = await openImage(path, { write: true, compressionLevel });
      await image.writeCompressed(0, source);
      await image.close();
      lengths.push(readFileSync(path).length);
    }

    expect(lengths[1]).toBeLessThan(lengths[0] as number);
  });
});
