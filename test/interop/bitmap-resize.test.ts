/** The disk of an image with bitmaps gets another size: QEMU finds the bitmaps as if it had done that itself. */

import { execFileSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { all, newImage, qemuBitmap, qemuBitmaps, qemuCheck, qemuIo, qemuRanges, ranges } from './bitmap-fixture.js';

const KIB = 1024;
const MIB = 1 << 20;

function qemuResize(path: string, size: number): void {
  execFileSync('qemu-img', ['resize', '-q', '--shrink', '-f', 'qcow2', path, String(size)], { stdio: 'pipe' });
}

async function resize(path: string, size: number): Promise<void> {
  await using image = await openImage(path, { write: true });
  await image.resize(size, { shrink: true });
}

/** Clusters of 512 bytes hold the bits of 2 MiB at the finest granularity. */
function fineImage(size: number): string {
  const path = newImage(size, 'cluster_size=512');
  qemuBitmap(path, 'fine', '--add', '-g', '512');
  qemuBitmap(path, 'off', '--add', '-g', '4096');
  qemuBitmap(path, 'coarse', '--add', '-g', String(MIB));
  return path;
}

async function expectSame(path: string, theirs: string, names = ['fine', 'off', 'coarse'], hint = ''): Promise<void> {
  expect(qemuBitmaps(path), hint).toEqual(qemuBitmaps(theirs));
  for (const name of names) {
    const expected = await qemuRanges(theirs, name);
    expect(await qemuRanges(path, name), hint).toEqual(expected);
    expect(await ranges(path, name), hint).toEqual(expected);
  }
  qemuCheck(path);
}

describe('a disk with bitmaps', () => {
  test.each([
    ['longer', [20 * MIB]],
    ['a little longer', [6 * MIB + 1536]],
    ['shorter', [3 * MIB + 512]],
    ['much shorter', [512]],
    ['shorter at the end of a cluster of bits', [4 * MIB]],
    ['shorter, and longer again: what was cut off is clean', [3 * MIB + 512, 9 * MIB]],
    ['longer, and shorter again', [40 * MIB, 6 * MIB]],
    ['as long as it was', [6 * MIB + 512]],
  ])('becomes %s', async (_, sizes) => {
    const path = fineImage(6 * MIB + 512);
    qemuIo(path, 'write 1M 64k', 'write 2M 2M', `write 5M ${MIB + 512}`);
    qemuBitmap(path, 'off', '--disable');
    qemuIo(path, 'write 0 4k');
    const theirs = `${path}.theirs`;
    copyFileSync(path, theirs);

    for (const size of sizes) {
      qemuResize(theirs, size);
      await resize(path, size);
    }

    await expectSame(path, theirs);
  });

  test('goes on being noted, before and after', async () => {
    const path = fineImage(4 * MIB);
    {
      await using image = await openImage(path, { write: true });
      await image.write(MIB, new Uint8Array(KIB).fill(1));
      await image.resize(16 * MIB);
      await image.write(12 * MIB, new Uint8Array(KIB).fill(2));
      await image.resize(8 * MIB, { shrink: true });
      await image.write(7 * MIB, new Uint8Array(KIB).fill(3));

      expect(await all(image.bitmaps.ranges('fine'))).toEqual([
        { offset: MIB, length: KIB },
        { offset: 7 * MIB, length: KIB },
      ]);
      expect(qemuBitmaps(path, '-U').map(({ flags }) => flags)).toEqual([
        ['in-use', 'auto'],
        ['in-use', 'auto'],
        ['in-use', 'auto'],
      ]);
    }

    expect(await qemuRanges(path, 'fine')).toEqual([
      { offset: MIB, length: KIB },
      { offset: 7 * MIB, length: KIB },
    ]);
    qemuCheck(path);
  });

  test('keeps its snapshots, which have no bitmaps', async () => {
    const path = fineImage(4 * MIB);
    {
      await using image = await openImage(path, { write: true });
      await image.write(3 * MIB, new Uint8Array(KIB).fill(1));
      await image.snapshots.create({ name: 's' });
      await image.resize(2 * MIB, { shrink: true });
      await image.write(0, new Uint8Array(512).fill(1));
    }

    expect(await qemuRanges(path, 'fine')).toEqual([{ offset: 0, length: 512 }]);
    qemuCheck(path);
  });

  test('keeps its size while a bitmap is inconsistent, as with QEMU', async () => {
    const path = fineImage(4 * MIB);
    const abandoned = await openImage(path, { write: true, lock: false });
    await abandoned.write(0, new Uint8Array(512));
    await using image = await openImage(path, { write: true });

    const resized = image.resize(8 * MIB);

    await expect(resized).rejects.toThrow(/inconsistent and cannot be used/);
    expect(image.size).toBe(4 * MIB);
    await image.close();
    expect(() => qemuResize(path, 8 * MIB)).toThrow(/inconsistent and cannot be used/);
    qemuCheck(path);
  });

  test('does not become so long that a bitmap would be larger than QEMU takes', async () => {
    const path = newImage(64 * MIB);
    qemuBitmap(path, 'b', '--add', '-g', '512');
    await using image = await openImage(path, { write: true });

    const resized = image.resize(20 * 2 ** 40);

    await expect(resized).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    expect(image.size).toBe(64 * MIB);
    await image.close();
    qemuCheck(path);
    expect(qemuBitmaps(path)).toMatchObject([{ name: 'b', flags: ['auto'] }]);
  });

  test('random sizes and writes give what QEMU has', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = fineImage(5 * MIB);
    const theirs = `${path}.theirs`;
    copyFileSync(path, theirs);
    let size = 5 * MIB;

    for (let round = 0; round < 8; round++) {
      const offset = below(random, size / 512) * 512;
      const length = Math.min(size - offset, (1 + below(random, 2000)) * 512);
      const next = (1 + below(random, 20000)) * 512;
      qemuIo(theirs, `write ${offset} ${length}`);
      qemuResize(theirs, next);
      {
        await using image = await openImage(path, { write: true });
        await image.write(offset, new Uint8Array(length).fill(1));
        await image.resize(next, { shrink: true });
      }
      size = next;
    }

    await expectSame(path, theirs, undefined, `CORRAL_SEED=${seed}`);
  });
});

describe('snapshots of an image with bitmaps', () => {
  test('are made and deleted, and the bitmaps stay', async () => {
    const path = fineImage(4 * MIB);
    qemuIo(path, 'write 1M 1k');
    {
      await using image = await openImage(path, { write: true });
      await image.snapshots.create({ name: 's' });
      await image.write(2 * MIB, new Uint8Array(512).fill(1));
      await image.snapshots.create({ name: 't' });
      await image.snapshots.delete('s');
    }

    expect(await qemuRanges(path, 'fine')).toEqual([
      { offset: MIB, length: KIB },
      { offset: 2 * MIB, length: 512 },
    ]);
    qemuCheck(path);
  });

  test('are not applied, as QEMU does not either', async () => {
    const path = fineImage(4 * MIB);
    execFileSync('qemu-img', ['snapshot', '-c', 's', path]);
    await using image = await openImage(path, { write: true });

    const applied = image.snapshots.apply('s');

    await expect(applied).rejects.toThrow(/Device has active dirty bitmaps/);
    await image.close();
    const qemu = () => execFileSync('qemu-img', ['snapshot', '-a', 's', path], { stdio: 'pipe' });
    expect(qemu).toThrow(/Device has active dirty bitmaps/);
    qemuCheck(path);
  });
});
