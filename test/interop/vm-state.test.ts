/** The machine's saved state, written and read by Corral and by QEMU in turn. */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createImage, type Image, openImage, pathGate } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const SIZE = 3 << 20;

function qemuIo(path: string, ...commands: string[]): string {
  const list = commands.flatMap((command) => ['-c', command]);
  return execFileSync('qemu-io', ['-f', 'qcow2', ...list, path], { encoding: 'utf8' });
}

function check(path: string): void {
  execFileSync('qemu-img', ['check', '-f', 'qcow2', path]);
}

async function state(image: Image, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length).fill(0xee);
  await image.readVmState(offset, bytes);
  return bytes;
}

async function made(options: { clusterSize: number; extendedL2?: boolean; compat?: '0.10' }): Promise<string> {
  const path = join(temporaryFolder(), 'image.qcow2');
  await createImage(path, { virtualSize: SIZE, ...options });
  return path;
}

const KINDS = [
  { clusterSize: 512 },
  { clusterSize: 65_536 },
  { clusterSize: 65_536, compat: '0.10' as const },
  { clusterSize: 65_536, extendedL2: true },
];

describe.each(KINDS)('%o', (options) => {
  test('what QEMU has saved is read, and what Corral saves is read by QEMU', async () => {
    const path = await made(options);
    qemuIo(path, 'write -P 1 0 1M', 'write -b -P 5 0 100k', 'write -b -P 6 1M 64k');
    {
      await using image = await openImage(path, { write: true });

      expectSameBytes(await state(image, 0, 102_400), new Uint8Array(102_400).fill(5));
      expectSameBytes(await state(image, 1 << 20, 65_536), new Uint8Array(65_536).fill(6));
      expectSameBytes(await state(image, 102_400, 4096), new Uint8Array(4096));
      expectSameBytes(await state(image, 2 ** 35, 512), new Uint8Array(512));
      await image.writeVmState(512, new Uint8Array(70_000 - (70_000 % 512)).fill(7));
      await image.writeVmState(5 << 20, new Uint8Array(1 << 20).fill(8));
      await image.close();
    }

    check(path);
    const [first, second] = [70_000 - (70_000 % 512), 512];
    const said = qemuIo(
      path,
      'read -b -P 5 0 512',
      `read -b -P 7 ${second} ${first}`,
      `read -b -P 5 ${first + 512} ${102_400 - first - 512}`,
      'read -b -P 8 5M 1M',
      'read -P 1 0 1M',
      'read -P 0 1M 2M',
    );
    expect(said).not.toContain('verification failed');
  });

  test('each snapshot has its own, and the disk keeps its bytes', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = await made(options);
    const models: Uint8Array[] = [];
    const model = new Uint8Array(400_000 - (400_000 % 512));
    {
      await using image = await openImage(path, { write: true });
      await image.write(0, new Uint8Array(SIZE).fill(1));
      for (const name of ['one', 'two']) {
        for (let count = 0; count < 12; count++) {
          const length = 512 * (1 + below(random, 100));
          const offset = 512 * below(random, (model.length - length) / 512);
          const value = 1 + below(random, 255);
          model.fill(value, offset, offset + length);
          await image.writeVmState(offset, new Uint8Array(length).fill(value));
        }
        models.push(model.slice());
        await image.snapshots.create({ name });
      }
      await image.writeVmState(0, new Uint8Array(model.length).fill(9));
      await image.write(4096, new Uint8Array(8192).fill(2));
      await image.close();
    }
    check(path);

    for (const [index, name] of ['one', 'two'].entries()) {
      await using image = await openImage(path, { snapshot: name });
      const disk = new Uint8Array(SIZE);
      await image.read(0, disk);
      expectSameBytes(await state(image, 0, model.length), models[index] as Uint8Array, `seed ${seed}, ${name}:`);
      expectSameBytes(disk, new Uint8Array(SIZE).fill(1));
    }
    execFileSync('qemu-img', ['snapshot', '-a', 'one', path]);
    await using image = await openImage(path);
    expectSameBytes(await state(image, 0, model.length), models[0] as Uint8Array, `seed ${seed}:`);
  });
});

test('a longer disk shows nothing of what was saved behind its end', async () => {
  const path = await made({ clusterSize: 512 });
  await using image = await openImage(path, { write: true });
  await image.writeVmState(0, new Uint8Array(200_000).fill(7));

  await image.resize(SIZE * 2);

  const shown = new Uint8Array(SIZE);
  await image.read(SIZE, shown);
  expectSameBytes(shown, new Uint8Array(SIZE));
  await image.close();
  check(path);
});

test('a backing file that is longer than the disk is not taken for saved state', async () => {
  const folder = temporaryFolder();
  const [base, path] = [join(folder, 'base'), join(folder, 'image.qcow2')];
  await createImage(base, { virtualSize: 64 << 20, clusterSize: 512 });
  qemuIo(base, 'write -P 3 0 8M');
  execFileSync('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    base,
    '-F',
    'qcow2',
    '-o',
    'cluster_size=4k',
    path,
    '1M',
  ]);
  await using image = await openImage(path, { write: true, gate: pathGate() });

  await image.writeVmState(1000, new Uint8Array(2000).fill(5));

  const expected = new Uint8Array(8192).fill(5, 1000, 3000);
  expectSameBytes(await state(image, 0, 8192), expected);
  await image.close();
  check(path);
});

test('what has no place for it is refused by name', async () => {
  const path = await made({ clusterSize: 512 });
  await using image = await openImage(path);

  await expect(image.writeVmState(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_READ_ONLY' });
  await expect(image.readVmState(2 ** 52, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
});
