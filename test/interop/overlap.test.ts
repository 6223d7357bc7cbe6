/** Overlap checks: at each level, a write that would hit a table is refused exactly when QEMU refuses it. */

import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Image, MemoryFile, type OverlapCheckOption } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';
import { COPIED, Damage, io, makeImage, OFFSET, snapshot } from './check-fixture.js';

const core = loadCore();
const CLUSTER = 4096;
/** The first cluster of the second L2 table. */
const FAR = 512;

/** Data in clusters 0 to 9 and at FAR, a bitmap, and a snapshot that has an L2 table of its own for FAR. */
function richImage(): Damage {
  const path = makeImage({ clusterSize: CLUSTER, size: 8 << 20 }, [
    `write -P 7 0 ${10 * CLUSTER}`,
    `write -P 7 ${FAR * CLUSTER} ${CLUSTER}`,
  ]);
  snapshot(path, 'one');
  io(path, [`write -P 8 0 ${10 * CLUSTER}`, `write -P 8 ${FAR * CLUSTER} ${CLUSTER}`]);
  execFileSync('qemu-img', ['bitmap', '--add', '--disable', path, 'bits']);
  return new Damage(path);
}

function bitmapDirectory(image: Damage): number {
  const BITMAPS = 0x23852875;
  for (let at = image.bytes.readUInt32BE(100); ; at += 8 + ((image.bytes.readUInt32BE(at + 4) + 7) & ~7)) {
    if (image.bytes.readUInt32BE(at) === BITMAPS) return image.number(at + 24);
  }
}

const inactiveL1 = (image: Damage) => image.number(image.snapshotsOffset);

const targets: Record<string, (image: Damage) => number> = {
  mainHeader: () => 0,
  activeL1: (image) => image.l1Offset,
  activeL2: (image) => image.l2(FAR),
  refcountTable: (image) => image.refcountTableOffset,
  refcountBlock: (image) => image.blockOffset,
  snapshotTable: (image) => image.snapshotsOffset,
  inactiveL1,
  inactiveL2: (image) => Number(image.word(inactiveL1(image) + 8) & OFFSET),
  bitmapDirectory,
};

const QEMU_NAMES: Record<string, string> = {
  mainHeader: 'main-header',
  activeL1: 'active-l1',
  activeL2: 'active-l2',
  refcountTable: 'refcount-table',
  refcountBlock: 'refcount-block',
  snapshotTable: 'snapshot-table',
  inactiveL1: 'inactive-l1',
  inactiveL2: 'inactive-l2',
  bitmapDirectory: 'bitmap-directory',
};

/** Whether QEMU writes guest cluster 1. */
function qemuWrites(path: string, options: string): boolean {
  const copy = `${path}.copy`;
  copyFileSync(path, copy);
  const target = `driver=qcow2,file.filename=${copy},${options}`;
  const { stdout, stderr } = spawnSync('qemu-io', ['--image-opts', '-c', `write ${CLUSTER} ${CLUSTER}`, target], {
    encoding: 'utf8',
  });
  return `${stdout}${stderr}`.includes('wrote');
}

async function corralWrites(path: string, overlapCheck?: OverlapCheckOption): Promise<boolean> {
  const file = new MemoryFile(readFileSync(path));
  const options = overlapCheck === undefined ? {} : { overlapCheck };
  const image = await Image.open(file, { core, write: true, ...options });
  const written = await image.write(CLUSTER, new Uint8Array(CLUSTER)).then(
    () => true,
    () => false,
  );
  return written;
}

/** Guest cluster 1 is where `target` is. */
function hit(target: string): string {
  const image = richImage();
  const offset = (targets[target] as (image: Damage) => number)(image);
  // An entry that names the first cluster names none: a compressed one can.
  image.set(image.l2(1), COPIED | BigInt(offset - (offset % CLUSTER)));
  image.save();
  return image.path;
}

const names = Object.keys(targets).filter((name) => name !== 'mainHeader');

describe.each(names)('a write to what is: %s', (name) => {
  test.each(['constant', 'cached', 'all'] as const)('is refused as by QEMU at the level %s', async (level) => {
    const path = hit(name);

    const written = await corralWrites(path, level);

    expect(written).toBe(qemuWrites(path, `overlap-check=${level}`));
  });

  test('is refused when only that is checked', async () => {
    const path = hit(name);

    const written = await corralWrites(path, { template: 'none', [name]: true });

    expect(written).toBe(false);
    expect(qemuWrites(path, `overlap-check.template=none,overlap-check.${QEMU_NAMES[name]}=on`)).toBe(false);
  });

  test('is not refused when all else is checked, unless the cache holds it', async () => {
    const path = hit(name);

    const written = await corralWrites(path, { template: 'all', [name]: false });

    // Those have been read on the way.
    const cached = ['activeL1', 'refcountTable', 'snapshotTable', 'inactiveL1', 'bitmapDirectory'];
    expect(written).toBe(!cached.includes(name));
    expect(qemuWrites(path, `overlap-check.template=all,overlap-check.${QEMU_NAMES[name]}=off`)).toBe(true);
  });
});

describe('tables that are made while the image is open', () => {
  test('are known, also when the cache has forgotten them', async () => {
    const file = new MemoryFile();
    await Image.create(file, { core, virtualSize: 256 << 20, clusterSize: CLUSTER });
    const image = await Image.open(file, { core, write: true, cacheSize: 0, requestCapacity: 1 });
    const write = (cluster: number) => image.write(cluster * CLUSTER, new Uint8Array(CLUSTER).fill(5));
    for (let table = 0; table < 100; table++) await write(table * FAR + 3);
    await image.flush();
    const path = join(temporaryFolder(), 'image.qcow2');
    writeFileSync(path, file.contents());
    const made = new Damage(path);
    const entry = new Uint8Array(8);
    new DataView(entry.buffer).setBigUint64(0, COPIED | BigInt(made.l2(7 * FAR)));
    await file.write(made.l2(20 * FAR + 3), [entry]);

    await expect(write(20 * FAR + 3)).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
  });

  test('do not stop writes to what looks like them', async () => {
    const file = new MemoryFile();
    await Image.create(file, { core, virtualSize: 64 << 20, clusterSize: 512 });
    const image = await Image.open(file, { core, write: true, cacheSize: 0, requestCapacity: 4 });

    // Tens of thousands of tables in a map of some thousand bits.
    for (let offset = 0; offset < 24 << 20; offset += 1 << 20) {
      await Promise.all([
        image.write(offset, new Uint8Array(1 << 19).fill(offset >> 20)),
        image.write(offset + (1 << 19), new Uint8Array(1 << 19).fill(offset >> 20)),
      ]);
    }
    for (let offset = 0; offset < 24 << 20; offset += 1 << 20) {
      await image.write(offset + 700, new Uint8Array(5000).fill(9));
    }
    await image.close();

    const found = new Uint8Array(6000);
    const reader = await Image.open(file, { core });
    await reader.read((5 << 20) + 500, found);
    expect([found[0], found[200], found[5199], found[5200]]).toEqual([5, 9, 9, 5]);
  });
});

test('a level or a structure that there is not is refused by name', async () => {
  const file = new MemoryFile();
  await Image.create(file, { core, virtualSize: 1 << 20 });

  const level = () => Image.open(file, { core, overlapCheck: 'some' as 'all' });
  const structure = () => Image.open(file, { core, overlapCheck: { l3: true } as OverlapCheckOption });

  await expect(level()).rejects.toThrow("There is no overlap check 'some'");
  await expect(structure()).rejects.toThrow("There is no overlap check 'l3'");
});
