/** Damaged images that Corral repairs: QEMU finds nothing wrong afterwards, and the guest finds what it found before. */

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type CheckReport, Image, MemoryFile, type RepairKind, repairImage } from '../../host/index.js';
import { loadCore, openImage } from '../../host/node/index.js';
import { corralCheck, Damage, io, makeImage, qemuCheck, snapshot } from './check-fixture.js';
import { damageCases, imageWithSnapshots, plainImage, snapshotDamageCases } from './damage-cases.js';

/** Memory for windows of some 4000 clusters, and of whole slices of refcounts. */
const SMALL = 40000;
const DIRTY = 1n;
const CORRUPT = 2n;
const INCOMPATIBLE_FEATURES = 72;

/** Repairs the image with Corral. */
async function repair(path: string, kind: RepairKind = 'all', checkSize = 1 << 22): Promise<CheckReport> {
  const file = new MemoryFile(readFileSync(path));
  const { report } = await repairImage(file, kind, { core: loadCore(), checkSize });
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  writeFileSync(path, bytes);
  return report;
}

/** The disk as QEMU reads it. */
function guestBytes(path: string, snapshotName?: string): Buffer {
  const source = snapshotName === undefined ? [] : ['-l', snapshotName];
  execFileSync('qemu-img', ['convert', '-O', 'raw', ...source, path, `${path}.raw`]);
  return readFileSync(`${path}.raw`);
}

