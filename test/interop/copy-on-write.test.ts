/** Clusters that may not be written in place: snapshots share them, or they are compressed. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import {
  apply,
  checkWithQemu,
  drawSteps,
  readWithCorral,
  readWithQemu,
  runWithCorral,
  runWithQemu,
} from './guest-steps.js';

const MIB = 1 << 20;
const SIZE = 6 * MIB + 3 * 512;

const images = [
  { clusterSize: 512, compat: '1.1', refcountBits: 16 },
  { clusterSize: 4096, compat: '1.1', refcountBits: 2 },
  { clusterSize: 4096, compat: '1.1', refcountBits: 64 },
  { clusterSize: 65536, compat: '1.1', refcountBits: 16 },
  { clusterSize: 2 * MIB, compat: '1.1', refcountBits: 8 },
  { clusterSize: 1024, compat: '0.10', refcountBits: 16 },
  { clusterSize: 65536, compat: '0.10', refcountBits: 16 },
];

describe('an image with snapshots', () => {
  test.each(images)(
    'of clusters of $clusterSize, compat $compat, $refcountBits-bit refcounts keeps them',
    async (made) => {
      const seed = chooseSeed();
      const random = randomFrom(seed);
      const { clusterSize, compat, refcountBits } = made;
      const path = join(temporaryFolder(), 'image.qcow2');
      const width = compat === '1.1' ? `,refcount_bits=${refcountBits}` : '';
      const format = `cluster_size=${clusterSize},compat=${compat}${width}`;
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', format, path, String(SIZE)]);
      const model = new Uint8Array(SIZE);
      const snapshots = new Map<string, Uint8Array>();

      for (let round = 0; round < 4; round++) {
        const theirs = drawSteps(random, 15, SIZE, clusterSize);
        runWithQemu(path, theirs);
        for (const step of theirs) apply(model, step, made);
        // Two bits count to three: two snapshots and the disk.
        if (round < 2) {
          execFileSync('qemu-img', ['snapshot', '-c', `s${round}`, path]);
          snapshots.set(`s${round}`, model.slice());
        } else if (round === 3) {
          execFileSync('qemu-img', ['snapshot', '-d', 's0', path]);
          snapshots.delete('s0');
        }
        const ours = drawSteps(random, 60, SIZE, clusterSize);
        await runWithCorral(path, ours, round !== 1);
        for (const step of ours) apply(model, step, made);

        checkWithQemu(path, `round ${round}, seed ${seed}`);
        expectSameBytes(readWithQemu(path), model, `QEMU reads, round ${round}, seed ${seed}:`);
        expectSameBytes(await readWithCorral(path), model, `Corral reads, round ${round}, seed ${seed}:`);
        for (const [name, contents] of snapshots) {
          expectSameBytes(readWithQemu(path, name), contents, `snapshot ${name}, round ${round}, seed ${seed}:`);
        }
      }
    },
  );

  test('copies a shared L2 table once, and with it nothing but what is written', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
    runWithQemu(path, [{ kind: 'write', offset: 0, length: MIB, value: 1 }]);
    execFileSync('qemu-img', ['snapshot', '-c', 's', path]);
    await using image = await openImage(path, { write: true });

    await Promise.all([1, 2, 3, 4].map((at) => image.write(at * 65536 + 100, new Uint8Array(100).fill(9))));

    // Four data clusters and one table.
    expect(image.statistics().allocatedClusters).toBe(5);
  });
});

describe('an image that qemu-img compressed', () => {
  const kinds = (['zlib', 'zstd'] as const).flatMap((type) =>
    [512, 4096, 65536, 2 * MIB].map((clusterSize) => ({ type, clusterSize })),
  );

  test.each(kinds)('with $type in clusters of $clusterSize can be written', async ({ type, clusterSize }) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const folder = temporaryFolder();
    const raw = join(folder, 'raw');
    const path = join(folder, 'image.qcow2');
    const model = compressible(random);
    writeFileSync(raw, model);
    const options = `compression_type=${type},cluster_size=${clusterSize}`;
    execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, path]);

    for (let round = 0; round < 3; round++) {
      if (round === 1) execFileSync('qemu-img', ['snapshot', '-c', 's', path]);
      const before = model.slice();
      const steps = drawSteps(random, 40, SIZE, clusterSize);
      await runWithCorral(path, steps, round !== 0);
      for (const step of steps) apply(model, step, { clusterSize });

      checkWithQemu(path, `round ${round}, seed ${seed}`);
      expectSameBytes(readWithQemu(path), model, `QEMU reads, round ${round}, seed ${seed}:`);
      expectSameBytes(await readWithCorral(path), model, `Corral reads, round ${round}, seed ${seed}:`);
      if (round === 1) expectSameBytes(readWithQemu(path, 's'), before, `the snapshot, seed ${seed}:`);
    }
  });
});

/** Text and repetition in stretches of random lengths. */
function compressible(random: () => number): Uint8Array {
  const contents = new Uint8Array(SIZE);
  const source = readFileSync(new URL(import.meta.url));
  for (let offset = 0; offset < SIZE; ) {
    const end = Math.min(SIZE, offset + 1 + below(random, 150_000));
    const value = below(random, 256);
    const text = random() < 0.5;
    for (let index = offset; index < end; index++) {
      contents[index] = text ? (source[index % source.length] as number) : value;
    }
    offset = end;
  }
  return contents;
}
