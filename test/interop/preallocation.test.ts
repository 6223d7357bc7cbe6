/** Clusters ahead of any write: as many and of the same kind as QEMU's, whether made by create or by resize. */

import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createImage, NodeFile, openImage, type Preallocation } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';
import { io, qemuCheck } from './check-fixture.js';

const MIB = 1 << 20;
const CLEAN = { corruptions: 0, leaks: 0, checkErrors: 0 };
const MODES: Preallocation[] = ['metadata', 'falloc', 'full'];
/** Tables and the ends of clusters. */
const SLACK = 600 * 1024;

interface Extent {
  start: number;
  length: number;
  depth: number;
  present: boolean;
  zero: boolean;
  data: boolean;
}

/**
 * What QEMU finds, without offsets; neighbours that only differ there are one. What is called a hole depends on the
 * neighbours where pieces are smaller than the file system's blocks: `holes` says whether that is looked at.
 */
function kindsOf(path: string, holes = true): Extent[] {
  const found = JSON.parse(execFileSync('qemu-img', ['map', '--output=json', path], { encoding: 'utf8' })) as Extent[];
  const kinds: Extent[] = [];
  for (const { start, length, depth, present, zero: isZero, data } of found) {
    const zero = isZero || (present && !holes);
    const last = kinds.at(-1);
    const alike = last?.depth === depth && last.present === present && last.zero === zero && last.data === data;
    if (last !== undefined && alike) last.length += length;
    else kinds.push({ start, length, depth, present, zero, data });
  }
  return kinds;
}

function allocatedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

function qemuImg(...args: string[]): void {
  execFileSync('qemu-img', args, { stdio: 'pipe' });
}

/** Nothing but zeros, also for QEMU; and it stays a sound image when it is written to. */
function expectSound(path: string, size: number): void {
  expect(qemuCheck(path)).toMatchObject(CLEAN);
  io(path, [`read -P 0 0 ${size}`]);
}

const SHAPES = [
  { clusterSize: 65536, size: 8 * MIB, compat: '1.1' as const },
  { clusterSize: 65536, size: 8 * MIB, compat: '0.10' as const },
  { clusterSize: 512, size: MIB + 512, compat: '1.1' as const },
  { clusterSize: 4096, size: 9 * MIB - 512, compat: '1.1' as const },
  { clusterSize: 2 * MIB, size: 7 * MIB, compat: '1.1' as const },
];

