/** A bitmap of one image is merged into that of another one: QEMU finds the same ranges as if it had done that itself. */

import { copyFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Bitmaps } from '../../host/bitmaps.js';
import { openImage } from '../../host/node/index.js';
import { newImage, qemuBitmap, qemuBitmaps, qemuCheck, qemuIo, qemuRanges, ranges } from './bitmap-fixture.js';

const MIB = 1 << 20;
const SIZE = 64 * MIB;

/** An image with a bitmap `source` in which many pieces are dirty. */
function sourceImage(granularity: number, size = SIZE): string {
  const path = newImage(size, 'cluster_size=4096');
  qemuBitmap(path, 'source', '--add', '-g', String(granularity));
  qemuIo(path, 'write 1M 512', 'write 10M 3M', `write ${size - 512} 512`);
  return path;
}

describe('a bitmap of another image', () => {
  test.each([
    [512, 65536],
    [65536, 512],
    [4096, 4096],
  ])('of granularity %i is merged into one of %i as QEMU does it', async (from, into) => {
    const source = sourceImage(from);
    const path = newImage(SIZE);
    qemuBitmap(path, 'b', '--add', '-g', String(into));
    qemuIo(path, 'write 30M 100k');
    const theirs = `${path}.theirs`;
    copyFileSync(path, theirs);
    qemuBitmap(theirs, 'b', '--merge', 'source', '-b', source, '-F', 'qcow2');
    {
      await using other = await openImage(source);
      await using image = await openImage(path, { write: true });
      await image.bitmaps.mergeFrom('b', other, 'source');
    }

    const expected = await qemuRanges(theirs, 'b');
    expect(await qemuRanges(path, 'b')).toEqual(expected);
    expect(await ranges(path, 'b')).toEqual(expected);
    expect(expected).toHaveLength(4);
    qemuCheck(path);
  });

  test('may have more pieces than one request can carry', async () => {
    const path = newImage(SIZE);
    const source = newImage(SIZE);
    const offsets = Array.from({ length: 9000 }, (_, index) => index * 4096);
    {
      await using other = await openImage(source, { write: true });
      await other.bitmaps.add('source', { granularity: 512 });
      for (const offset of offsets) await other.write(offset, new Uint8Array(512));
      await using image = await openImage(path, { write: true });
      await image.bitmaps.add('b', { granularity: 512 });
      await image.bitmaps.mergeFrom('b', other, 'source');
    }

    expect(await qemuRanges(path, 'b')).toEqual(offsets.map((offset) => ({ offset, length: 512 })));
    qemuCheck(path);
  });

  test('goes on being kept up to date, as the target does', async () => {
    const source = sourceImage(4096);
    const path = newImage(SIZE);
    {
      await using other = await openImage(source, { write: true });
      await using image = await openImage(path, { write: true });
      await image.bitmaps.add('b', { granularity: 4096 });
      await other.write(50 * MIB, new Uint8Array(512));
      await image.bitmaps.mergeFrom('b', other, 'source');
      await image.write(60 * MIB, new Uint8Array(512));
    }

    const found = await qemuRanges(path, 'b');
    expect(found).toContainEqual({ offset: 50 * MIB, length: 4096 });
    expect(found).toContainEqual({ offset: 60 * MIB, length: 4096 });
    expect(qemuBitmaps(path)).toMatchObject([{ flags: ['auto'] }]);
    qemuCheck(path);
  });

  test('that cannot be read to its end changes nothing', async () => {
    const path = newImage(SIZE);
    qemuBitmap(path, 'b', '--add', '-g', '512');
    qemuIo(path, 'write 30M 512');
    const before = await qemuRanges(path, 'b');
    async function* broken() {
      for (let index = 0; index < 9000; index++) yield { offset: index * 4096, length: 512 };
      throw new Error('no more');
    }
    {
      await using image = await openImage(path, { write: true });
      const bitmaps = Object.assign(Object.create(Bitmaps.prototype) as Bitmaps, { ranges: broken });

      await expect(image.bitmaps.mergeFrom('b', { size: SIZE, bitmaps }, 'source')).rejects.toThrow('no more');
    }

    expect(await qemuRanges(path, 'b')).toEqual(before);
    expect(qemuBitmaps(path)).toMatchObject([{ name: 'b', flags: ['auto'] }]);
    qemuCheck(path);
  });

  test('is not merged into a bitmap of a disk of another size, nor when it is inconsistent or missing', async () => {
    const source = sourceImage(4096, 32 * MIB);
    const abandoned = await openImage(source, { write: true, lock: false });
    await abandoned.bitmaps.add('lost');
    await abandoned.bitmaps.disable('source');
    await abandoned.write(0, new Uint8Array(512));
    await using other = await openImage(source);
    const path = newImage(SIZE);
    qemuBitmap(path, 'b', '--add');
    await using image = await openImage(path, { write: true });
    const { bitmaps } = image;

    await expect(bitmaps.mergeFrom('b', other, 'source')).rejects.toThrow(/different sizes/);
    await expect(bitmaps.mergeFrom('b', other, 'lost')).rejects.toThrow(/inconsistent and cannot be used/);
    await expect(bitmaps.mergeFrom('b', other, 'nowhere')).rejects.toThrow("Dirty bitmap 'nowhere' not found");
    await expect(bitmaps.mergeFrom('nowhere', other, 'source')).rejects.toThrow("Dirty bitmap 'nowhere' not found");
    await image.close();
    expect(await qemuRanges(path, 'b')).toEqual([]);
    qemuCheck(path);
  });
});
