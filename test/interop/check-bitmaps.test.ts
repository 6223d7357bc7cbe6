/** Images with persistent bitmaps: Corral's check counts what `qemu-img check` counts, and a repair keeps the bitmaps. */

import { copyFileSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { repairImage } from '../../host/index.js';
import { loadCore, NodeFile } from '../../host/node/index.js';
import { madeOnce } from '../made-once.js';
import { qemuBitmap, qemuBitmaps, qemuRanges, ranges } from './bitmap-fixture.js';
import { corralCheck, Damage, io, makeImage, qemuCheck, snapshot, TINY } from './check-fixture.js';

const CLUSTER = 4096;
const KIB = 1024;
const MIB = 1 << 20;
const EXTENSION = 0x23852875;
const IN_USE = 1;

/** An image with the bitmaps `b` (enabled, two clusters of bits) and `d` (disabled), and where their structures are. */
class BitmapDamage extends Damage {
  readonly extension: number;
  readonly directory: number;
  readonly table: number;
  /** The first table entry that names a cluster. */
  readonly entry: number;

  constructor(path: string) {
    super(path);
    this.extension = this.bytes.indexOf(Buffer.from(EXTENSION.toString(16), 'hex')) + 8;
    this.directory = this.number(this.extension + 16);
    this.table = this.number(this.directory);
    const entries = Array.from({ length: this.bytes.readUInt32BE(this.directory + 8) }, (_, n) => this.table + n * 8);
    this.entry = entries.find((offset) => this.word(offset) > 1n) as number;
  }

  /** The first bitmap was not stored. */
  setInUse(): void {
    this.bytes.writeUInt32BE(this.bytes.readUInt32BE(this.directory + 12) | IN_USE, this.directory + 12);
  }
}

function bitmapImage(): BitmapDamage {
  const path = madeOnce('bitmaps', (copy) => {
    copyFileSync(makeImage({ clusterSize: CLUSTER, size: 64 * MIB }), copy);
    qemuBitmap(copy, 'b', '--add', '-g', '512');
    qemuBitmap(copy, 'd', '--add', '--disable', '-g', '4096');
    io(copy, ['write 1M 64k', 'write 40M 2M']);
  });
  return new BitmapDamage(path);
}

interface Case {
  name: string;
  damage(image: BitmapDamage): void;
  corruptions: number;
  leaks: number;
}

describe('a check of an image with bitmaps', () => {
  test.each<Case>([
    { name: 'a sound image', damage() {}, corruptions: 0, leaks: 0 },
    { name: 'a bitmap that was not stored', damage: (image) => image.setInUse(), corruptions: 0, leaks: 0 },
    {
      name: 'bits beyond the end of the file',
      damage: (image) => image.set(image.entry, 1n << 40n),
      corruptions: 1,
      leaks: 1,
    },
    {
      name: 'bits in use twice',
      damage: (image) => image.set(image.entry + 8, image.word(image.entry)),
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'bits in the refcount table',
      damage: (image) => image.set(image.entry, BigInt(image.refcountTableOffset)),
      corruptions: 1,
      leaks: 1,
    },
    {
      name: 'a table beyond the end of the file',
      damage: (image) => image.set(image.directory, 1n << 40n),
      corruptions: 1,
      leaks: 3,
    },
    {
      name: 'a table that is longer than it was, in a bitmap that was not stored',
      damage: (image) => {
        image.setInUse();
        image.bytes.writeUInt32BE(600, image.directory + 8);
      },
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'no autoclear bit: there are no bitmaps any more',
      damage: (image) => image.set(88, 0n),
      corruptions: 0,
      leaks: 5,
    },
    {
      name: 'a refcount that is too high',
      damage: (image) => image.setRefcount(image.directory / CLUSTER, 2),
      corruptions: 0,
      leaks: 1,
    },
    {
      name: 'refcounts that are too low',
      damage: (image) => {
        image.setRefcount(image.directory / CLUSTER, 0);
        image.setRefcount(image.table / CLUSTER, 0);
      },
      corruptions: 2,
      leaks: 0,
    },
  ])('counts as QEMU counts: $name', async ({ damage, corruptions, leaks }) => {
    const image = bitmapImage();
    damage(image);
    image.save();

    const expected = qemuCheck(image.path);

    expect(expected).toMatchObject({ corruptions, leaks });
    expect(await corralCheck(image.path)).toEqual(expected);
    expect(await corralCheck(image.path, TINY)).toEqual(expected);
  });

  test.each<Omit<Case, 'corruptions' | 'leaks'>>([
    { name: 'reserved bits in a table', damage: (image) => image.flip(image.entry, 2n) },
    { name: 'bits that are all ones and have a cluster', damage: (image) => image.flip(image.entry, 1n) },
    { name: 'bits at an unaligned offset', damage: (image) => image.flip(image.entry, 512n) },
    {
      name: 'reserved bits in the table of a bitmap that was not stored',
      damage: (image) => {
        image.setInUse();
        image.flip(image.entry, 2n);
      },
    },
    { name: 'an unaligned table', damage: (image) => image.flip(image.directory, 512n) },
    { name: 'no table', damage: (image) => image.bytes.writeUInt32BE(0, image.directory + 8) },
    { name: 'a table too long', damage: (image) => image.bytes.writeUInt32BE(1 << 30, image.directory + 8) },
    { name: 'a table for another disk size', damage: (image) => image.bytes.writeUInt32BE(40, image.directory + 8) },
    { name: 'an unknown type', damage: (image) => image.bytes.writeUInt8(2, image.directory + 16) },
    { name: 'a granularity too small', damage: (image) => image.bytes.writeUInt8(8, image.directory + 17) },
    { name: 'reserved flags', damage: (image) => image.flip(image.directory + 8, 8n) },
    {
      name: 'extra data that is too long',
      damage: (image) => image.bytes.writeUInt32BE(1 << 20, image.directory + 20),
    },
    { name: 'a directory beyond the end', damage: (image) => image.set(image.extension + 16, 1n << 40n) },
    { name: 'an unaligned directory', damage: (image) => image.flip(image.extension + 16, 512n) },
    { name: 'a directory too long', damage: (image) => image.set(image.extension + 8, 72n) },
    { name: 'a directory too short', damage: (image) => image.set(image.extension + 8, 56n) },
    { name: 'more bitmaps than there are', damage: (image) => image.bytes.writeUInt32BE(3, image.extension) },
    { name: 'fewer bitmaps than there are', damage: (image) => image.bytes.writeUInt32BE(1, image.extension) },
    { name: 'no bitmaps', damage: (image) => image.bytes.writeUInt32BE(0, image.extension) },
  ])('finds what QEMU does not check to the end: $name', async ({ damage }) => {
    const image = bitmapImage();
    damage(image);
    image.save();

    const report = await corralCheck(image.path);

    expect(typeof qemuCheck(image.path)).toBe('string');
    expect(report.corruptions).toBeGreaterThan(0);
    expect(report.checkErrors).toBeGreaterThan(0);
  });
});

describe('a repair of an image with bitmaps', () => {
  async function repair(path: string, kind: 'leaks' | 'all', checkSize?: number) {
    const file = await NodeFile.open(path, { write: true });
    try {
      return (await repairImage(file, kind, { core: loadCore(), checkSize })).report;
    } finally {
      await file.close();
    }
  }

  test.each<{ name: string; kind: 'leaks' | 'all'; damage(image: BitmapDamage): void }>([
    {
      name: 'leaked clusters',
      kind: 'leaks',
      damage: (image) => image.setRefcount(image.directory / CLUSTER, 3),
    },
    {
      name: 'refcounts that are too low',
      kind: 'all',
      damage: (image) => {
        for (const offset of [image.table, image.number(image.entry)]) image.setRefcount(offset / CLUSTER, 0);
      },
    },
    {
      name: 'new refcount structures',
      kind: 'all',
      damage: (image) => image.flip(image.refcountTableOffset, 1n),
    },
  ])('leaves them as they were: $name', async ({ kind, damage }) => {
    const image = bitmapImage();
    const { path } = image;
    const before = [await qemuRanges(path, 'b'), await qemuRanges(path, 'd'), qemuBitmaps(path)];
    damage(image);
    image.save();

    const report = await repair(path, kind, kind === 'all' ? 70 * KIB : undefined);

    expect(report).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    expect(report.corruptionsFixed + report.leaksFixed).toBeGreaterThan(0);
    expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
    expect([await qemuRanges(path, 'b'), await qemuRanges(path, 'd'), qemuBitmaps(path)]).toEqual(before);
    expect(await ranges(path, 'b')).toEqual(before[0]);
  });

  test('works beside snapshots, which know nothing of bitmaps', async () => {
    const made = bitmapImage();
    snapshot(made.path, 's');
    io(made.path, ['write 3M 1M']);
    const image = new BitmapDamage(made.path);
    image.setRefcount(image.directory / CLUSTER, 0);
    image.save();
    const before = await qemuRanges(image.path, 'b');

    const report = await repair(image.path, 'all');

    expect(report).toMatchObject({ corruptions: 0, corruptionsFixed: 1 });
    expect(await qemuRanges(image.path, 'b')).toEqual(before);
    expect(qemuCheck(image.path)).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test('frees the clusters of bitmaps that do not count any more, and nothing else', async () => {
    const image = bitmapImage();
    image.set(88, 0n);
    image.save();

    const report = await repair(image.path, 'leaks');

    expect(report).toMatchObject({ leaks: 0, leaksFixed: 5 });
    expect(qemuCheck(image.path)).toMatchObject({ corruptions: 0, leaks: 0 });
    qemuBitmap(image.path, 'again', '--add');
    expect(qemuCheck(image.path)).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test('frees nothing when it is not known what a bitmap names', async () => {
    const image = bitmapImage();
    image.setInUse();
    image.flip(image.entry, 2n);
    image.setRefcount(Math.ceil(image.bytes.length / CLUSTER), 1);
    image.save();
    const before = readFileSync(image.path);

    const report = await repair(image.path, 'leaks');

    expect(report).toMatchObject({ leaksKept: true, leaksFixed: 0 });
    expect(readFileSync(image.path).equals(before)).toBe(true);
  });
});
