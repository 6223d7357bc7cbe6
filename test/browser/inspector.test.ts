/** What the inspector page shows is what qemu-img says, for images of every kind. */

import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  bytesOf,
  diskWithFiles,
  type InspectedImage,
  infoOf,
  io,
  kindOf,
  makeImages,
  mapOf,
  qemu,
} from './inspector-images.js';
import {
  bytesRead,
  factsOf,
  go,
  type InspectorSite,
  openFiles,
  startSite,
  totalsOf,
  verdictOf,
} from './inspector-page.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

let site: InspectorSite;
let folder: string;
let images: InspectedImage[];
/** The one page of tests that need none of their own. */
let page: Page;

beforeAll(async () => {
  ({ folder, images } = makeImages());
  site = await startSite();
  page = await site.newPage();
});

afterAll(async () => {
  await site?.close();
  rmSync(folder, { recursive: true, force: true });
});

function imageOf(name: string): InspectedImage {
  return images.find((image) => image.name === name) as InspectedImage;
}

test('of every kind of image it shows what qemu-img info, map and convert say', async () => {
  const own = await site.newPage();
  await own.addInitScript(() => {
    // Without a dialog: as in browsers that have none.
    delete (globalThis as { showSaveFilePicker?: unknown }).showSaveFilePicker;
  });
  for (const image of images) {
    await openFiles(own, site, image.files);
    expectFacts(image, await factsOf(own));

    await go(own, '#view=map');
    const totals = await totalsOf(own);
    const expected: Record<string, number> = { unallocated: 0, zero: 0, data: 0, compressed: 0, backing: 0 };
    for (const extent of mapOf(image)) {
      // A page does not know where a raw file has holes.
      const kind = image.name === 'noise.raw' ? 'data' : kindOf(extent);
      expected[kind] = (expected[kind] as number) + extent.length;
    }
    expect(totals, image.name).toEqual(expected);

    await go(own, '#view=export');
    const [download] = await Promise.all([own.waitForEvent('download'), own.click('text=Save as raw file')]);
    const path = join(folder, 'copy.raw');
    await download.saveAs(path);
    expect(readFileSync(path).equals(bytesOf(image)), image.name).toBe(true);
  }
  await own.context().close();
});

function expectFacts(image: InspectedImage, facts: Record<string, string>): void {
  const info = infoOf(image);
  const data = info['format-specific']?.data ?? {};
  expect(facts.Disk, image.name).toContain(`(${info['virtual-size'].toLocaleString('en')} bytes)`);
  if (info.format === 'raw') return;
  expect(facts.Format, image.name).toContain(`compat ${data.compat}`);
  expect(facts['Cluster size'], image.name).toContain(`${Number(info['cluster-size']).toLocaleString('en')} bytes`);
  expect(facts['Refcount width'], image.name).toBe(`${data['refcount-bits']} bits`);
  expect(facts.Compression, image.name).toBe(data['compression-type'] ?? 'zlib');
  expect(facts['Extended L2 entries']?.startsWith('yes'), image.name).toBe(data['extended-l2'] ?? false);
  expect(facts['Marked as corrupt'], image.name).toBe(data.corrupt ? 'yes' : 'no');
}

test('the list of extents is qemu-img’s, with places in the file', async () => {
  const image = imageOf('snapshots.qcow2');
  await openFiles(page, site, image.files, '#view=map');
  await page.click('text=Show as a list');
  await page.waitForSelector('.extents tbody tr:nth-child(14)');

  const rows = await page.$$eval('.extents tbody tr', (all) =>
    all.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent)),
  );
  const expected = mapOf(image).map((extent) => [
    `0x${extent.start.toString(16)}`,
    kindOf(extent),
    extent.offset === undefined ? '' : `0x${extent.offset.toString(16)}`,
  ]);
  expect(rows.map(([offset, , kind, place]) => [offset, kind, place])).toEqual(expected);
});

test('a snapshot can be looked at and copied like the disk, through a dialog for the file', async () => {
  const image = imageOf('snapshots.qcow2');
  const own = await site.newPage();
  await own.addInitScript(() => {
    const picker = async (): Promise<FileSystemFileHandle> => {
      const root = await navigator.storage.getDirectory();
      return root.getFileHandle('picked', { create: true });
    };
    Object.assign(globalThis, { showSaveFilePicker: picker });
  });
  await openFiles(own, site, image.files, '#view=export&snapshot=0');
  await own.click('text=Save as raw file');
  await own.waitForSelector('[data-exported]');

  const digest = await own.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const file = await (await root.getFileHandle('picked')).getFile();
    const hash = await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
    return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('');
  });
  await own.context().close();
  expect(digest).toBe(createHash('sha256').update(bytesOf(image, 'monday')).digest('hex'));
});

