/** Lazy refcounts: who dies leaves a dirty image, which Corral and QEMU both put right before they write to it. */

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Image, MemoryFile, type OpenOptions, repairImage } from '../../host/index.js';
import { loadCore, openImage } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corralCheck, io, makeImage, qemuCheck } from './check-fixture.js';

const core = loadCore();
const CLUSTER = 4096;
const MIB = 1 << 20;
const CLEAN = { corruptions: 0, leaks: 0, checkErrors: 0 };

class WatchedFile extends MemoryFile {
  /** Writes to what lies in [from, to). */
  readonly watched = { from: 0, to: 0, writes: 0 };
  failing = false;

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (offset >= this.watched.from && offset < this.watched.to) this.watched.writes++;
    await super.write(offset, pieces);
  }

  override async flush(): Promise<void> {
    if (this.failing) throw Object.assign(new Error('lost'), { code: 'EIO' });
    await super.flush();
  }
}

/** An image with lazy refcounts, unless the options of its opening say otherwise. */
async function newImage(
  options: Partial<OpenOptions> = {},
  { lazyRefcounts = true, compat = '1.1' as '0.10' | '1.1' } = {},
): Promise<{ file: WatchedFile; image: Image }> {
  const file = new WatchedFile();
  const lazy = compat === '1.1' && lazyRefcounts;
  await Image.create(file, { core, virtualSize: 8 * MIB, clusterSize: CLUSTER, compat, lazyRefcounts: lazy });
  const image = await Image.open(file, { core, write: true, ...options });
  return { file, image };
}

/** Fills some clusters, each with its number, and flushes after each. */
async function work(image: Image, numbers: readonly number[]): Promise<void> {
  for (const number of numbers) {
    await image.write(number * CLUSTER, new Uint8Array(CLUSTER).fill(number));
    await image.flush();
  }
}

/** What a kill would leave now. */
async function killed(file: MemoryFile): Promise<string> {
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  const path = join(temporaryFolder(), 'killed.qcow2');
  writeFileSync(path, bytes);
  return path;
}

function isDirty(path: string): boolean {
  const output = execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' });
  return JSON.parse(output)['dirty-flag'];
}

/** Fails unless QEMU finds there what `work` has written. */
function expectContents(path: string, numbers: readonly number[]): void {
  io(
    path,
    numbers.map((number) => `read -P ${number} ${number * CLUSTER} ${CLUSTER}`),
  );
}

const NUMBERS = Array.from({ length: 40 }, (_, index) => index * 7 + 1).map((number) => number % 251);

describe('Corral dies', () => {
  test('flushed data is there, and QEMU repairs the image when it writes to it', async () => {
    const { file, image } = await newImage();
    await work(image, NUMBERS);

    const path = await killed(file);

    expect(isDirty(path)).toBe(true);
    expect((await corralCheck(path)).corruptions).toBeGreaterThan(0);
    io(path, ['write -P 0xee 4M 64k']);
    expect(isDirty(path)).toBe(false);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectContents(path, NUMBERS);
  });

  test('Corral repairs the image when it writes to it, and lets it be when it reads', async () => {
    const { file, image } = await newImage();
    await work(image, NUMBERS);
    const path = await killed(file);
    const before = readFileSync(path);

    const reader = await openImage(path);
    const found = new Uint8Array(CLUSTER);
    await reader.read((NUMBERS[3] as number) * CLUSTER, found);
    const { dirty } = reader.info;
    await reader.close();
    const untouched = readFileSync(path).equals(before);
    const writer = await openImage(path, { write: true });
    await work(writer, [1000 % 251]);
    await writer.close();

    expect(dirty).toBe(true);
    expect(new Set(found)).toEqual(new Set([NUMBERS[3]]));
    expect(untouched).toBe(true);
    expect(isDirty(path)).toBe(false);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectContents(path, [...NUMBERS, 1000 % 251]);
  });

  test('snapshots and discarded clusters survive it', async () => {
    const { file, image } = await newImage();
    await work(image, NUMBERS);
    await image.snapshots.create({ name: 'one' });
    await image.discard(0, 64 * CLUSTER);
    await image.flush();
    const later = [200, 201, 202, 203, 204, 205];
    await work(image, later);

    const path = await killed(file);

    expect(isDirty(path)).toBe(true);
    io(path, ['write -P 0xee 4M 64k']);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectContents(path, later);
    execFileSync('qemu-img', ['snapshot', '-a', 'one', path]);
    expectContents(path, NUMBERS);
  });

  test('a repair of leaks alone neither calls the image clean nor leaves live clusters free', async () => {
    const { file, image } = await newImage();
    await work(image, NUMBERS);
    const path = await killed(file);

    const killedFile = new MemoryFile(readFileSync(path));
    await repairImage(killedFile, 'leaks', { core });
    const dirtyAfter = isDirty(await killed(killedFile));
    const writer = await Image.open(killedFile, { core, write: true });
    await work(writer, [240, 241, 242]);
    await writer.close();

    const after = await killed(killedFile);
    expect(dirtyAfter).toBe(true);
    expect(qemuCheck(after)).toMatchObject(CLEAN);
    expectContents(after, [...NUMBERS, 240, 241, 242]);
  });
});

