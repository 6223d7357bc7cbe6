/** Corral's check counts what `qemu-img check` counts: extended L2 entries and external data files, sound and damaged. */

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { COPIED, corralCheck, Damage, makeImage, qemuCheck, TINY } from './check-fixture.js';

const CLUSTER = 16384;
const COMPRESSED = 1n << 62n;
const at = (cluster: number) => cluster * CLUSTER;

interface Case {
  name: string;
  damage(image: Damage): void;
  corruptions: number;
  leaks: number;
}

async function expectAgreement(image: Damage, { damage, corruptions, leaks }: Omit<Case, 'name'>): Promise<void> {
  damage(image);
  image.save();

  const expected = qemuCheck(image.path);

  expect(expected).toMatchObject({ corruptions, leaks });
  expect(await corralCheck(image.path)).toEqual(expected);
  expect(await corralCheck(image.path, TINY)).toEqual(expected);
}

describe('extended L2 entries', () => {
  /** Guest clusters 0-2 whole, 5 in part, 6 zeros, 8 in part zeros, 20 compressed, 1500 in the next table. */
  const extendedImage = () =>
    new Damage(
      makeImage({ clusterSize: CLUSTER, size: 32 << 20, more: ['extended_l2=on'] }, [
        `write 0 ${at(3)}`,
        `write ${at(5) + 512} 1024`,
        `write -z ${at(6)} ${CLUSTER}`,
        `write ${at(8)} ${CLUSTER}`,
        `write -z ${at(8)} 2048`,
        `write -c -P 3 ${at(20)} ${CLUSTER}`,
        `write ${at(1500)} 4096`,
      ]),
    );
  const bitmapOf = (image: Damage, cluster: number) => image.l2(cluster) + 8;

  test.each<Case>([
    { name: 'a sound image', damage() {}, corruptions: 0, leaks: 0 },
    {
      name: 'COPIED missing',
      damage: (image) => image.flip(image.l2(5), COPIED),
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'a subcluster that is allocated and zero',
      damage: (image) => image.flip(bitmapOf(image, 0), 1n << 40n),
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'an allocated subcluster without a host cluster',
      damage: (image) => image.set(bitmapOf(image, 30), 1n),
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'a compressed cluster with subclusters',
      damage: (image) => image.set(bitmapOf(image, 20), 2n),
      corruptions: 1,
      leaks: 1,
    },
    {
      name: 'a cluster that is not aligned',
      damage: (image) => image.flip(image.l2(2), 512n),
      corruptions: 2,
      leaks: 0,
    },
  ])('$name', (given) => expectAgreement(extendedImage(), given));

  test('bit 0 of an entry is reserved: QEMU does not look at it', async () => {
    const image = extendedImage();
    image.flip(image.l2(1), 1n);
    image.save();

    const report = await corralCheck(image.path);

    expect(qemuCheck(image.path)).toMatchObject({ corruptions: 0 });
    expect(report).toMatchObject({ corruptions: 1, leaks: 0 });
  });
});

describe('an external data file', () => {
  const imageWithDataFile = () => {
    const dataFile = join(temporaryFolder(), 'data.raw');
    return new Damage(
      makeImage({ clusterSize: CLUSTER, size: 64 << 20, more: [`data_file=${dataFile}`] }, [
        `write 0 ${at(3)}`,
        `write ${at(7)} ${at(2)}`,
        `write -z ${at(8)} ${CLUSTER}`,
        `write ${at(2100)} ${CLUSTER}`,
      ]),
    );
  };

  test.each<Case>([
    { name: 'a sound image: data clusters have no refcounts', damage() {}, corruptions: 0, leaks: 0 },
    {
      name: 'COPIED missing: it is always set there',
      damage: (image) => image.flip(image.l2(7), COPIED),
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'a compressed cluster',
      damage: (image) => image.set(image.l2(7), COMPRESSED | 12345n),
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'a cluster that is not aligned',
      damage: (image) => image.flip(image.l2(7), 512n),
      corruptions: 1,
      leaks: 0,
    },
    {
      name: 'a leaked cluster of metadata',
      damage: (image) => image.set(image.l1(1), 0n),
      corruptions: 0,
      leaks: 1,
    },
  ])('$name', (given) => expectAgreement(imageWithDataFile(), given));
});