test('what changed since a snapshot is where the two disks differ', async () => {
  const image = imageOf('snapshots.qcow2');
  const now = bytesOf(image);
  await openFiles(page, site, image.files, '#view=snapshots');
  for (const [index, name] of ['monday', 'tuesday'].entries()) {
    const box = `[data-snapshot="${index}"]`;
    await page.click(`${box} >> text=What changed since`);
    const result = await page.waitForSelector(`${box} [data-ranges]`);

    const before = bytesOf(image, name);
    const differing: number[] = [];
    for (let at = 0; at < now.length; at += 512) {
      if (!now.subarray(at, at + 512).equals(before.subarray(at, at + 512))) differing.push(at);
    }
    const starts = differing.filter((at, number) => differing[number - 1] !== at - 512);
    expect(Number(await result.getAttribute('data-bytes'))).toBe(differing.length * 512);
    expect(Number(await result.getAttribute('data-ranges'))).toBe(starts.length);
    const shown = await page.$$eval(`${box} tbody td:first-child`, (cells) => cells.map((cell) => cell.textContent));
    expect(shown).toEqual(starts.map((at) => `0x${at.toString(16)}`));
  }
});

test('a bitmap shows what was written since it is there', async () => {
  await openFiles(page, site, imageOf('snapshots.qcow2').files, '#view=bitmaps');
  await page.click('text=What is dirty');
  const result = await page.waitForSelector('[data-ranges]');

  const shown = await page.$$eval('tbody td:first-child', (cells) => cells.map((cell) => cell.textContent));
  expect(shown).toEqual(['0x500000', '0xe00000']);
  expect(Number(await result.getAttribute('data-bytes'))).toBe(256 * 1024 + 64 * 1024);
});

test('errors and leaks are counted as qemu-img check counts them, and shown in the map of the file', async () => {
  const path = join(folder, 'damaged.qcow2');
  qemu('create', '-q', '-f', 'qcow2', path, '8M');
  io(path, 'write -P 1 0 256k', 'write -P 2 4M 64k');
  const bytes = readFileSync(path);
  const l1 = Number(bytes.readBigUInt64BE(40));
  const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
  const lost = Number(bytes.readBigUInt64BE(l2 + 8) & 0x00fffffffffffe00n);
  bytes.writeBigUInt64BE(0n, l2 + 8);
  bytes.writeBigUInt64BE((1n << 63n) | (1n << 40n), l2 + 16);
  writeFileSync(path, bytes);

  await openFiles(page, site, path);
  expect(await verdictOf(page)).toBe('reject');
  await page.click('text=Count every reference');
  const counted = JSON.parse(String(await (await page.waitForSelector('[data-check]')).getAttribute('data-check')));
  await page.click('nav >> text=Map');
  await page.click('.segments >> text=File');
  const totals = await totalsOf(page);

  const { status, report } = checkOf(path);
  expect(status).not.toBe(0);
  expect(counted.Errors).toBe(report.corruptions ?? 0);
  expect(counted['Leaked clusters']).toBe(report.leaks ?? 0);
  expect(counted['Allocated clusters']).toBe(report['allocated-clusters']);
  expect(counted['End of the image, byte']).toBe(report['image-end-offset']);
  expect(totals.leaked).toBe(Number(report.leaks) * 65536);
  await openFiles(page, site, path, `#view=hex&space=host&offset=${lost}`);
  await page.waitForSelector('[data-place="leaked"]');
});

function checkOf(path: string): { status: number; report: Record<string, number> } {
  try {
    return { status: 0, report: JSON.parse(qemu('check', '--output=json', path)) };
  } catch (error) {
    const { status, stdout } = error as { status: number; stdout: string };
    return { status, report: JSON.parse(stdout) };
  }
}

