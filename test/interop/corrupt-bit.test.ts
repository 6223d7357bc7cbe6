/** Writes that meet contradicting tables: the image is marked corrupt, as QEMU does it, and nothing more is written. */

import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Image, MemoryFile, repairImage } from '../../host/index.js';
import { loadCore, openImage } from '../../host/node/index.js';
import { COPIED, Damage, makeImage, qemuCheck } from './check-fixture.js';

const core = loadCore();
const CLUSTER = 4096;
const SIZE = 8 << 20;
const ZERO = 1n;

interface Damaged {
  readonly name: string;
  damage(image: Damage): void;
  /** The guest cluster that is written then. */
  readonly cluster: number;
  /** QEMU dies of it. */
  readonly kills?: boolean;
}

const damages: readonly Damaged[] = [
  {
    name: 'data in the L1 table',
    damage: (image) => image.set(image.l2(1), COPIED | BigInt(image.l1Offset)),
    cluster: 1,
  },
  {
    name: 'data in the refcount table',
    damage: (image) => image.set(image.l2(1), COPIED | BigInt(image.refcountTableOffset)),
    cluster: 1,
  },
  {
    name: 'data in a refcount block',
    damage: (image) => image.set(image.l2(1), COPIED | BigInt(image.blockOffset)),
    cluster: 1,
  },
  {
    name: 'data in its own L2 table',
    damage: (image) => image.set(image.l2(1), COPIED | BigInt(image.l2(0))),
    cluster: 1,
  },
  {
    name: 'a data cluster that is not aligned',
    damage: (image) => image.flip(image.l2(1), 512n),
    cluster: 1,
  },
  {
    name: 'a reserved cluster that is not aligned',
    damage: (image) => image.set(image.l2(1), image.word(image.l2(1)) | 512n | ZERO),
    cluster: 1,
  },
  {
    name: 'an L2 table that is not aligned',
    damage: (image) => image.flip(image.l1(0), 512n),
    cluster: 1,
  },
  {
    name: 'a refcount block that is not aligned',
    damage: (image) => image.flip(image.refcountTableOffset, 512n),
    cluster: 30,
    kills: true,
  },
  {
    name: 'an L2 table that counts as free',
    damage: (image) => image.setRefcount(image.l2(0) / CLUSTER, 0),
    cluster: 30,
  },
];

/** Clusters 0 to 9 hold data. */
function damagedImage(damage: (image: Damage) => void, compat: '0.10' | '1.1' = '1.1'): string {
  const { path } = new Damage(
    makeImage({ clusterSize: CLUSTER, size: SIZE, compat }, [`write -P 7 0 ${10 * CLUSTER}`]),
  );
  const image = new Damage(path);
  damage(image);
  image.save();
  return path;
}

function isCorrupt(path: string): boolean {
  const output = execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' });
  return JSON.parse(output)['format-specific'].data.corrupt;
}

/** The bytes that a file holds now. */
async function save(file: MemoryFile, path: string): Promise<void> {
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  writeFileSync(path, bytes);
}

describe.each(damages)('$name', ({ damage, cluster, kills }) => {
  test('marks the image as corrupt before the write fails', async () => {
    const path = damagedImage(damage);
    const copy = `${path}.copy`;
    copyFileSync(path, copy);
    spawnSync('qemu-io', ['-c', `write -P 9 ${cluster * CLUSTER} ${CLUSTER}`, copy]);
    const byQemu = kills ? true : isCorrupt(copy);
    const file = new MemoryFile(readFileSync(path));
    const image = await Image.open(file, { core, write: true });

    const error = await image.write(cluster * CLUSTER, new Uint8Array(CLUSTER).fill(9)).catch((reason) => reason);

    await save(file, path);
    expect(error).toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
    expect(byQemu).toBe(true);
    expect(isCorrupt(path)).toBe(true);
  });
});