describe.each(MODES)('create with preallocation=%s', (preallocation) => {
  test.each(SHAPES)('makes what QEMU makes: clusters of $clusterSize, compat $compat', async (shape) => {
    const folder = temporaryFolder();
    const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];
    const { clusterSize, size, compat } = shape;
    // Allocated but unwritten zeros are called holes when the file has fewer bytes than its tables say: here the header's
    // cluster is as large as the disk's, and mostly a hole.
    const sparse = preallocation === 'falloc' && clusterSize === 2 * MIB;
    const holes = size % 4096 === 0 && !sparse;

    await createImage(ours, { virtualSize: size, clusterSize, compat, preallocation });

    const options = `cluster_size=${clusterSize},compat=${compat},preallocation=${preallocation}`;
    qemuImg('create', '-q', '-f', 'qcow2', '-o', options, theirs, String(size));
    expect(kindsOf(ours, holes)).toEqual(kindsOf(theirs, holes));
    expect(Math.abs(allocatedBytes(ours) - allocatedBytes(theirs))).toBeLessThan(SLACK + 2 * clusterSize);
    expectSound(ours, size);
    io(ours, [`write -P 9 ${size - 512} 512`, 'write -P 8 0 1k', `read -P 9 ${size - 512} 512`, 'read -P 8 0 1k']);
    expect(qemuCheck(ours)).toMatchObject(CLEAN);
  });

  test('leaves subclusters unallocated, with room behind them, as QEMU does', async () => {
    const folder = temporaryFolder();
    const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];

    await createImage(ours, { virtualSize: 8 * MIB, extendedL2: true, preallocation });

    qemuImg('create', '-q', '-f', 'qcow2', '-o', `extended_l2=on,preallocation=${preallocation}`, theirs, '8M');
    expect(kindsOf(ours)).toEqual(kindsOf(theirs));
    expect(Math.abs(allocatedBytes(ours) - allocatedBytes(theirs))).toBeLessThan(SLACK);
    expectSound(ours, 8 * MIB);
    await using image = await openImage(ours, { write: true });
    await image.write(MIB + 700, new Uint8Array(5000).fill(7));
    await image.close();
    expect(qemuCheck(ours)).toMatchObject(CLEAN);
    io(ours, [`read -P 7 ${MIB + 700} 5000`, `read -P 0 ${MIB} 700`, `read -P 0 ${MIB + 5700} 100k`]);
  });

  test('leaves what lies behind subclusters visible', async () => {
    const folder = temporaryFolder();
    const [base, ours, theirs] = [join(folder, 'base'), join(folder, 'ours'), join(folder, 'theirs')];
    qemuImg('create', '-q', '-f', 'qcow2', base, '4M');
    io(base, ['write -P 5 0 3M']);

    await createImage(ours, {
      virtualSize: 8 * MIB,
      extendedL2: true,
      backingFile: base,
      backingFormat: 'qcow2',
      preallocation,
    });

    const options = `extended_l2=on,preallocation=${preallocation}`;
    qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', '-o', options, theirs, '8M');
    expect(kindsOf(ours)).toEqual(kindsOf(theirs));
    expect(qemuCheck(ours)).toMatchObject(CLEAN);
    io(ours, ['read -P 5 0 3M', 'read -P 0 3M 5M', 'write -P 6 64k 1k', 'read -P 5 65k 100k']);
  });

  test.each([false, true])('fills an external data file, raw: %s', async (dataFileRaw) => {
    const folder = temporaryFolder();
    const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];
    const data = await NodeFile.open(join(folder, 'our-data'), { create: true });

    const size = 3 * MIB;
    await createImage(ours, {
      virtualSize: size,
      dataFile: join(folder, 'our-data'),
      dataFileRaw,
      data,
      preallocation,
    });
    await data.close();

    const options = `data_file=${theirs}-data,data_file_raw=${dataFileRaw ? 'on' : 'off'},preallocation=${preallocation}`;
    qemuImg('create', '-q', '-f', 'qcow2', '-o', options, theirs, String(size));
    expect(kindsOf(ours, false)).toEqual(kindsOf(theirs, false));
    expectSound(ours, size);
    const difference = allocatedBytes(join(folder, 'our-data')) - allocatedBytes(`${theirs}-data`);
    expect(Math.abs(difference)).toBeLessThan(SLACK);
    if (!dataFileRaw) expect(statSync(join(folder, 'our-data')).size).toBe(statSync(`${theirs}-data`).size);
  });
});

