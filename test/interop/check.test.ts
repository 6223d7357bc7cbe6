/** Corral's check counts what `qemu-img check` counts, on sound images of every shape. */

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openImage } from '../../host/node/index.js';
import { randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corralCheck, countsOf, io, makeImage, qemuCheck, snapshot, TINY } from './check-fixture.js';

const CLUSTER_SIZES = Array.from({ length: 13 }, (_, bits) => 512 << bits);
const WIDTHS = [1, 2, 4, 8, 16, 32, 64];

const shapes = [
  ...CLUSTER_SIZES.map((clusterSize) => ({ clusterSize, compat: '1.1' as const, refcountBits: 16 })),
  ...CLUSTER_SIZES.map((clusterSize) => ({ clusterSize, compat: '0.10' as const, refcountBits: 16 })),
  ...WIDTHS.map((refcountBits) => ({ clusterSize: 512, compat: '1.1' as const, refcountBits })),
  ...WIDTHS.map((refcountBits) => ({ clusterSize: 65536, compat: '1.1' as const, refcountBits })),
];

test.each(shapes)(
  'data, zeros, compressed clusters and snapshots: clusters of $clusterSize, compat $compat, $refcountBits-bit refcounts',
  async ({ clusterSize, compat, refcountBits }) => {
    const at = (cluster: number) => cluster * clusterSize;
    const size = at(100) + 512;
    const path = makeImage({ clusterSize, compat, refcountBits, size }, [
      `write 0 ${at(7)}`,
      `write ${at(30)} ${at(2)}`,
      `write ${at(20)} ${at(3)}`,
      `write ${at(99)} ${clusterSize + 512}`,
      `write -z ${at(3)} ${at(2)}`,
      `write -z ${at(40)} ${at(2)}`,
      `write -c -P 7 ${at(50)} ${clusterSize}`,
      // Two in one host cluster and two snapshots make six references.
      ...(refcountBits > 2 ? [`write -c -P 8 ${at(51)} ${clusterSize}`] : []),
    ]);
    if (refcountBits > 1) {
      snapshot(path, 'first');
      io(path, [`write ${at(1)} ${at(4)}`, `write ${at(60)} ${at(3)}`]);
      snapshot(path, 'a second one');
      io(path, [`write ${at(5)} ${at(1)}`]);
    }

    const expected = qemuCheck(path);

    expect(expected).toMatchObject({ corruptions: 0, leaks: 0, totalClusters: 101 });
    expect(await corralCheck(path)).toEqual(expected);
    expect(await corralCheck(path, TINY)).toEqual(expected);
  },
);

describe('images that other commands make', () => {
  test.each([512, 4096, 65536, 2097152])(
    'a converted image that is all compressed, clusters of %i',
    async (clusterSize) => {
      const folder = temporaryFolder();
      const [raw, path] = [join(folder, 'raw'), join(folder, 'image.qcow2')];
      const random = randomFrom(clusterSize);
      writeFileSync(raw, Buffer.from(Array.from({ length: 1 << 20 }, () => (random() < 0.3 ? random() * 256 : 0))));
      const options = ['-c', '-f', 'raw', '-O', 'qcow2', '-o', `cluster_size=${clusterSize}`];
      execFileSync('qemu-img', ['convert', ...options, raw, path]);

      const expected = qemuCheck(path);

      expect(expected).toMatchObject({
        corruptions: 0,
        leaks: 0,
        compressedClusters: Math.ceil((1 << 20) / clusterSize),
      });
      expect(await corralCheck(path)).toEqual(expected);
      expect(await corralCheck(path, TINY)).toEqual(expected);
    },
  );

  test.each([
    { clusterSize: 512, size: 8 << 20 },
    { clusterSize: 4096, size: 256 << 20 },
    { clusterSize: 65536, size: 8 * 2 ** 30 },
    { clusterSize: 65536, size: 8 * 2 ** 30, refcountBits: 64 },
    { clusterSize: 65536, size: 8 * 2 ** 30, refcountBits: 1 },
  ])('preallocated metadata of $size bytes in clusters of $clusterSize', async (options) => {
    const path = makeImage({ ...options, preallocation: 'metadata' });

    const expected = qemuCheck(path);
    const image = await openImage(path, { checkSize: 1 << 20 });
    const report = await image.check();
    await image.close();

    expect(expected).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: options.size / options.clusterSize });
    expect(countsOf(report)).toEqual(expected);
    expect(report.findings).toEqual([]);
  });

  test('an overlay is checked without its backing file', async () => {
    const base = makeImage({ clusterSize: 65536 }, ['write 0 128k']);
    const path = join(temporaryFolder(), 'overlay.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', path]);
    io(path, ['write 64k 64k']);

    const expected = qemuCheck(path);

    expect(await corralCheck(path)).toEqual(expected);
  });

  test('an image with thirty snapshots that share their tables', async () => {
    const path = makeImage({ clusterSize: 4096, size: 16 << 20 }, ['write 0 4M']);
    for (let index = 0; index < 30; index++) {
      snapshot(path, `snapshot number ${index}`);
      io(path, [`write ${index * 16384} 20000`]);
    }

    const expected = qemuCheck(path);

    expect(expected).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(await corralCheck(path)).toEqual(expected);
    expect(await corralCheck(path, 4 * TINY)).toEqual(expected);
  });
});
