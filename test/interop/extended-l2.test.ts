/** Images with extended L2 entries: subclusters as QEMU writes and reads them. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore, openImage } from '../../host/node/index.js';
import { corralHere } from '../cli/run-corral.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { COPIED, Damage } from './check-fixture.js';
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
const SECTOR = 512;
const SIZE = 6 * MIB + 3 * SECTOR;

describe('what QEMU wrote by subclusters', () => {
  test.each([16384, 65536, 131072, 2 * MIB])('is read, clusters of %i', async (clusterSize) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = make(clusterSize);

    for (let round = 0; round < 3; round++) {
      qemuIo(
        path,
        Array.from({ length: 60 }, () => command(random, clusterSize)),
      );

      expectSameBytes(await readInPieces(path, random), toRaw(path), `Corral reads (round ${round}, seed ${seed})`);
      expect(await corralMap(path), `seed ${seed}`).toBe(qemuMap(path));
    }
  });

  test('and compressed is read as one cluster', async () => {
    const path = make(65536);
    qemuIo(path, ['write -P 1 0 100k', 'write -c -P 2 128k 64k', 'write -P 3 130k 1k', 'write -c -P 4 256k 64k']);

    expectSameBytes(await readInPieces(path, randomFrom(1)), toRaw(path));
    expect(await corralMap(path)).toBe(qemuMap(path));
  });
});

describe('requests by Corral and QEMU in turn', () => {
  test.each([16384, 65536, 131072, 2 * MIB])('leave the same disk, clusters of %i', async (clusterSize) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = make(clusterSize);
    const model = new Uint8Array(SIZE);

    for (let round = 0; round < 4; round++) {
      const ours = drawSteps(random, 80, SIZE, clusterSize);
      await runWithCorral(path, ours, round % 2 === 0);
      for (const step of ours) apply(model, step, { clusterSize });
      checkWithQemu(path, `seed ${seed}`);
      expectSameBytes(readWithQemu(path), model, `QEMU reads (round ${round}, seed ${seed})`);

      const theirs = drawSteps(random, 25, SIZE, clusterSize);
      runWithQemu(path, theirs);
      for (const step of theirs) apply(model, step, { clusterSize });
      expectSameBytes(await readWithCorral(path), model, `Corral reads (round ${round}, seed ${seed})`);
    }
  });

  test.each([16384, 65536])('one after the other leave the same map, clusters of %i', async (clusterSize) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const [ours, theirs] = [make(clusterSize), make(clusterSize)];
    const steps = drawSteps(random, 60, SIZE, clusterSize);

    await runWithCorral(ours, steps, false);
    runWithQemu(theirs, steps);

    expect(dataOf(ours), `seed ${seed}`).toEqual(dataOf(theirs));
  });

  test.each([16384, 65536])('keep what a snapshot shares, clusters of %i', async (clusterSize) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = make(clusterSize);
    const model = new Uint8Array(SIZE);
    // Only what is not allocated can be written compressed.
    qemuIo(path, [`write -c -P 77 ${3 * MIB} ${clusterSize}`]);
    model.fill(77, 3 * MIB, 3 * MIB + clusterSize);
    const before = drawSteps(random, 40, SIZE, clusterSize);
    runWithQemu(path, before);
    for (const step of before) apply(model, step, { clusterSize });
    execFileSync('qemu-img', ['snapshot', '-c', 'one', path]);
    const saved = model.slice();

    for (let round = 0; round < 3; round++) {
      const ours = drawSteps(random, 60, SIZE, clusterSize);
      ours.push({ kind: 'write', offset: 3 * MIB + (round + 1) * 2048, length: 512, value: 5 + round });
      await runWithCorral(path, ours, round !== 1);
      for (const step of ours) apply(model, step, { clusterSize });
      checkWithQemu(path, `seed ${seed}`);
      expectSameBytes(readWithQemu(path), model, `QEMU reads (round ${round}, seed ${seed})`);
      expectSameBytes(readWithQemu(path, 'one'), saved, `the snapshot (round ${round}, seed ${seed})`);
    }
  });

  test('touch only the subclusters that they write to', async () => {
    const path = make(131072);
    const image = await openImage(path, { write: true });

    await image.write(20_480, new Uint8Array(4096).fill(1));
    await image.close();

    expect(dataOf(path)).toEqual([{ start: 20_480, length: 4096 }]);
    checkWithQemu(path, 'one subcluster');
  });

  test('give back the whole clusters behind a part of one', async () => {
    const [ours, theirs] = [make(16384), make(16384)];
    for (const path of [ours, theirs]) qemuIo(path, ['write -P 1 0 128k']);
    const image = await openImage(ours, { write: true });

    await image.writeZeroes(10_240, 60_000, { unmap: true });
    await image.close();

    qemuIo(theirs, ['write -z -u 10240 60000']);
    const placed = (path: string) =>
      (JSON.parse(qemuMap(path)) as { length: number; offset?: number }[]).map(({ length, offset }) => [
        length,
        offset !== undefined,
      ]);
    expect(placed(ours)).toEqual(placed(theirs));
    checkWithQemu(ours, 'three clusters are free');
  });
});

describe('an extended entry that makes no sense is refused', () => {
  const damages: readonly [string, (damage: ExtendedDamage) => void, RegExp][] = [
    ['allocated and zeros at once', (damage) => damage.flip(damage.entry(1) + 8, 1n << 32n), /subcluster bitmap/],
    ['data without a cluster', (damage) => damage.set(damage.entry(1), 0n), /subcluster bitmap/],
    ['the zero flag', (damage) => damage.flip(damage.entry(1), 1n), /subcluster bitmap/],
    ['a reserved bit', (damage) => damage.flip(damage.entry(1), 2n), /reserved bits/],
    ['half a cluster', (damage) => damage.flip(damage.entry(1), 512n), /alignment/],
    ['beyond the file', (damage) => damage.set(damage.entry(1), COPIED | (1n << 40n)), /offset/],
  ];

  test.each(damages)('%s', async (_, spoil, message) => {
    const path = make(65536);
    qemuIo(path, ['write -P 1 0 128k']);
    const damage = new ExtendedDamage(path);
    spoil(damage);
    await using image = await Image.open(new MemoryFile(damage.bytes, true), { core: loadCore() });

    const reading = image.read(65536, new Uint8Array(SECTOR));

    await expect(reading).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT', message: expect.stringMatching(message) });
    const before = new Uint8Array(65536);
    await image.read(0, before);
    expect(before.every((byte) => byte === 1)).toBe(true);
  });

  test('clusters too small for 32 sectors', async () => {
    const path = make(65536);
    const bytes = readFileSync(path);
    bytes.writeUInt32BE(13, 20);

    const opening = Image.open(new MemoryFile(bytes, true), { core: loadCore() });

    await expect(opening).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
  });
});

/** Entries of 16 bytes. */
class ExtendedDamage extends Damage {
  entry(cluster: number): number {
    return (Number(this.word(this.l1(0))) % 2 ** 56) + cluster * 16;
  }
}

