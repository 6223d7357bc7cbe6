/** Persistent dirty bitmaps, made and kept by Corral and by QEMU in turn: same list, same dirty ranges, clean checks. */

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createImage, NodeFile, openImage } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';
import { all, newImage, qemuBitmap, qemuBitmaps, qemuCheck, qemuIo, qemuRanges, ranges } from './bitmap-fixture.js';

const MIB = 1 << 20;

describe('a bitmap that Corral makes', () => {
  test('is listed by QEMU with its granularity and flags', async () => {
    const path = newImage('100M');
    {
      await using image = await openImage(path, { write: true });
      await image.bitmaps.add('first');
      await image.bitmaps.add('second', { granularity: 4096, disabled: true });
      await image.bitmaps.add('ünïcödé 😀', { granularity: 2 ** 31 });
    }

    expect(qemuBitmaps(path)).toEqual([
      { name: 'first', granularity: 65536, flags: ['auto'] },
      { name: 'second', granularity: 4096, flags: [] },
      { name: 'ünïcödé 😀', granularity: 2 ** 31, flags: ['auto'] },
    ]);
    qemuCheck(path);
  });

  test.each(['1.1', 'raw data file'])('has room in a header of 512 bytes that Corral made (%s)', async (kind) => {
    const path = join(temporaryFolder(), 'image.qcow2');
    const behind = kind === '1.1' ? {} : { dataFile: `${path}.data`, dataFileRaw: true };
    await createImage(path, { virtualSize: MIB, clusterSize: 512, ...behind });
    if (kind !== '1.1') writeFileSync(`${path}.data`, new Uint8Array(MIB));
    const dataFile = kind === '1.1' ? undefined : await NodeFile.open(`${path}.data`, { write: true });
    const image = await openImage(path, { write: true, dataFile });

    await image.bitmaps.add('first');
    await image.close();

    expect(qemuBitmaps(path)).toEqual([{ name: 'first', granularity: 4096, flags: ['auto'] }]);
    qemuCheck(path);
  });

  test.each([512, 4096, 65536, 2 * MIB])(
    'has the default granularity that QEMU takes, clusters of %i',
    async (size) => {
      const path = newImage('10M', `cluster_size=${size}`);
      qemuBitmap(path, 'theirs', '--add');
      {
        await using image = await openImage(path, { write: true });
        await image.bitmaps.add('ours');
      }

      const [theirs, ours] = qemuBitmaps(path);
      expect(ours?.granularity).toBe(theirs?.granularity);
      qemuCheck(path);
    },
  );

  test('notes what the guest changes, when it is enabled', async () => {
    const path = newImage('100M');
    {
      await using image = await openImage(path, { write: true });
      await image.bitmaps.add('on');
      await image.bitmaps.add('off', { disabled: true });
      await image.write(5 * MIB, new Uint8Array(100_000).fill(1));
      await image.writeZeroes(20 * MIB, 65536);
      await image.discard(30 * MIB + 1000, 4 * MIB);
    }

    const expected = [
      { offset: 5 * MIB, length: 131072 },
      { offset: 20 * MIB, length: 65536 },
      { offset: 30 * MIB, length: 4 * MIB + 65536 },
    ];
    expect(await qemuRanges(path, 'on')).toEqual(expected);
    expect(await ranges(path, 'on')).toEqual(expected);
    expect(await qemuRanges(path, 'off')).toEqual([]);
    qemuCheck(path);
  });
});

describe('bitmaps that QEMU made', () => {
  test('go on noting when Corral writes, and go on when QEMU writes after it', async () => {
    const path = newImage('64M');
    qemuBitmap(path, 'b', '--add', '-g', '4096');
    qemuIo(path, 'write 1M 4k');
    {
      await using image = await openImage(path, { write: true });
      await image.write(2 * MIB, new Uint8Array(4096).fill(1));
    }
    qemuIo(path, 'write 3M 4k');

    const expected = [1, 2, 3].map((mebibyte) => ({ offset: mebibyte * MIB, length: 4096 }));
    expect(await qemuRanges(path, 'b')).toEqual(expected);
    expect(await ranges(path, 'b')).toEqual(expected);
    qemuCheck(path);
  });

  test('are removed without a trace', async () => {
    const path = newImage('64M', 'cluster_size=4096');
    for (const name of ['a', 'b', 'c']) qemuBitmap(path, name, '--add', '-g', '512');
    qemuIo(path, 'write 0 64M');
    await using image = await openImage(path, { write: true });

    for (const name of ['b', 'a', 'c']) await image.bitmaps.remove(name);

    expect(await image.bitmaps.list()).toEqual([]);
    await image.close();
    expect(qemuBitmaps(path)).toEqual([]);
    qemuCheck(path);
    qemuBitmap(path, 'again', '--add');
    qemuCheck(path);
  });

  test('are left as they are by who writes nothing', async () => {
    const path = newImage('64M');
    qemuBitmap(path, 'b', '--add');
    await using image = await openImage(path, { write: true });

    const [theirs] = qemuBitmaps(path, '-U');

    expect(theirs?.flags).toEqual(['auto']);
    await image.close();
  });

  test('are in use from the first change to the close', async () => {
    const path = newImage('64M');
    qemuBitmap(path, 'b', '--add');
    await using image = await openImage(path, { write: true });
    await image.write(0, new Uint8Array(512));

    const [theirs] = qemuBitmaps(path, '-U');
    const [ours] = await image.bitmaps.list();

    expect(theirs?.flags).toEqual(['in-use', 'auto']);
    expect(ours).toMatchObject({ enabled: true, inconsistent: false });
    await image.close();
    expect(qemuBitmaps(path)[0]?.flags).toEqual(['auto']);
  });
});

