/** What is done with the image of a ublk device while it serves, with the kernel's part played by the test. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { TurnMode } from '../../host/node/addon.js';
import { startHelperThread } from '../../host/node/helper-thread.js';
import { openImage } from '../../host/node/index.js';
import { carryOut, type UblkVerb } from '../../host/node/ublk-verbs.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { mixedContents, readByQemu, SIZE } from './images.js';
import { pattern } from './ring-fixture.js';
import { READ, Served, WRITE } from './served.js';

const MIB = 1 << 20;

let served: Served | undefined;

afterEach(() => {
  served?.end();
  served = undefined;
});

function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8' });
}

/** An overlay of a few own clusters over a base of a format, and the disk that the two make. */
async function serveOverlay(format: string, { baseLength = SIZE, compressed = false } = {}) {
  const folder = temporaryFolder();
  const [raw, base, path] = ['base.raw', `base.${format}`, 'over.qcow2'].map((name) => join(folder, name));
  const contents = new Uint8Array(SIZE);
  contents.set(mixedContents().subarray(0, baseLength));
  writeFileSync(raw, contents.subarray(0, baseLength));
  if (format === 'qcow2') qemuImg('convert', ...(compressed ? ['-c'] : []), '-O', 'qcow2', raw, base);
  qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', format, path, String(SIZE));
  await using image = await openImage(path, { inspect: true });
  const backing = { path, facts: image.info, write: true, mayOpen: 'any' as const };
  const disk = new Served(path, { helper: { start: (data) => startHelperThread(data, () => {}), backing } });
  served = disk;
  const write = (offset: number, bytes: Uint8Array): void => {
    expect(disk.write(offset, bytes)).toBe(bytes.length);
    contents.set(bytes, offset);
  };
  const verb = (what: UblkVerb): Promise<unknown> => carryOut(disk.engine, what, disk.facts);
  return { base, path, contents, disk, write, verb };
}