function make(clusterSize: number): string {
  const path = join(temporaryFolder(), 'image.qcow2');
  const options = `extended_l2=on,cluster_size=${clusterSize}`;
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, path, String(SIZE)]);
  return path;
}

/** A command of qemu-io on whole sectors, subclusters or clusters. */
function command(random: () => number, clusterSize: number): string {
  const verb = ['write -P', 'write -P', 'write -P', 'write -z', 'write -z -u', 'discard'][below(random, 6)] as string;
  const unit = [SECTOR, clusterSize / 32, clusterSize][below(random, 3)] as number;
  const offset = below(random, Math.floor(SIZE / unit)) * unit;
  const length = Math.min(SIZE - offset, (1 + below(random, 40)) * unit, 3 * MIB);
  const value = verb === 'write -P' ? ` ${1 + below(random, 255)}` : '';
  return `${verb}${value} ${offset} ${length}`;
}

function qemuIo(path: string, commands: string[]): void {
  execFileSync('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((text) => ['-c', text]), path]);
}

function toRaw(path: string): Uint8Array {
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, `${path}.raw`]);
  return readFileSync(`${path}.raw`);
}

/** Small requests take another way than large ones. */
async function readInPieces(path: string, random: () => number): Promise<Uint8Array> {
  await using image = await openImage(path, { cacheSize: 0 });
  const target = new Uint8Array(image.size);
  for (let at = 0; at < target.length; ) {
    const end = at + SECTOR * (1 + below(random, random() < 0.5 ? 8 : 400));
    await image.read(at, target.subarray(at, end));
    at = end;
  }
  return target;
}

/** Where the disk holds data. */
function dataOf(path: string): { start: number; length: number }[] {
  const extents = JSON.parse(qemuMap(path)) as { start: number; length: number; data: boolean }[];
  const found: { start: number; length: number }[] = [];
  for (const { start, length, data } of extents) {
    const last = found.at(-1);
    if (data && last !== undefined && last.start + last.length === start) last.length += length;
    else if (data) found.push({ start, length });
  }
  return found;
}

function qemuMap(path: string): string {
  return execFileSync('qemu-img', ['map', '-f', 'qcow2', '--output=json', path], { encoding: 'utf8' });
}

async function corralMap(path: string): Promise<string> {
  return (await corralHere('map', '--output=json', path)).stdout;
}