describe('merging', () => {
  test.each([
    ['coarse', 65536, 'fine', 512],
    ['fine', 512, 'coarse', 65536],
  ])('into a %s bitmap (%i) from a %s one (%i) gives what QEMU gives', async (_, target, __, source) => {
    const path = newImage('64M');
    qemuBitmap(path, 'source', '--add', '-g', String(source));
    qemuIo(path, 'write 1M 512', 'write 10M 3M', 'write 67108352 512');
    qemuBitmap(path, 'ours', '--add', '--disable', '-g', String(target));
    qemuBitmap(path, 'theirs', '--add', '--disable', '-g', String(target));
    qemuBitmap(path, 'theirs', '--merge', 'source');
    {
      await using image = await openImage(path, { write: true });
      await image.bitmaps.merge('ours', 'source');
    }

    const ours = await qemuRanges(path, 'ours');
    expect(ours).toEqual(await qemuRanges(path, 'theirs'));
    expect(ours.length).toBe(3);
    qemuCheck(path);
  });
});

describe('an inconsistent bitmap', () => {
  /** An image whose writer died: QEMU marks its bitmaps when it opens the image, and stores them when it closes it. */
  async function abandoned(): Promise<string> {
    const path = newImage('64M');
    qemuBitmap(path, 'lost', '--add');
    qemuBitmap(path, 'kept', '--add', '--disable');
    const image = await openImage(path, { write: true, lock: false });
    await image.write(0, new Uint8Array(512));
    // Never closed.
    return path;
  }

  test('can only be removed', async () => {
    const path = await abandoned();
    await using image = await openImage(path, { write: true });
    const { bitmaps } = image;

    const inconsistent = expect.objectContaining({ message: "Bitmap 'lost' is inconsistent and cannot be used" });
    await expect(bitmaps.enable('lost')).rejects.toEqual(inconsistent);
    await expect(bitmaps.disable('lost')).rejects.toEqual(inconsistent);
    await expect(bitmaps.clear('lost')).rejects.toEqual(inconsistent);
    await expect(bitmaps.merge('kept', 'lost')).rejects.toEqual(inconsistent);
    await expect(bitmaps.merge('lost', 'kept')).rejects.toEqual(inconsistent);
    await expect(all(bitmaps.ranges('lost'))).rejects.toEqual(inconsistent);
    expect(await bitmaps.list()).toMatchObject([{ name: 'lost', inconsistent: true }, { name: 'kept' }]);
    await bitmaps.remove('lost');

    await image.close();
    expect(qemuBitmaps(path)).toMatchObject([{ name: 'kept', flags: [] }]);
    qemuCheck(path);
  });

  test('stays inconsistent whatever is written afterwards', async () => {
    const path = await abandoned();

    {
      await using image = await openImage(path, { write: true });
      await image.write(MIB, new Uint8Array(512));
    }

    expect(qemuBitmaps(path)).toMatchObject([{ flags: ['in-use', 'auto'] }, { flags: [] }]);
    qemuCheck(path);
  });
});

describe('an image with a backing file', () => {
  test.each([0, 1000])('gets a bitmap although its name is in the way, a name of %i more bytes', async (more) => {
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    const name = `${'./'.repeat(more / 2)}base.raw`;
    execFileSync('qemu-img', ['create', '-q', '-f', 'raw', join(folder, 'base.raw'), '1M']);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', name, '-F', 'raw', path]);
    const before = backing(path);
    {
      await using image = await openImage(path, { write: true, tablesOnly: true });
      await image.bitmaps.add('b');
    }

    expect(qemuBitmaps(path)).toMatchObject([{ name: 'b', flags: ['auto'] }]);
    expect(backing(path)).toEqual(before);
    qemuCheck(path);
    qemuBitmap(path, 'b', '--remove');
    qemuCheck(path);
  });

  function backing(path: string): unknown {
    const facts = JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' }));
    return [facts['backing-filename'], facts['backing-filename-format']];
  }
});

describe('many bitmaps', () => {
  test('make a directory of several clusters, and each of them is found', async () => {
    const path = newImage('1M', 'cluster_size=512');
    const names = Array.from({ length: 60 }, (_, index) => `${index}`.padEnd(index * 17 + 2, 'x'));
    {
      await using image = await openImage(path, { write: true });
      for (const name of names) await image.bitmaps.add(name);
      await image.write(0, new Uint8Array(512).fill(1));
    }

    expect(qemuBitmaps(path).map(({ name }) => name)).toEqual(names);
    expect(await ranges(path, names[59] as string)).toEqual([{ offset: 0, length: 4096 }]);
    qemuCheck(path);
    {
      await using image = await openImage(path, { write: true });
      for (const name of names.slice(1)) await image.bitmaps.remove(name);
      expect((await image.bitmaps.list()).map(({ name }) => name)).toEqual(names.slice(0, 1));
    }
    qemuCheck(path);
  });
});

describe('an image that was changed by a program without bitmaps', () => {
  test('has none any more, and can be written', async () => {
    const path = newImage('64M');
    qemuBitmap(path, 'b', '--add');
    const file = openSync(path, 'r+');
    writeSync(file, new Uint8Array(8), 0, 8, 88);
    closeSync(file);
    {
      await using image = await openImage(path, { write: true });
      expect(await image.bitmaps.list()).toEqual([]);
      await image.write(0, new Uint8Array(512).fill(1));
      await image.bitmaps.add('b');
    }

    expect(qemuBitmaps(path)).toMatchObject([{ name: 'b', flags: ['auto'] }]);
  });
});
