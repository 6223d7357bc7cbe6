/** How people use the inspector page: the mouse on the map, addresses that are kept, what is said when something goes wrong. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type InspectedImage, makeImages, qemu } from './inspector-images.js';
import { factsOf, go, type InspectorSite, openFiles, startSite, totalsOf, verdictOf } from './inspector-page.js';

const MIB = 2 ** 20;

let site: InspectorSite;
let folder: string;
let images: InspectedImage[];
let page: Page;

beforeAll(async () => {
  ({ folder, images } = makeImages());
  site = await startSite();
  page = await site.newPage({ viewport: { width: 1000, height: 900 } });
});

afterAll(async () => {
  await site?.close();
  rmSync(folder, { recursive: true, force: true });
});

function filesOf(name: string): string[] {
  return images.find((image) => image.name === name)?.files ?? [];
}

/** The stretch that the address names; undefined: all. */
async function shownStretch(): Promise<[number, number] | undefined> {
  const fields = new URLSearchParams(new URL(page.url()).hash.slice(1));
  const [from, to] = [fields.get('from'), fields.get('to')];
  return from === null || to === null ? undefined : [Number(from), Number(to)];
}

/** The middle of a cell of the map, on the screen, and how many cells are in a row. */
async function cellPlace(cell: number): Promise<{ x: number; y: number }> {
  const box = await page.locator('.map canvas').boundingBox();
  const size = await page.$eval('.map canvas', (canvas) => Number((canvas as HTMLElement).dataset.cellSize));
  const columns = Math.floor((box?.width ?? 0) / size);
  const [column, row] = [cell % columns, Math.floor(cell / columns)];
  return { x: (box?.x ?? 0) + (column + 0.5) * size, y: (box?.y ?? 0) + (row + 0.5) * size };
}

/** Shows the whole map of an image of 16 MiB, in cells of 64 KiB. */
async function showMap(): Promise<void> {
  await openFiles(page, site, filesOf('snapshots.qcow2'), '#view=map');
  await totalsOf(page);
  await page.locator('.map canvas').scrollIntoViewIfNeeded();
}

test('a drag over cells of the map zooms into them', async () => {
  await showMap();
  const [first, last] = [await cellPlace(16), await cellPlace(31)];

  await page.mouse.move(first.x, first.y);
  await page.mouse.down();
  await page.mouse.move((first.x + last.x) / 2, first.y, { steps: 3 });
  await page.mouse.move(last.x, last.y, { steps: 3 });
  await page.mouse.up();
  await page.waitForURL(/from=/);
  const stretch = await shownStretch();
  await page.click('text=Whole');
  await page.waitForFunction(() => document.querySelector('.map-range')?.textContent?.startsWith('All of it'));

  expect(stretch).toEqual([MIB, 2 * MIB]);
});

test('the wheel zooms the map with Ctrl, closer and away, around the place it points at; without Ctrl the page scrolls', async () => {
  await showMap();
  const place = await cellPlace(40);
  await page.mouse.move(place.x, place.y);

  await page.keyboard.down('Control');
  await page.mouse.wheel(0, -100);
  await page.waitForURL(/from=/);
  const [from = 0, to = 0] = (await shownStretch()) ?? [];
  await page.mouse.wheel(0, 100);
  await page.waitForFunction(() => document.querySelector('.map-range')?.textContent?.startsWith('All of it'));
  await page.keyboard.up('Control');
  const before = page.url();
  await page.mouse.wheel(0, -100);
  await page.waitForTimeout(100);

  expect(to - from).toBe(4 * MIB);
  expect(from).toBeLessThanOrEqual(2.5 * MIB);
  expect(to).toBeGreaterThan(2.5 * MIB);
  expect(page.url()).toBe(before);
});

test('pointing at a cell tells where it is, a click goes to its bytes, and the way back leads to the map', async () => {
  await showMap();
  const place = await cellPlace(5 * 16);

  await page.mouse.move(place.x, place.y);
  await page.waitForFunction(() =>
    document.querySelector('.readout')?.textContent?.startsWith('0x500000 to 0x510000: data'),
  );
  await page.mouse.click(place.x, place.y);
  await page.waitForSelector('.dump');
  const address = page.url();
  await page.goBack();
  await page.waitForSelector('.map canvas');

  expect(address).toContain('view=hex');
  expect(address).toContain('offset=0x500000');
});

