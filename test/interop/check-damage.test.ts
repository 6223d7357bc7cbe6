/** On damaged images Corral counts the corruptions and leaks that `qemu-img check` counts, but where the names say why not. */

import { describe, expect, test } from 'vitest';
import { below, chooseSeed, randomFrom } from '../random.js';
import { COPIED, corralCheck, Damage, makeImage, OFFSET, qemuCheck, TINY } from './check-fixture.js';
import {
  CLUSTER,
  type DamageCase,
  damageCases,
  imageWithSnapshots,
  plainImage,
  snapshotDamageCases,
} from './damage-cases.js';

/** Bits of a refcount table entry that leave it aligned and its offset a possible one. */
const READABLE = 0x7ffffffffffff1ffn;

describe('known damage', () => {
  test.each(damageCases)('$name', (given) => expectAgreement(plainImage(), given));

  test.each(snapshotDamageCases)('$name', (given) => expectAgreement(imageWithSnapshots(), given));
});

describe('the end of the file', () => {
  test('a last cluster that is cut short is sound', async () => {
    const image = plainImage();
    const last = image.hostCluster(603);
    image.save(last * CLUSTER + 1000);

    const expected = qemuCheck(image.path);

    expect(expected).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(await corralCheck(image.path)).toEqual(expected);
  });

  test.each([1, 2, 3])('a file that lacks its last %i clusters and a bit', async (count) => {
    const image = plainImage();
    const last = image.hostCluster(603);
    image.save((last - count) * CLUSTER + 700);

    const expected = qemuCheck(image.path);

    // Their refcounts are still there, so COPIED is right.
    expect(expected).toMatchObject({ corruptions: count, leaks: 0 });
    expect(await corralCheck(image.path)).toEqual(expected);
    expect(await corralCheck(image.path, TINY)).toEqual(expected);
  });
});

describe('where Corral counts otherwise', () => {
  test('an L2 table that is not aligned is not followed: QEMU reads half a table and half a data cluster', async () => {
    const image = plainImage();
    image.flip(image.l1(1), 512n);
    image.save();

    const report = await corralCheck(image.path);

    // Four clusters lost their entries; the wrong L1 entry touches the first of them.
    expect((qemuCheck(image.path) as { allocatedClusters: number }).allocatedClusters).toBeGreaterThan(16);
    expect(report).toMatchObject({ corruptions: 1, leaks: 3, allocatedClusters: 12 });
  });

  test('an L1 entry of flags without a table is one corruption: QEMU reads the header as an L2 table', async () => {
    const image = plainImage();
    image.set(image.l1(2), COPIED);
    image.save();

    const report = await corralCheck(image.path);

    expect((qemuCheck(image.path) as { corruptions: number }).corruptions).toBeGreaterThan(1);
    expect(report).toMatchObject({ corruptions: 1, leaks: 0 });
  });

  test('the zero flag in a version 2 image is a reserved bit there: QEMU accepts it', async () => {
    const image = new Damage(makeImage({ clusterSize: CLUSTER, compat: '0.10' }, ['write 0 64k']));
    image.flip(image.l2(3), 1n);
    image.save();

    const report = await corralCheck(image.path);

    expect(qemuCheck(image.path)).toMatchObject({ corruptions: 0 });
    expect(report).toMatchObject({ corruptions: 1, leaks: 0 });
  });
});

test('random damage is counted as QEMU counts it, in one window and in many', async () => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  for (let round = 0; round < 4; round++) {
    const sound = imageWithSnapshots();
    const bytes = Buffer.from(sound.bytes);
    for (let repeat = 0; repeat < 10; repeat++) {
      bytes.copy(sound.bytes);
      const log = Array.from({ length: 3 }, () => pokeAnEntry(sound, random));
      sound.save();

      const expected = qemuCheck(sound.path);

      const context = `seed ${seed}: ${log.join(', ')}`;
      expect(await corralCheck(sound.path), context).toEqual(expected);
      expect(await corralCheck(sound.path, TINY), context).toEqual(expected);
    }
  }
});

/** Changes one entry of an L2 table, the refcount table or a refcount block. Says what. */
function pokeAnEntry(image: Damage, random: () => number): string {
  const places = [
    image.l2(below(random, 30)),
    image.l2(600 + below(random, 10)),
    image.refcountTableOffset + 8 * below(random, 2),
    image.blockOffset + 8 * below(random, 12),
  ];
  const offset = places[below(random, places.length)] as number;
  const old = image.word(offset);
  const anywhere = BigInt(below(random, image.bytes.length + 4 * CLUSTER)) & OFFSET;
  const values = [old ^ (1n << BigInt(below(random, 64))), old ^ COPIED, (old & ~OFFSET) | anywhere, 0n];
  let value = values[below(random, values.length)] as bigint;
  // Where a refcount block cannot be read, QEMU passes over the flags in whole L2 tables; Corral judges what it can.
  if (offset < image.refcountTableOffset + CLUSTER && offset >= image.refcountTableOffset) value &= READABLE;
  image.set(offset, value);
  return `${offset.toString(16)}: ${old.toString(16)} -> ${value.toString(16)}`;
}

async function expectAgreement(image: Damage, { damage, corruptions, leaks }: DamageCase): Promise<void> {
  damage(image);
  image.save();

  const expected = qemuCheck(image.path);

  expect(expected).toMatchObject({ corruptions, leaks });
  expect(await corralCheck(image.path)).toEqual(expected);
  expect(await corralCheck(image.path, TINY)).toEqual(expected);
}
