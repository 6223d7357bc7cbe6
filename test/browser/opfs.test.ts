/** Images in Chromium's private file system: made, written, lost with their tab, and taken out for QEMU. */

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { openPage, startBrowser, type TestBrowser } from './chromium.js';
import type {} from './page-globals.js';

const MIB = 1 << 20;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  browser = await startBrowser();
  page = await browser.newPage();
});

afterAll(() => browser.close());

beforeEach(() => page.evaluate(clearStorage));

describe('an image in the private file system', () => {
  test('that was made and written is there after the page was loaded again, and is a right one for QEMU', async () => {
    await page.evaluate(async () => {
      const handle = await root.getFileHandle('disk.qcow2', { create: true });
      await engine.create(handle, { virtualSize: 64 << 20 });
      const image = await engine.open(handle, { write: true });
      await image.write(100_000, new Uint8Array(300_000).fill(7));
      await image.snapshots.create({ name: 'monday' });
      await image.write(200_000, new Uint8Array(100_000).fill(8));
      await image.writeZeroes(120_000, 10_000);
      await image.discard(0, 65_536);
      await image.resize(65 << 20);
      await image.close();
    });
    await openPage(page, browser.url);

    const found = await page.evaluate(async () => {
      const handle = await root.getFileHandle('disk.qcow2');
      const image = await engine.open(handle);
      const { corruptions, leaks } = await image.check();
      const snapshots = (await image.snapshots.list()).map(({ name }) => name);
      await image.close();
      return { corruptions, leaks, snapshots, bytes: new Uint8Array(await (await handle.getFile()).arrayBuffer()) };
    });

    expect(found).toMatchObject({ corruptions: 0, leaks: 0, snapshots: ['monday'] });
    const path = saved(found.bytes);
    qemuImg('check', '-q', path);
    expectSameBytes(rawOf(path), bytesOf(65 * MIB, [100_000, 300_000, 7], [200_000, 100_000, 8], [120_000, 10_000, 0]));
    // QEMU reads a snapshot with the size that the disk has now.
    expectSameBytes(rawOf(path, '-l', 'monday'), bytesOf(65 * MIB, [100_000, 300_000, 7]), 'monday');
  });

  test('is committed into its backing file, and QEMU reads the same from both', async () => {
    const files = await page.evaluate(async () => {
      const [base, top] = [
        await root.getFileHandle('base.qcow2', { create: true }),
        await root.getFileHandle('top.qcow2', { create: true }),
      ];
      await engine.create(base, { virtualSize: 4 << 20 });
      const below = await engine.open(base, { write: true });
      await below.write(0, new Uint8Array(1 << 20).fill(1));
      await below.close();
      await engine.create(top, { virtualSize: 5 << 20, backingFile: 'base.qcow2', backingFormat: 'qcow2' });
      const above = await engine.open(top, { write: true, files: [base] });
      await above.write(500_000, new Uint8Array(100_000).fill(2));
      await above.writeZeroes(700_000, 10_000);
      await above.write(4_500_000, new Uint8Array(1000).fill(3));
      await above.close();

      await engine.commit({ overlay: top, base });

      const contents = async (handle: FileSystemFileHandle) =>
        new Uint8Array(await (await handle.getFile()).arrayBuffer());
      return { base: await contents(base), top: await contents(top) };
    });

    const folder = temporaryFolder();
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, `${name}.qcow2`), bytes);
    const expected = bytesOf(5 * MIB, [0, MIB, 1], [500_000, 100_000, 2], [700_000, 10_000, 0], [4_500_000, 1000, 3]);
    for (const name of ['base.qcow2', 'top.qcow2']) {
      qemuImg('check', '-q', join(folder, name));
      expectSameBytes(rawOf(join(folder, name)), expected, name);
    }
  });

  test('is open for one writer at a time', async () => {
    const code = await page.evaluate(async () => {
      const handle = await root.getFileHandle('disk.qcow2', { create: true });
      await engine.create(handle, { virtualSize: 1 << 20 });
      const image = await engine.open(handle, { write: true });
      const error = await engine.open(handle, { write: true }).catch((reason) => reason);
      await image.close();
      return error.code;
    });

    expect(code).toBe('ERR_LOCKED');
  });

  test('that the storage has no more room for says so, and stays right', async () => {
    const session = await browser.context.newCDPSession(page);
    const origin = new URL(browser.url).origin;
    await page.evaluate(async () => {
      const handle = await root.getFileHandle('disk.qcow2', { create: true });
      await engine.create(handle, { virtualSize: 256 << 20 });
    });
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 8 * MIB });

    const found = await page.evaluate(async () => {
      const image = await engine.open(await root.getFileHandle('disk.qcow2'), { write: true });
      let written = 0;
      let code = '';
      while (code === '' && written < 256) {
        await image.write(written << 20, new Uint8Array(1 << 20).fill(5)).then(
          () => written++,
          (error) => {
            code = error.code;
          },
        );
      }
      const bytes = await image.read(0, written << 20);
      await image.close();
      return { code, written, isThere: bytes.every((byte) => byte === 5) };
    });
    await session.send('Storage.overrideQuotaForOrigin', { origin });

    expect(found).toMatchObject({ code: 'ERR_NO_SPACE', isThere: true });
    const path = saved(await download('disk.qcow2'));
    expect(spawnSync('qemu-img', ['check', '-q', path]).status).toSatisfy((status) => status === 0 || status === 3);
  });
});