/** An address, and what is there once the image is open. */
const ADDRESSES: readonly [address: string, selector: string, says: string][] = [
  ['#view=summary', '[data-verdict]', ''],
  ['#view=map&from=0x100000&to=0x200000', '.map-range', '0x100000 to 0x200000'],
  ['#view=map&space=host', '.map canvas[aria-label^="Map of the file"]', ''],
  ['#view=hex&offset=0x500010', '.details h2', 'data'],
  ['#view=hex&space=host&offset=0x18', '.details h2', 'Virtual size'],
  ['#view=hex&snapshot=0&offset=0x100000', '.state option:checked', 'monday'],
  ['#view=snapshots', '[data-snapshot="1"]', 'tuesday'],
  ['#view=bitmaps', 'main', 'backup'],
  ['#view=export&snapshot=1', 'main', 'Save as raw file'],
];

test('an address leads to its place: each view, a stretch, an offset, a snapshot; the page says so before a file is open', async () => {
  const wrong: string[] = [];
  for (const [address, selector, says] of ADDRESSES) {
    await page.goto('about:blank');
    await page.goto(`${site.base}${address}`);
    if (!(await page.textContent('main'))?.includes('leads to a place in an image')) wrong.push(`${address}: no hint`);
    await page.setInputFiles('#files', filesOf('snapshots.qcow2'));
    const found = page.locator(selector, { hasText: says });
    await found
      .first()
      .waitFor({ state: 'attached', timeout: 10_000 })
      .catch(() => wrong.push(`${address}: not there`));
  }

  expect(wrong).toEqual([]);
});

test('on 400 pixels, too, the view that an address names is in sight among the others', async () => {
  const own = await site.newPage({ viewport: { width: 400, height: 800 } });
  await openFiles(own, site, filesOf('plain.qcow2'), '#view=export');

  await own.waitForFunction(() => {
    const box = document.querySelector('nav.views [aria-current]')?.getBoundingClientRect();
    return box !== undefined && box.left >= 0 && box.right <= innerWidth;
  });
  await own.context().close();
});

test('of an encrypted image its tables are shown, and it is said what is hidden', async () => {
  const path = join(folder, 'luks.qcow2');
  const luks = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
  qemu('create', '-q', '-f', 'qcow2', '--object', 'secret,id=s,data=x', '-o', luks, path, '4M');
  await openFiles(page, site, path);

  const facts = await factsOf(page);
  const problems = await page.$$eval('.problem', (all) => all.map((one) => one.textContent).join(' '));
  await go(page, '#view=map&space=host');
  const totals = await totalsOf(page);

  expect(facts.Encryption?.toLowerCase()).toContain('luks');
  expect(problems).toContain('its tables can still be looked at');
  expect(totals.encryption).toBeGreaterThan(0);
});

test('an address without sense leads to the start, or as near as it can', async () => {
  await openFiles(page, site, filesOf('snapshots.qcow2'), '#view=nonsense&offset=-5&snapshot=77&from=x');
  const verdict = await verdictOf(page);
  await go(page, '#view=hex&offset=0xffffffffffff');
  await page.waitForSelector('[data-offset="16777215"].chosen');

  expect(verdict).toBe('accept');
});

test.each([
  ['an empty file', Buffer.alloc(0), 'empty'],
  ['a compressed download', Buffer.from([0x1f, 0x8b, 8, 0, ...Array(2000).fill(7)]), 'unpack'],
  [
    'an image of another program',
    Buffer.concat([Buffer.from('KDMV\x01\0\0\0', 'latin1'), Buffer.alloc(4096)]),
    'qemu-img convert',
  ],
])('%s is met with words that say what it is and what to do', async (what, bytes, advice) => {
  const path = join(folder, `${what.replaceAll(' ', '-')}.img`);
  writeFileSync(path, bytes);
  await openFiles(page, site, path);
  await verdictOf(page);

  const text = await page.textContent('main');

  expect(text?.toLowerCase()).toContain(advice);
});