test('the bytes of the file have the names of their structures, and lead on', async () => {
  const image = imageOf('plain.qcow2');
  const file = readFileSync(image.top);
  const l1 = Number(file.readBigUInt64BE(40));
  const l2 = Number(file.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
  await openFiles(page, site, image.files, '#view=hex&space=host&offset=0x18');
  await page.waitForSelector('text=Virtual size');
  expect(await page.textContent('.details p')).toContain(String(6 * MIB));

  await page.click('text=L1 table: offset >> xpath=.. >> text=follow');
  await page.waitForSelector('h2:has-text("L1 entry 0")');
  await page.click('text=follow');
  await page.waitForSelector('h2:has-text("L2 entry 0, guest offset 0x0")');

  const shown = await page.$$eval('.dump .bytes b', (cells) => cells.map((cell) => cell.textContent).join(''));
  const first = Number(await page.getAttribute('.hex', 'data-first'));
  expect(first + 2 * 16).toBe(l2);
  expect(shown).toBe(file.subarray(first, first + shown.length / 2).toString('hex'));
});

test('files are listed, shown and saved, in the disk and in a snapshot of it', async () => {
  const noise = Buffer.from(Array.from({ length: 150_000 }, (_, index) => (index * 2654435761) >>> 24));
  const files = { 'etc/hostname': 'old\n', 'etc/<b>odd.txt': 'text', 'var/log/noise.bin': noise };
  const path = diskWithFiles(folder, files, { 'etc/hostname': 'new\n' });
  const own = await site.newPage();
  await own.addInitScript(() => {
    delete (globalThis as { showSaveFilePicker?: unknown }).showSaveFilePicker;
  });
  await openFiles(own, site, path, '#view=files');
  await own.click('.folder >> text=etc/');
  await own.waitForSelector('[data-folder="/etc"] tbody tr');
  const names = await own.$$eval('.folder tbody td:first-child', (cells) => cells.map((cell) => cell.textContent));
  await own.click('text=hostname');
  const now = await own.textContent('.preview pre');
  await own.selectOption('.state', { label: 'snapshot before' });
  await go(own, '#view=files&snapshot=0&path=/etc/hostname');
  await own.waitForSelector('.preview pre:has-text("old")');
  await go(own, '#view=files&path=/var/log/noise.bin');
  const [download] = await Promise.all([own.waitForEvent('download'), own.click('text=Save this file')]);
  const saved = join(folder, 'saved.bin');
  await download.saveAs(saved);

  expect(names).toEqual(['<b>odd.txt', 'hostname']);
  expect(now).toBe('new\n');
  expect(readFileSync(saved).equals(noise)).toBe(true);
  await own.context().close();
});

test('several files that are dropped together are a chain, and one that is missing is named', async () => {
  const image = imageOf('top.qcow2');
  const [base, top, middle] = image.files as [string, string, string];
  await openFiles(page, site, [base, top, middle]);
  const chain = await page.$$eval('.chain .name', (names) => names.map((name) => name.textContent));
  await openFiles(page, site, [top, base]);

  expect(chain).toEqual(['top.qcow2', 'middle.qcow2', 'base.raw']);
  const problem = await page.textContent('.problem');
  expect(problem).toContain("'middle.qcow2'");
  expect(problem).toContain('Drop that file, too');
});

test('the first picture of a file of 40 GiB is there within a second, for no more than 16 MiB', async () => {
  const path = join(folder, 'large.qcow2');
  qemu('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', path, '40G');
  const times: number[] = [];
  // The machine may be busy with other tests; it is the page that is measured.
  for (let attempt = 0; attempt < 8 && !times.some((time) => time < 1000); attempt++) {
    await page.goto('about:blank');
    await page.goto(`${site.base}#view=map`);
    const start = performance.now();
    await page.setInputFiles('#files', path);
    await page.waitForSelector('.map canvas');
    await page.waitForFunction(() => document.querySelector('canvas')?.getAttribute('aria-label') !== null);
    times.push(performance.now() - start);
  }
  const totals = await totalsOf(page);

  expect(totals.data).toBe(40 * GIB);
  expect(await bytesRead(page)).toBeLessThanOrEqual(16 * MIB);
  expect(Math.min(...times), `first pictures after ${times.map(Math.round).join(', ')} ms`).toBeLessThan(1000);
});

test('the map of a sparse disk of 100 GiB stays smooth while somebody zooms, moves and scrolls', async () => {
  const path = join(folder, 'sparse.qcow2');
  qemu('create', '-q', '-f', 'qcow2', path, '100G');
  // A prime number of MiB apart: scattered over every L2 table, none a neighbour of another.
  io(path, ...Array.from({ length: 2500 }, (_, index) => `write ${(index * 37 * MIB) % (100 * GIB)} 4k`));
  const longest: number[] = [];
  // The machine may be busy with other tests; it is the page that is measured.
  for (let attempt = 0; attempt < 4 && !longest.some((time) => time < 200); attempt++) {
    await openFiles(page, site, path, '#view=map');
    await page.waitForFunction(() => document.querySelector('canvas')?.getAttribute('aria-label') !== null);
    await page.evaluate(() => {
      const tasks: number[] = [];
      Object.assign(globalThis, { longTasks: tasks });
      const note = (list: PerformanceObserverEntryList) =>
        tasks.push(...list.getEntries().map((task) => task.duration));
      new PerformanceObserver(note).observe({ type: 'longtask' });
    });
    await page.focus('.map canvas');
    for (const key of ['+', '+', '+', 'ArrowRight', 'ArrowDown', '-', '-', '-']) await page.keyboard.press(key);
    await page.click('text=Show as a list');
    await page.waitForSelector('.extents tbody tr:nth-child(10)');
    for (const place of [0.5, 1, 0.25, 0]) {
      await page.$eval('.virtual-list', (box, at) => box.scrollTo(0, box.scrollHeight * at), place);
      await page.waitForTimeout(100);
    }
    const tasks = await page.evaluate(() => (globalThis as { longTasks?: number[] }).longTasks ?? [-1]);
    longest.push(Math.max(0, ...tasks));
  }

  expect(Number(await page.getAttribute('.extents table', 'aria-rowcount'))).toBeGreaterThan(5000);
  expect(Math.min(...longest), `longest tasks: ${longest.map(Math.round).join(', ')} ms`).toBeLessThan(200);
});

test('an image behind an address is read in ranges, on the page that may connect', async () => {
  const image = imageOf('zstd.qcow2');
  site.images.set('far.qcow2', readFileSync(image.top));
  await page.goto(`${site.base}url.html`);
  await page.fill('#url', new URL('/images/far.qcow2', site.base).href);
  await page.click('text=Open');
  await page.waitForSelector('.shell');

  expect(await verdictOf(page)).toBe('accept');
  expect(await page.textContent('.file-name')).toBe('far.qcow2');
  expect((await factsOf(page)).Compression).toBe('zstd');
});

test('an image behind an address opens nothing that it names: the page says what, and what to do', async () => {
  const path = join(folder, 'over.qcow2');
  qemu(
    'create',
    '-q',
    '-f',
    'qcow2',
    '-u',
    '-b',
    new URL('/images/plain.qcow2', site.base).href,
    '-F',
    'qcow2',
    path,
    '8M',
  );
  site.images.set('over.qcow2', readFileSync(path));
  site.images.set('plain.qcow2', readFileSync(imageOf('plain.qcow2').top));
  const before = site.requests.length;
  await page.goto('about:blank');
  await page.goto(`${site.base}url.html`);
  await page.fill('#url', new URL('/images/over.qcow2', site.base).href);
  await page.click('text=Open');

  const problem = await (await page.waitForSelector('.shell .problem')).textContent();
  const chain = await page.$$eval('.chain .name', (names) => names.map((name) => name.textContent));

  expect(problem).toContain("/images/plain.qcow2', which was not fetched");
  expect(problem).toContain('Download both files');
  expect(chain[1]).toContain('plain.qcow2');
  expect(site.requests.slice(before)).not.toContain('/images/plain.qcow2');
});

test('what takes long says so, can be cancelled, and can be tried again', async () => {
  const image = imageOf('snapshots.qcow2');
  site.images.set('slow.qcow2', readFileSync(image.top));
  await page.goto('about:blank');
  await page.goto(`${site.base}url.html#view=export`);
  await page.fill('#url', new URL('/images/slow.qcow2', site.base).href);
  await page.click('text=Open');
  await page.waitForSelector('.shell');
  site.delay = 3000;
  await page.click('nav >> text=Map');
  await page.click('.task >> text=Cancel');
  const said = await page.textContent('.task');
  const pictures = await page.locator('[data-picture="whole"]').count();
  site.delay = 0;
  await page.click('text=Try again');

  expect(said).toContain('Cancelled: Reading the tables');
  expect(pictures).toBe(0);
  expect((await totalsOf(page)).data).toBeGreaterThan(0);
});