describe('an image in a folder', () => {
  test('opens the files of that folder that it names, and none outside', async () => {
    const found = await page.evaluate(async () => {
      const folder = await root.getDirectoryHandle('disks', { create: true });
      const below = await folder.getDirectoryHandle('bases', { create: true });
      const base = await below.getFileHandle('base.qcow2', { create: true });
      await root.getFileHandle('outside.qcow2', { create: true });
      await engine.create(base, { virtualSize: 1 << 20 });
      const writer = await engine.open(base, { write: true });
      await writer.write(4096, new Uint8Array(512).fill(9));
      await writer.close();
      const results: unknown[] = [];
      for (const name of ['bases/base.qcow2', './bases/../bases/base.qcow2', '../outside.qcow2', 'bases/none.qcow2']) {
        const handle = await folder.getFileHandle(`top${results.length}.qcow2`, { create: true });
        const backing = { backingFile: name, backingFormat: 'qcow2' };
        await engine.create(handle, { virtualSize: 1 << 20, ...backing });
        const image = await engine.open(handle, { directory: folder }).catch(({ code }) => void results.push(code));
        if (!image) continue;
        results.push((await image.read(4096, 1))[0]);
        await image.close();
      }
      return results;
    });

    expect(found).toEqual([9, 9, 'ERR_UNSUPPORTED', 'ERR_NOT_FOUND']);
  });
});

describe('what was flushed', () => {
  const ENDS = {
    'a tab that crashed': async () => {
      const session = await browser.context.newCDPSession(page);
      const crashed = page.waitForEvent('crash');
      session.send('Page.crash').catch(() => undefined);
      await crashed;
      await page.close();
    },
    'a browser that was killed': () => browser.kill(),
  };

  test.each(Object.entries(ENDS))('is there after %s in the middle of writing', async (_, end) => {
    let flushed = 0;
    let enough = () => {};
    const ready = new Promise<void>((resolve) => {
      enough = resolve;
    });
    await page.exposeFunction('hasFlushed', (count: number) => {
      flushed = count;
      if (count >= 40) enough();
    });
    const writing = page.evaluate(async (place) => {
      const { hasFlushed } = globalThis as unknown as { hasFlushed(count: number): Promise<void> };
      const placeOf = new Function('index', `return ${place}`) as (index: number) => number;
      const handle = await root.getFileHandle('disk.qcow2', { create: true });
      await engine.create(handle, { virtualSize: 1 << 30, clusterSize: 4096 });
      const image = await engine.open(handle, { write: true });
      for (let index = 0; index < 1e6; index++) {
        await image.write(placeOf(index), new Uint8Array(10_000).fill((index % 255) + 1));
        if (index % 4 !== 3) continue;
        await image.flush();
        void hasFlushed(index + 1);
      }
    }, PLACE);
    writing.catch(() => undefined);
    await ready;

    await end();
    page = await browser.newPage();

    const counted = flushed;
    const found = await page.evaluate(
      async ([place, count]) => {
        const placeOf = new Function('index', `return ${place}`) as (index: number) => number;
        const handle = await root.getFileHandle('disk.qcow2');
        const image = await engine.open(handle);
        const { corruptions } = await image.check();
        const lost = [];
        for (let index = 0; index < count; index++) {
          const bytes = await image.read(placeOf(index), 10_000);
          if (!bytes.every((byte) => byte === (index % 255) + 1)) lost.push(index);
        }
        await image.close();
        return { corruptions, lost };
      },
      [PLACE, counted] as const,
    );
    expect(counted).toBeGreaterThanOrEqual(40);
    expect(found).toEqual({ corruptions: 0, lost: [] });
    const path = saved(await download('disk.qcow2'));
    expect(spawnSync('qemu-img', ['check', '-q', path]).status).toSatisfy((status) => status === 0 || status === 3);
  });
});

/** Places all over the disk, of which no two overlap. */
const PLACE = '((index * 7919) % 65536) * 16384 + 777';