/** Hash of the disk as QEMU reads it; undefined when it cannot. */
function guestHash(path: string, snapshotName?: string): string | undefined {
  const source = snapshotName === undefined ? [] : ['-l', snapshotName];
  const { status } = spawnSync('qemu-img', ['convert', '-O', 'raw', ...source, path, `${path}.raw`]);
  return status === 0 ? hashOf(readFileSync(`${path}.raw`)) : undefined;
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

describe('every kind of damage', () => {
  const cases = [
    ...damageCases.map((given) => ({ ...given, make: plainImage, names: [undefined] })),
    ...snapshotDamageCases.map((given) => ({ ...given, make: imageWithSnapshots, names: [undefined, 'one', 'two'] })),
  ];

  test.each(cases)('repaired: $name', async ({ damage, make, names, left = [0, 0], repairedOtherwise }) => {
    const image = make();
    damage(image);
    image.save();
    const before = names.map((name) => guestHash(image.path, name));
    const copy = `${image.path}.copy`;
    copyFileSync(image.path, copy);
    const options = ['check', '-r', 'all', '--output=json', copy];
    const theirs = spawnSync('qemu-img', options, { encoding: 'utf8' }).stdout;

    const report = await repair(image.path);

    const [corruptions, leaks] = left;
    const found = qemuCheck(image.path) as CheckReport;
    expect(report).toMatchObject({ corruptions, leaks, checkErrors: 0, leaksKept: leaks > 0 });
    expect(found).toMatchObject({ corruptions, leaks, checkErrors: 0 });
    if (!repairedOtherwise) expect(report.corruptionsFixed).toBe(JSON.parse(theirs)['corruptions-fixed'] ?? 0);
    expect((qemuCheck(copy) as CheckReport).corruptions).toBeGreaterThanOrEqual(corruptions);
    const readable = names.filter((_, index) => before[index] !== undefined);
    const after = readable.map((name) => guestHash(image.path, name));
    expect(after).toEqual(before.filter((hash) => hash !== undefined));
  });

  test.each(cases)('leaks only: $name', async ({ damage, make }) => {
    const image = make();
    damage(image);
    image.save();
    const before = readFileSync(image.path);
    const counts = await corralCheck(image.path);
    const { stderr } = spawnSync('qemu-img', ['check', '-r', 'leaks', image.path], { encoding: 'utf8' });
    writeFileSync(image.path, before);

    const report = await repair(image.path, 'leaks');

    // For a block beyond the end of the file QEMU makes the file longer, which is no repair of leaks.
    if (stderr.includes('need to rebuild')) expect(report.needsRebuild).toBe(true);
    expect(report.corruptions).toBeLessThanOrEqual(counts.corruptions);
    expect(report.leaks).toBe(report.needsRebuild || report.leaksKept ? counts.leaks : 0);
    if (report.needsRebuild) expect(readFileSync(image.path).equals(before)).toBe(true);
  });
});

describe('refcounts of every width', () => {
  test.each([1, 2, 4, 8, 16, 32, 64])('a lost table of %i-bit refcounts is made anew', async (refcountBits) => {
    const path = makeImage({ clusterSize: 512, refcountBits, size: 4 << 20 }, ['write 0 1M', 'write 3M 64k']);
    if (refcountBits > 1) snapshot(path, 'one');
    io(path, refcountBits > 1 ? ['write 512k 256k'] : []);
    const image = new Damage(path);
    const before = guestHash(path);
    image.bytes.fill(0, image.refcountTableOffset, image.refcountTableOffset + 512);
    image.save();

    const report = await repair(path, 'all', SMALL);

    expect(report).toMatchObject({ corruptions: 0, leaks: 0, rebuilt: true });
    expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(guestHash(path)).toBe(before);
  });

  test.each([1, 2, 4, 8, 16, 32, 64])(
    'garbage instead of %i-bit refcounts becomes right in place',
    async (refcountBits) => {
      const path = makeImage({ clusterSize: 4096, refcountBits, size: 4 << 20 }, ['write 0 1M', 'write 3M 64k']);
      const image = new Damage(path);
      const before = guestHash(path);
      for (let at = 0; at < 4096; at++) image.bytes[image.blockOffset + at] = (at * 37) % 251;
      image.save();

      const report = await repair(path, 'all', SMALL);

      expect(report).toMatchObject({ corruptions: 0, leaks: 0, rebuilt: false });
      expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
      expect(guestHash(path)).toBe(before);
    },
  );
});

test.each([1, 2, 16, 64])(
  'a block of %i-bit refcounts that the table names twice is replaced',
  async (refcountBits) => {
    const path = makeImage({ clusterSize: 4096, refcountBits, size: 4 << 20 }, ['write 0 1M', 'write 3M 64k']);
    const image = new Damage(path);
    const before = guestHash(path);
    image.set(image.refcountTableOffset + 8, BigInt(image.blockOffset));
    for (let cluster = 40; cluster < 60; cluster++) image.setRefcount(cluster, 0);
    image.save();

    const report = await repair(path, 'all', SMALL);

    // QEMU does not see it with refcounts of one bit: the second name cannot be counted.
    expect(report).toMatchObject({ corruptions: 0, leaks: 0, rebuilt: true, leaksKept: false });
    expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(guestHash(path)).toBe(before);
  },
);

describe('an image that was not closed cleanly', () => {
  /** QEMU is killed with lazy refcounts: data and tables are there, refcounts are not. */
  function dirtyImage(): string {
    const path = makeImage({ clusterSize: 4096, size: 16 << 20, more: ['lazy_refcounts=on'] }, ['write -P 1 0 256k']);
    spawnSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 2 1M 1M', '-c', 'flush', '-c', 'sigraise 9', path]);
    return path;
  }

  const features = (path: string) => readFileSync(path).readBigUInt64BE(INCOMPATIBLE_FEATURES);

  test('a repair of leaks changes nothing, and the warning stays', async () => {
    const path = dirtyImage();
    const before = readFileSync(path);

    const report = await repair(path, 'leaks');

    // QEMU clears the bit here, and the next write destroys live data.
    expect(report).toMatchObject({ needsRebuild: true });
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(features(path) & DIRTY).toBe(DIRTY);
  });

  test('the next open for writing repairs it, and what is written then destroys nothing', async () => {
    const path = dirtyImage();
    const expected = guestBytes(path);

    await using image = await openImage(path, { write: true });
    await image.write(8 << 20, new Uint8Array(1 << 20).fill(3));
    await image.close();

    expected.fill(3, 8 << 20, 9 << 20);
    expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(guestHash(path)).toBe(hashOf(expected));
    expect(features(path) & DIRTY).toBe(0n);
  });

  test('an open for reading leaves it as it is', async () => {
    const path = dirtyImage();
    const before = readFileSync(path);

    await using image = await openImage(path);
    const bytes = new Uint8Array(4096);
    await image.read(1 << 20, bytes);
    await image.close();

    expect(bytes).toEqual(new Uint8Array(4096).fill(2));
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('damage that cannot be repaired refuses the open for writing, and the warning stays', async () => {
    const path = dirtyImage();
    const image = new Damage(path);
    image.set(image.l2(3), 0x4000000000n);
    image.save();

    const opened = openImage(path, { write: true });

    await expect(opened).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
    expect(features(path) & DIRTY).toBe(DIRTY);
  });
});

test('a repair that leaves nothing wrong takes back the mark of a corrupt image', async () => {
  const image = plainImage();
  image.flip(INCOMPATIBLE_FEATURES, CORRUPT);
  image.setRefcount(image.hostCluster(2), 0);
  image.save();

  await repair(image.path);

  expect(readFileSync(image.path).readBigUInt64BE(INCOMPATIBLE_FEATURES) & CORRUPT).toBe(0n);
  io(image.path, ['write 0 4096']);
  expect(qemuCheck(image.path)).toMatchObject({ corruptions: 0, leaks: 0 });
});

test('what QEMU makes of an image that Corral has rebuilt is sound', async () => {
  const image = imageWithSnapshots();
  image.set(image.refcountTableOffset, 0n);
  image.save();

  await repair(image.path);
  snapshot(image.path, 'three');
  io(image.path, ['write 1M 3M', 'discard 0 512k']);
  execFileSync('qemu-img', ['snapshot', '-d', 'one', image.path]);

  expect(qemuCheck(image.path)).toMatchObject({ corruptions: 0, leaks: 0 });
});

test('an image that is opened for a repair takes no other request', async () => {
  const file = new MemoryFile(readFileSync(plainImage().path));
  const image = await Image.open(file, { core: loadCore(), write: true, tablesOnly: true });

  const written = image.write(0, new Uint8Array(512));

  await expect(written).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
});