describe.each(MODES)('resize with preallocation=%s', (preallocation) => {
  test.each([
    { clusterSize: 65536, before: 3 * MIB, after: 9 * MIB },
    { clusterSize: 65536, before: 3 * MIB + 512, after: 9 * MIB + 512 },
    { clusterSize: 512, before: MIB, after: 2 * MIB },
    { clusterSize: 4096, before: MIB - 512, after: 70 * MIB },
  ])('from $before to $after, clusters of $clusterSize', async ({ clusterSize, before, after }) => {
    const folder = temporaryFolder();
    const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];
    const holes = clusterSize >= 4096 && after % 4096 === 0;
    for (const path of [ours, theirs]) {
      qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${clusterSize}`, path, String(before));
      io(path, ['write -P 7 0 600k', `write -P 3 ${before - 512} 512`]);
    }

    await using image = await openImage(ours, { write: true });
    await image.resize(after, { preallocation });
    await image.close();

    qemuImg('resize', '-q', '-f', 'qcow2', `--preallocation=${preallocation}`, theirs, String(after));
    expect(kindsOf(ours, holes)).toEqual(kindsOf(theirs, holes));
    expect(qemuCheck(ours)).toMatchObject(CLEAN);
    io(ours, ['read -P 7 0 600k', `read -P 3 ${before - 512} 512`, `read -P 0 ${before} ${after - before}`]);
  });

  test('over a backing file that is longer: what is new is zeros', async () => {
    const folder = temporaryFolder();
    const [base, ours, theirs] = [join(folder, 'base'), join(folder, 'ours'), join(folder, 'theirs')];
    qemuImg('create', '-q', '-f', 'qcow2', base, '8M');
    io(base, ['write -P 5 0 8M']);
    for (const path of [ours, theirs]) {
      qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', path, String(MIB + 512));
    }

    const gate = async () => NodeFile.open(base);
    await using image = await openImage(ours, { write: true, gate });
    await image.resize(6 * MIB, { preallocation });
    await image.close();

    qemuImg('resize', '-q', '-f', 'qcow2', `--preallocation=${preallocation}`, theirs, '6M');
    expect(qemuCheck(ours)).toMatchObject(CLEAN);
    io(ours, [`read -P 5 0 ${MIB + 512}`, `read -P 0 ${MIB + 512} ${5 * MIB - 512}`]);
    expect(kindsOf(ours).slice(-1)).toEqual(kindsOf(theirs).slice(-1));
  });
});

test('clusters that were used before are zeroed when they are given out again', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');
  await createImage(path, { virtualSize: 8 * MIB });
  io(path, ['write -P 7 0 8M', 'discard 0 8M']);

  await using image = await openImage(path, { write: true });
  await image.resize(16 * MIB, { preallocation: 'metadata' });
  const found = new Uint8Array(8 * MIB);
  await image.read(8 * MIB, found);
  await image.close();

  expect(found.every((byte) => byte === 0)).toBe(true);
  expectSound(path, 16 * MIB);
  expect(statSync(path).size).toBeLessThan(10 * MIB);
});

test('a shared L2 table is copied first, and the snapshot stays as it was', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');
  await createImage(path, { virtualSize: 4 * MIB });
  io(path, ['write -P 7 0 1M']);
  qemuImg('snapshot', '-c', 'before', path);

  await using image = await openImage(path, { write: true });
  await image.resize(8 * MIB, { preallocation: 'full' });
  await image.close();

  expect(qemuCheck(path)).toMatchObject(CLEAN);
  io(path, ['read -P 7 0 1M', 'read -P 0 1M 7M']);
  qemuImg('snapshot', '-a', 'before', path);
  expect(qemuCheck(path)).toMatchObject(CLEAN);
  io(path, ['read -P 7 0 1M', 'read -P 0 1M 3M']);
});

test('preallocation over a backing file without subclusters is refused before the file is touched', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');

  const making = createImage(path, {
    virtualSize: MIB,
    backingFile: 'base',
    backingFormat: 'qcow2',
    preallocation: 'metadata',
  });

  await expect(making).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  expect(readFileSync(path)).toHaveLength(0);
});

test('a resize whose preallocation has no room leaves the old size', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');
  await createImage(path, { virtualSize: 4 * MIB });
  const file = await NodeFile.open(path, { write: true });
  const full = Object.assign(Object.create(file) as NodeFile, {
    writeZeroes: (offset: number, length: number) =>
      length > MIB
        ? Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }))
        : file.writeZeroes(offset, length),
    close: () => file.close(),
  });
  const { Image, loadCore } = await import('../../host/node/index.js');
  const image = await Image.open(full, { core: loadCore(), write: true });

  const resizing = image.resize(64 * MIB, { preallocation: 'falloc' });

  await expect(resizing).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  expect(image.size).toBe(4 * MIB);
  await image.close();
  expect(qemuCheck(path)).toMatchObject(CLEAN);
  await using again = await openImage(path);
  expect(again.size).toBe(4 * MIB);
});