describe('an image that was found corrupt', () => {
  const damage = (image: Damage) => image.set(image.l2(1), COPIED | BigInt(image.blockOffset));

  test('is read on, and nothing more is written to it', async () => {
    const path = damagedImage(damage);
    const file = new MemoryFile(readFileSync(path));
    const image = await Image.open(file, { core, write: true });
    await expect(image.write(CLUSTER, new Uint8Array(CLUSTER))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
    await save(file, path);
    const before = readFileSync(path);

    const found = new Uint8Array(CLUSTER);
    await image.read(5 * CLUSTER, found);
    const refused = await Promise.allSettled([
      image.write(5 * CLUSTER, new Uint8Array(CLUSTER)),
      image.writeZeroes(5 * CLUSTER, CLUSTER),
      image.discard(5 * CLUSTER, CLUSTER),
      image.resize(2 * SIZE),
      image.snapshots.create({ name: 'one' }),
      image.amend({ lazyRefcounts: true }),
      image.bitmaps.add('one'),
    ]);
    await image.flush();
    await image.close();

    await save(file, path);
    expect(new Set(found)).toEqual(new Set([7]));
    for (const result of refused) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_IMAGE_CORRUPT' } });
      expect((result as PromiseRejectedResult).reason.message).toContain('nothing more is written');
    }
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('is refused for writing when it is opened again, until it is repaired', async () => {
    const path = damagedImage((image) => image.setRefcount(image.l2(0) / CLUSTER, 0));
    const file = new MemoryFile(readFileSync(path));
    const image = await Image.open(file, { core, write: true });
    await expect(image.write(30 * CLUSTER, new Uint8Array(CLUSTER))).rejects.toMatchObject({
      code: 'ERR_IMAGE_CORRUPT',
    });
    await image.close();
    await save(file, path);

    await expect(openImage(path, { write: true })).rejects.toThrow('Image is corrupt; cannot be opened read/write');
    const repaired = new MemoryFile(readFileSync(path));
    await repairImage(repaired, 'all', { core });
    await save(repaired, path);
    const again = await openImage(path, { write: true });
    await again.write(30 * CLUSTER, new Uint8Array(CLUSTER).fill(3));
    await again.close();

    expect(isCorrupt(path)).toBe(false);
    expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });

  test('keeps what was written before', async () => {
    const path = damagedImage((image) => image.set(image.l2(1), COPIED | BigInt(image.l1Offset)));
    const file = new MemoryFile(readFileSync(path));
    const image = await Image.open(file, { core, write: true });
    await image.write(40 * CLUSTER, new Uint8Array(CLUSTER).fill(5));
    await expect(image.write(CLUSTER, new Uint8Array(CLUSTER))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
    await image.close();
    await save(file, path);

    const output = execFileSync('qemu-io', ['-r', '-c', `read -P 5 ${40 * CLUSTER} ${CLUSTER}`, path], {
      encoding: 'utf8',
    });

    expect(output).not.toContain('Pattern verification failed');
  });

  test('of version 2, which has no such bit, is refused all the same until it is closed', async () => {
    const path = damagedImage(damage, '0.10');
    const file = new MemoryFile(readFileSync(path));
    const image = await Image.open(file, { core, write: true });
    await expect(image.write(CLUSTER, new Uint8Array(CLUSTER))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });

    await expect(image.write(5 * CLUSTER, new Uint8Array(CLUSTER))).rejects.toThrow('nothing more is written');

    await image.close();
    await save(file, `${path}.after`);
    expect(readFileSync(`${path}.after`).equals(readFileSync(path))).toBe(true);
  });
});

test('an image whose entry points behind the end of the file refuses that cluster, and no other one', async () => {
  const path = damagedImage((image) => image.set(image.l2(1), COPIED | (1n << 40n)));
  const file = new MemoryFile(readFileSync(path));
  const image = await Image.open(file, { core, write: true });

  await expect(image.write(CLUSTER, new Uint8Array(CLUSTER))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
  await image.write(5 * CLUSTER, new Uint8Array(CLUSTER).fill(5));
  await image.close();

  await save(file, path);
  expect(isCorrupt(path)).toBe(false);
});