describe('converting', () => {
  test.each([
    ['in the private file system', 'engine'],
    ['that is written through a stream', 'page'],
  ])('a disk becomes a raw file %s', async (_, where) => {
    const folder = temporaryFolder();
    const source = join(folder, 'disk.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', source, '9M');
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 3 1M 3000000', '-c', 'write -P 4 9436672 512', source]);
    await page.setInputFiles('input', [source]);

    await page.evaluate(async (place) => {
      const handle = await root.getFileHandle('disk.raw', { create: true });
      if (place === 'engine') {
        await engine.convert({ source: chosen()[0]!, target: handle, format: 'raw' });
      } else {
        // A page's own thread has no other way to write files.
        const image = await corral.openBlob(chosen()[0]!);
        await corral.exportRaw(image, handle);
        await image.close();
      }
    }, where);

    expectSameBytes(await download('disk.raw'), rawOf(source));
  });

  test('a raw disk becomes an image', async () => {
    const raw = join(temporaryFolder(), 'disk.raw');
    const disk = bytesOf(6 * MIB + 512, [70_000, 1_000_000, 9], [6 * MIB, 512, 3]);
    writeFileSync(raw, disk);
    await page.setInputFiles('input', [raw]);

    const progress = await page.evaluate(async () => {
      const handle = await root.getFileHandle('disk.qcow2', { create: true });
      const seen: number[] = [];
      const create = { clusterSize: 4096, extendedL2: false };
      const request = { source: chosen()[0]!, target: handle, format: 'qcow2', create } as const;
      await engine.convert(request, { onProgress: (done, total) => seen.push(done / total) });
      return seen;
    });

    const path = saved(await download('disk.qcow2'));
    qemuImg('check', '-q', path);
    expectSameBytes(rawOf(path), disk);
    expect(progress.at(-1)).toBe(1);
  });

  test('a raw disk becomes an image in a file outside of the private file system, and nothing else is left', async () => {
    const raw = join(temporaryFolder(), 'disk.raw');
    const disk = bytesOf(3 * MIB, [70_000, 1_000_000, 9]);
    writeFileSync(raw, disk);
    await page.setInputFiles('input', [raw]);

    const found = await page.evaluate(async () => {
      interface Buckets {
        open(name: string): Promise<{ getDirectory(): Promise<FileSystemDirectoryHandle> }>;
      }
      // As a file that somebody chose, it is not one of those that this origin has for itself by default.
      const { storageBuckets } = navigator as unknown as { storageBuckets: Buckets };
      const elsewhere = await (await storageBuckets.open('elsewhere')).getDirectory();
      const target = await elsewhere.getFileHandle('disk.qcow2', { create: true });
      await engine.convert({ source: chosen()[0]!, sourceFormat: 'raw', target, format: 'qcow2', compress: true });
      const left: string[] = [];
      for await (const name of (root as unknown as { keys(): AsyncIterable<string> }).keys()) left.push(name);
      const isElsewhere = (await root.resolve(target)) === null;
      return { left, isElsewhere, bytes: new Uint8Array(await (await target.getFile()).arrayBuffer()) };
    });

    const path = saved(found.bytes);
    qemuImg('check', '-q', path);
    expectSameBytes(rawOf(path), disk);
    expect(found).toMatchObject({ isElsewhere: true, left: [] });
  });

  test.each(['raw', 'qcow2'] as const)('that is cancelled leaves no half of a disk (%s)', async (format) => {
    const raw = join(temporaryFolder(), 'disk.raw');
    writeFileSync(raw, bytesOf(64 * MIB, [0, 64 * MIB, 9]));
    await page.setInputFiles('input', [raw]);

    const found = await page.evaluate(async (wanted) => {
      const handle = await root.getFileHandle('target', { create: true });
      const ending = new AbortController();
      const request = { source: chosen()[0]!, sourceFormat: 'raw', target: handle, format: wanted } as const;
      const options = { signal: ending.signal, onProgress: () => ending.abort() };
      const error = await engine.convert(request, options).catch((reason) => reason);
      return { code: error?.code, size: (await handle.getFile()).size };
    }, format);

    expect(found).toEqual({ code: 'ERR_CANCELLED', size: 0 });
  });
});

async function clearStorage(): Promise<void> {
  const names: string[] = [];
  for await (const name of (root as unknown as { keys(): AsyncIterable<string> }).keys()) names.push(name);
  for (const name of names) await root.removeEntry(name, { recursive: true });
}

function download(name: string): Promise<Uint8Array> {
  return page.evaluate(async (wanted) => {
    const file = await (await root.getFileHandle(wanted)).getFile();
    return new Uint8Array(await file.arrayBuffer());
  }, name);
}

function saved(bytes: Uint8Array): string {
  const path = join(temporaryFolder(), 'disk.qcow2');
  writeFileSync(path, bytes);
  return path;
}

/** A disk of zeros with stretches of one byte each: offset, length, value. */
function bytesOf(length: number, ...stretches: [number, number, number][]): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const [offset, count, value] of stretches) bytes.fill(value, offset, offset + count);
  return bytes;
}

function qemuImg(...args: string[]): void {
  execFileSync('qemu-img', args);
}

/** The disk's bytes, as QEMU reads them. */
function rawOf(path: string, ...options: string[]): Buffer {
  const raw = join(temporaryFolder(), 'disk.raw');
  qemuImg('convert', '-O', 'raw', ...options, path, raw);
  return readFileSync(raw);
}
