/** What Corral writes, QEMU reads, and the reverse: random writes by both in turn, on images that either of them made. */

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createImage, openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const MIB = 1 << 20;
const SIZE = 24 * MIB;
const SECTOR = 512;

interface Options {
  maker: 'qemu-img' | 'corral';
  clusterSize: number;
  compat: '0.10' | '1.1';
  refcountBits: number;
}

const options: Options[] = [];
for (const maker of ['qemu-img', 'corral'] as const) {
  for (const clusterSize of [512, 4096, 65536, 2 * MIB]) {
    options.push({ maker, clusterSize, compat: '1.1', refcountBits: 16 });
    options.push({ maker, clusterSize, compat: '0.10', refcountBits: 16 });
  }
  for (const refcountBits of [1, 2, 4, 8, 32, 64]) {
    options.push({ maker, clusterSize: 4096, compat: '1.1', refcountBits });
  }
}

describe('random writes by both in turn', () => {
  test.each(options)('$maker, clusters of $clusterSize, compat $compat, $refcountBits-bit refcounts', async (made) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = join(temporaryFolder(), 'image.qcow2');
    const model = new Uint8Array(SIZE);
    await make(path, made);

    for (let round = 0; round < 3; round++) {
      await writeWithCorral(path, model, random);
      checkWithQemu(path, seed);
      writeWithQemu(path, model, random);
      checkWithQemu(path, seed);
    }

    expectSameBytes(readWithQemu(path), model, `QEMU reads (seed ${seed})`);
    expectSameBytes(await readWithCorral(path), model, `Corral reads (seed ${seed})`);
  });
});

describe('clusters that QEMU marked as zeros', () => {
  test.each(['', '-u'])('are zeros for Corral and can be written (write -z %s)', async (unmap) => {
    const path = join(temporaryFolder(), 'image.qcow2');
    await make(path, { maker: 'qemu-img', clusterSize: 65536, compat: '1.1', refcountBits: 16 });
    qemuIo(path, ['write -P 1 0 1M', `write -z ${unmap} 0 512k`]);
    const model = new Uint8Array(SIZE);
    model.fill(1, MIB / 2, MIB);

    expectSameBytes(await readWithCorral(path), model);
    await using image = await openImage(path, { write: true });
    model.fill(9, 70_000, 80_000);
    await image.write(70_000, new Uint8Array(10_000).fill(9));
    await image.close();

    checkWithQemu(path, 0);
    expectSameBytes(readWithQemu(path), model);
  });
});

describe('what this engine does not support yet is refused by its name', () => {
  const refusals: { name: string; make: string[][]; read?: RegExp; write?: RegExp }[] = [
    {
      name: 'a backing file',
      make: [
        ['create', 'FOLDER/base.qcow2', '1M'],
        ['create', '-b', 'base.qcow2', '-F', 'qcow2', 'IMAGE'],
      ],
      read: /backing file/,
    },
    {
      name: 'an external data file',
      make: [['create', '-o', 'data_file=FOLDER/data', 'IMAGE', '1M']],
      read: /external data file/,
    },
    {
      name: 'encryption',
      make: [
        ['create', '--object', 'secret,id=s,data=x', '-o', 'encrypt.format=aes,encrypt.key-secret=s', 'IMAGE', '1M'],
      ],
      read: /encryption/,
    },
  ];

  test.each(refusals)('$name', async ({ make: commands, read, write }) => {
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    for (const command of commands) {
      const [verb, ...rest] = command.map((word) => word.replace('IMAGE', path).replace('FOLDER', folder));
      const format = verb === 'create' ? ['-f', 'qcow2'] : [];
      execFileSync('qemu-img', [verb as string, ...format, ...rest]);
    }

    if (read !== undefined) {
      await expect(openImage(path)).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED',
        message: expect.stringMatching(read),
      });
    } else {
      await (await openImage(path)).close();
    }
    await expect(openImage(path, { write: true })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching((read ?? write) as RegExp),
    });
    const inspected = await openImage(path, { inspect: true });
    expect(inspected.size).toBe(MIB);
    await inspected.close();
  });

  test('an unknown incompatible feature, by the name that the image gives it', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    await createImage(path, { virtualSize: MIB });
    // The first entry of the feature name table becomes incompatible bit 40, "warp drive".
    pokeFile(path, 79 - 5, Uint8Array.of(1));
    pokeFile(path, 121, new Uint8Array([40, ...Buffer.from('warp drive\0')]));

    await expect(openImage(path)).rejects.toMatchObject({ message: 'Unsupported qcow2 feature(s): warp drive' });
  });
});

async function make(path: string, { maker, clusterSize, compat, refcountBits }: Options): Promise<void> {
  if (maker === 'corral') {
    await createImage(path, { virtualSize: SIZE, clusterSize, compat, refcountBits });
    return;
  }
  const wide = refcountBits === 16 ? '' : `,refcount_bits=${refcountBits}`;
  const format = `cluster_size=${clusterSize},compat=${compat}${wide}`;
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', format, path, String(SIZE)]);
}

async function writeWithCorral(path: string, model: Uint8Array, random: () => number): Promise<void> {
  await using image = await openImage(path, { write: true, requestCapacity: 8, cacheSize: 0 });
  const calls: Promise<void>[] = [];
  for (let step = 0; step < 60; step++) {
    const { offset, length, value } = pick(random, 1);
    model.fill(value, offset, offset + length);
    calls.push(image.write(offset, new Uint8Array(length).fill(value)));
    if (random() < 0.1) calls.push(image.flush());
  }
  await Promise.all(calls);
}

function writeWithQemu(path: string, model: Uint8Array, random: () => number): void {
  const commands: string[] = [];
  for (let step = 0; step < 20; step++) {
    const { offset, length, value } = pick(random, SECTOR);
    model.fill(value, offset, offset + length);
    commands.push(`write -P ${value} ${offset} ${length}`);
  }
  qemuIo(path, commands);
}

function pick(random: () => number, unit: number): { offset: number; length: number; value: number } {
  const length = (1 + below(random, 100_000 / unit)) * unit;
  const offset = below(random, (SIZE - length) / unit) * unit;
  return { offset, length, value: 1 + below(random, 255) };
}

async function readWithCorral(path: string): Promise<Uint8Array> {
  await using image = await openImage(path);
  const target = new Uint8Array(image.size);
  await image.read(0, target);
  return target;
}

function readWithQemu(path: string): Uint8Array {
  const raw = `${path}.raw`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

function pokeFile(path: string, offset: number, bytes: Uint8Array): void {
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, bytes, 0, bytes.length, offset);
  closeSync(descriptor);
}

function qemuIo(path: string, commands: string[]): void {
  execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path]);
}

/** Exit status 0: neither errors nor leaks. */
function checkWithQemu(path: string, seed: number): void {
  try {
    execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', path], { stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: Buffer; stderr: Buffer };
    expect.fail(`qemu-img check (seed ${seed}): ${stdout}${stderr}`);
  }
}