describe('QEMU dies', () => {
  test('Corral repairs the image when it writes to it', async () => {
    const path = makeImage({ clusterSize: CLUSTER, size: 8 * MIB, more: ['lazy_refcounts=on'] });
    const commands = NUMBERS.flatMap((number) => [`write -P ${number} ${number * CLUSTER} ${CLUSTER}`, 'flush']);
    spawnSync('qemu-io', [...commands, 'sigraise 9'].flatMap((command) => ['-c', command]).concat(path));
    const dirty = isDirty(path);
    const { corruptions } = await corralCheck(path);

    const image = await openImage(path, { write: true });
    await work(image, [240, 241, 242]);
    await image.close();

    expect(dirty).toBe(true);
    expect(corruptions).toBeGreaterThan(0);
    expect(isDirty(path)).toBe(false);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectContents(path, [...NUMBERS, 240, 241, 242]);
  });
});

describe('while the image is open', () => {
  test('flushes do not write refcounts', async () => {
    const writes: number[] = [];
    for (const lazyRefcounts of [false, true]) {
      const { file, image } = await newImage({ lazyRefcounts });
      // The first refcount block.
      Object.assign(file.watched, { from: 2 * CLUSTER, to: 3 * CLUSTER });
      await work(image, NUMBERS);
      writes.push(file.watched.writes);
    }

    expect(writes[0]).toBeGreaterThanOrEqual(NUMBERS.length);
    expect(writes[1]).toBeLessThan(5);
  });

  test('a close leaves an image that is clean, and says so', async () => {
    const { file, image } = await newImage();
    await work(image, NUMBERS);
    const before = isDirty(await killed(file));

    await image.close();

    const path = await killed(file);
    expect(before).toBe(true);
    expect(isDirty(path)).toBe(false);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectContents(path, NUMBERS);
  });

  test('after a flush that was lost, the image stays dirty', async () => {
    const { file, image } = await newImage();
    await work(image, NUMBERS);
    file.failing = true;
    await expect(image.flush()).resolves.toBeUndefined();
    await image.write(0, new Uint8Array(CLUSTER));
    await expect(image.flush()).rejects.toMatchObject({ code: 'ERR_IO' });
    file.failing = false;

    await expect(image.close()).rejects.toMatchObject({ code: 'ERR_BROKEN' });

    const path = await killed(file);
    expect(isDirty(path)).toBe(true);
    io(path, ['write -P 0xee 4M 64k']);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectContents(path, NUMBERS);
  });

  test('an image that is not flushed never becomes dirty', async () => {
    const { file, image } = await newImage();

    await image.write(0, new Uint8Array(64 * CLUSTER).fill(1));
    const dirty = isDirty(await killed(file));
    await image.close();

    expect(dirty).toBe(false);
    expect(qemuCheck(await killed(file))).toMatchObject(CLEAN);
  });

  test('amend takes lazy refcounts away, and the image is clean from then on', async () => {
    const { file, image } = await newImage();
    await work(image, NUMBERS);

    await image.amend({ lazyRefcounts: false });

    const path = await killed(file);
    expect(isDirty(path)).toBe(false);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    await work(image, [240, 241]);
    expect(qemuCheck(await killed(file))).toMatchObject({ corruptions: 0, checkErrors: 0 });
  });
});

describe('the option of the opening', () => {
  test.each([
    { lazyRefcounts: true, header: false },
    { lazyRefcounts: false, header: true },
  ])('goes before the header: $lazyRefcounts', async ({ lazyRefcounts, header }) => {
    const { file, image } = await newImage({ lazyRefcounts }, { lazyRefcounts: header });

    await work(image, NUMBERS);

    const path = await killed(file);
    expect(isDirty(path)).toBe(lazyRefcounts);
    await image.close();
    expect(qemuCheck(await killed(file))).toMatchObject(CLEAN);
  });

  test('lazy refcounts are refused for version 2', async () => {
    const opening = newImage({ lazyRefcounts: true }, { compat: '0.10' });

    await expect(opening).rejects.toThrow('Lazy refcounts require');
  });
});