describe.each([
  { name: 'a raw base', format: 'raw' },
  { name: 'a shorter raw base', format: 'raw', baseLength: MIB },
  { name: 'a qcow2 base', format: 'qcow2' },
  { name: 'a compressed base', format: 'qcow2', compressed: true },
])('a commit into $name', ({ format, ...kind }) => {
  test('leaves the disk as it is, all of it in the base', async () => {
    const { base, path, contents, disk, write, verb } = await serveOverlay(format, kind);
    write(0, pattern(512, 1));
    write(3 * 65536 + 4096, pattern(99_840, 2));
    write(SIZE - 4096, pattern(4096, 3));
    // They come while the commit holds the guest, and go on afterwards.
    disk.arrive(6, READ, 65536, 4096);
    disk.buffer(7, 4096).set(pattern(4096, 4));
    disk.arrive(7, WRITE, 2 * 65536, 4096);

    await verb({ name: 'commit', keep: false, bytesPerSecond: 0 });
    const answers = disk.answersOf(6, 7);
    contents.set(pattern(4096, 4), 2 * 65536);

    expect(answers).toEqual([4096, 4096]);
    expectSameBytes(disk.buffer(6, 4096), contents.subarray(65536, 65536 + 4096));
    expectSameBytes(disk.readAll(0, SIZE), contents);
    disk.close();
    expect(() => qemuImg('check', path)).not.toThrow();
    if (format === 'qcow2') expect(() => qemuImg('check', base)).not.toThrow();
    expectSameBytes(readByQemu(path), contents, 'QEMU');
    const held = JSON.parse(qemuImg('map', '--output=json', path)) as {
      depth: number;
      start: number;
      length: number;
    }[];
    const own = held.filter(({ depth }) => depth === 0);
    expect(own.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(65536);
    const below = join(path, '../below.raw');
    qemuImg('convert', '-f', format, '-O', 'raw', base, below);
    const other = join(path, '../other.raw');
    qemuImg('convert', '-O', 'raw', path, other);
    // Only what was written after the commit may be missing in the base.
    execFileSync('cmp', ['-n', String(2 * 65536), below, other]);
    execFileSync('cmp', ['-i', String(3 * 65536), below, other]);
  });
});

test('a commit that keeps the image leaves its clusters where they are', async () => {
  const { base, path, contents, disk, write, verb } = await serveOverlay('raw');
  write(65536, pattern(65536, 1));

  await verb({ name: 'commit', keep: true, bytesPerSecond: 0 });

  expectSameBytes(disk.readAll(0, SIZE), contents);
  disk.close();
  const held = JSON.parse(qemuImg('map', '--output=json', path)) as { depth: number }[];
  expect(held.some(({ depth }) => depth === 0)).toBe(true);
  qemuImg('compare', path, '-f', 'qcow2', '-F', 'raw', base);
});

test('a commit into a base that somebody else reads is refused, and the disk goes on', async () => {
  const { base, path, contents, disk, write, verb } = await serveOverlay('qcow2');
  write(65536, pattern(65536, 1));
  await using other = await openImage(base);
  const before = other.info;

  const committing = verb({ name: 'commit', keep: false, bytesPerSecond: 0 });

  await expect(committing).rejects.toMatchObject({ code: 'ERR_LOCKED' });
  expect(before.virtualSize).toBe(SIZE);
  write(0, pattern(4096, 2));
  expectSameBytes(disk.readAll(0, SIZE), contents);
  disk.close();
  expect(() => qemuImg('check', path)).not.toThrow();
});

test('an image without anything behind it is not committed', async () => {
  const path = join(temporaryFolder(), 'alone.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
  served = new Served(path);

  const committing = carryOut(served.engine, { name: 'commit', keep: false, bytesPerSecond: 0 }, served.facts);

  await expect(committing).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
});

test('requests that come while the guest is held wait, and are answered in the end', async () => {
  const { contents, disk, write } = await serveOverlay('raw');
  write(0, pattern(4096, 1));
  disk.arrive(1, READ, MIB, 4096);
  disk.engine.step(TurnMode.Poll);

  disk.engine.holdGuest();
  disk.arrive(2, READ, 0, 4096);
  for (let count = 0; count < 20; count++) disk.engine.step(TurnMode.Poll);
  const waited = !disk.isAnswered(2);
  disk.engine.releaseGuest();

  expect([waited, disk.isAnswered(1)]).toEqual([true, true]);
  expect(disk.answersOf(2)).toEqual([4096]);
  expectSameBytes(disk.buffer(2, 4096), contents.subarray(0, 4096));
});

test('bitmaps are made, marked, merged and removed while the guest writes, and QEMU finds what they hold', async () => {
  const path = join(temporaryFolder(), 'bitmaps.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', path, '8M');
  const disk = new Served(path);
  served = disk;
  const change = (what: (UblkVerb & { name: 'bitmapChange' })['change']): Promise<unknown> =>
    carryOut(disk.engine, { name: 'bitmapChange', change: what }, disk.facts);

  await change({ action: 'add', bitmap: 'guest' });
  await change({ action: 'add', bitmap: 'still', granularity: 512, disabled: true });
  disk.write(2 * MIB, pattern(65536, 1));
  await change({ action: 'mark', bitmap: 'still', ranges: [{ offset: 5 * MIB, length: 512 }] });
  await change({ action: 'add', bitmap: 'both', disabled: true });
  await change({ action: 'merge', bitmap: 'both', source: 'guest' });
  await change({ action: 'merge', bitmap: 'both', source: 'still' });
  await change({ action: 'add', bitmap: 'gone' });
  await change({ action: 'remove', bitmap: 'gone' });
  await change({ action: 'disable', bitmap: 'guest' });
  const listed = await carryOut(disk.engine, { name: 'bitmapList' }, disk.facts);
  await expect(change({ action: 'clear', bitmap: 'none' })).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  disk.close();

  expect(listed).toMatchObject([
    { name: 'guest', enabled: false },
    { name: 'still', enabled: false, granularity: 512 },
    { name: 'both', enabled: false },
  ]);
  expect(() => qemuImg('check', path)).not.toThrow();
  await using image = await openImage(path);
  const ranges: { offset: number; length: number }[] = [];
  for await (const range of image.bitmaps.ranges('both')) ranges.push(range);
  expect(ranges).toEqual([
    { offset: 2 * MIB, length: 65536 },
    { offset: 5 * MIB, length: 65536 },
  ]);
});
