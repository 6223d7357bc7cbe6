/** Disks that become longer and shorter, by Corral and by QEMU in turn, and what they hold then. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createImage, openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { io, makeImage, qemuCheck, snapshot } from './check-fixture.js';

const KIB = 1024;
const MIB = 1 << 20;
const SECTOR = 512;
const CLEAN = { corruptions: 0, leaks: 0, checkErrors: 0 };

function bytesOf(path: string): Buffer {
  const raw = `${path}.raw`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

async function resize(path: string, size: number, shrink = false): Promise<void> {
  await using image = await openImage(path, { write: true });
  await image.resize(size, { shrink });
  expect(image.size).toBe(size);
  await image.close();
}

describe('random sizes, set by both in turn, with writes in between', () => {
  test.each([
    { clusterSize: 512, compat: '1.1' as const, largest: 6 * MIB },
    { clusterSize: 512, compat: '0.10' as const, largest: 6 * MIB },
    { clusterSize: 4096, compat: '1.1' as const, largest: 24 * MIB },
    { clusterSize: 65536, compat: '0.10' as const, largest: 24 * MIB },
    { clusterSize: 2 * MIB, compat: '1.1' as const, largest: 24 * MIB },
  ])('clusters of $clusterSize, compat $compat', async ({ clusterSize, compat, largest }) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = makeImage({ clusterSize, compat, size: MIB });
    let model = Buffer.alloc(MIB);

    for (let round = 0; round < 12; round++) {
      const size = below(random, largest / SECTOR) * SECTOR;
      const shrinks = size < model.length;
      // What QEMU leaves behind the end of a shorter disk comes to light again when QEMU makes it longer.
      if (round % 3 === 2 && !shrinks) {
        execFileSync('qemu-img', ['resize', '-q', '-f', 'qcow2', path, String(size)]);
        const end = Math.ceil(model.length / clusterSize) * clusterSize;
        if (end > model.length) io(path, [`write -z ${model.length} ${Math.min(end, size) - model.length}`]);
      } else await resize(path, size, shrinks);
      const next = Buffer.alloc(size);
      model.copy(next, 0, 0, Math.min(size, model.length));
      model = next;
      expect(qemuCheck(path), `seed ${seed}`).toMatchObject(CLEAN);
      expectSameBytes(bytesOf(path), model, `round ${round}, seed ${seed}`);
      if (size === 0) continue;

      await using image = await openImage(path, { write: true });
      for (let write = 0; write < 5; write++) {
        const offset = below(random, size);
        const data = new Uint8Array(Math.min(size - offset, 1 + below(random, 3 * clusterSize))).fill(1 + round);
        await image.write(offset, data);
        model.set(data, offset);
      }
      await image.close();
    }
  });
});

test('an L1 table that needs many clusters moves, and its old clusters are free', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');
  await createImage(path, { virtualSize: MIB, clusterSize: 512 });
  io(path, ['write -P 7 0 1M']);

  await resize(path, 4096 * MIB);

  expect(qemuCheck(path)).toMatchObject(CLEAN);
  io(path, ['read -P 7 0 1M', 'read -P 0 1M 64M', 'write -P 8 4000M 1M', 'read -P 8 4000M 1M']);
  await resize(path, 2 * MIB, true);
  expect(qemuCheck(path)).toMatchObject({ ...CLEAN, allocatedClusters: 2048 });
});

test('the old bytes behind the end of a shorter disk do not come back', async () => {
  const path = makeImage({ clusterSize: 65536 }, ['write -P 7 0 1M']);
  execFileSync('qemu-img', ['resize', '-q', '--shrink', path, String(100 * KIB)]);

  await resize(path, MIB);

  const model = Buffer.alloc(MIB);
  model.fill(7, 0, 100 * KIB);
  expectSameBytes(bytesOf(path), model);
  expect(qemuCheck(path)).toMatchObject(CLEAN);
});

test.each([65536, 4096])('snapshots keep their sizes and contents (clusters of %i)', async (clusterSize) => {
  const path = makeImage({ clusterSize }, ['write -P 7 0 1M']);
  snapshot(path, 'full');

  await resize(path, 300 * KIB, true);
  await resize(path, 9 * MIB);

  expect(qemuCheck(path)).toMatchObject(CLEAN);
  const model = Buffer.alloc(9 * MIB);
  model.fill(7, 0, 300 * KIB);
  expectSameBytes(bytesOf(path), model);
  execFileSync('qemu-img', ['snapshot', '-a', 'full', path]);
  expectSameBytes(bytesOf(path), Buffer.alloc(MIB, 7));
  expect(qemuCheck(path)).toMatchObject(CLEAN);
});

test('an image of version 2 that has snapshots keeps its size', async () => {
  const path = makeImage({ clusterSize: 65536, compat: '0.10' });
  snapshot(path, 'one');
  const before = readFileSync(path);
  await using image = await openImage(path, { write: true });

  const refused = image.resize(2 * MIB);

  const message = "Can't resize a v2 image which has snapshots";
  await expect(refused).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED', message });
  await image.close();
  expect(() => execFileSync('qemu-img', ['resize', path, '2M'], { stdio: 'pipe' })).toThrow(message);
  expect(readFileSync(path).equals(before)).toBe(true);
});

test('sizes that are none are refused, and a shorter disk has to be asked for', async () => {
  const path = makeImage({ clusterSize: 512 });
  await using image = await openImage(path, { write: true });

  const refusals = [2 * MIB + 1, -512, 512 * KIB, 2 ** 50].map((size) => image.resize(size));

  const outcomes = await Promise.allSettled(refusals);
  expect(outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)).toEqual([
    'ERR_INVALID_ARGUMENT',
    'ERR_INVALID_ARGUMENT',
    'ERR_INVALID_ARGUMENT',
    'ERR_TOO_LARGE',
  ]);
  expect(image.size).toBe(MIB);
});

test('requests that run meanwhile end before it, later ones see the new size', async () => {
  const path = makeImage({ clusterSize: 4096 });
  await using image = await openImage(path, { write: true });

  const before = image.write(0, new Uint8Array(MIB).fill(1));
  const resized = image.resize(2 * MIB);
  await new Promise(setImmediate);
  const after = image.write(MIB, new Uint8Array(MIB).fill(2));

  await Promise.all([before, resized, after]);
  await image.close();
  expect(qemuCheck(path)).toMatchObject(CLEAN);
  io(path, ['read -P 1 0 1M', 'read -P 2 1M 1M']);
});

test('unknown header fields and extensions stay', async () => {
  const path = makeImage({ clusterSize: 4096 });
  const bytes = readFileSync(path);
  const tail = Buffer.from(bytes.subarray(112, 512));
  bytes.writeUInt32BE(120, 100);
  tail.copy(bytes, 120, 0, 392);
  bytes.write('unknown!', 112);
  writeFileSync(path, bytes);

  await resize(path, 64 * MIB);

  const changed = readFileSync(path);
  expect(changed.subarray(104, 512).equals(bytes.subarray(104, 512))).toBe(true);
  expect(qemuCheck(path)).toMatchObject(CLEAN);
});
