/** Nothing leaves the machine, nothing that is hostile stays, and everybody can use the page. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inspect, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { untrustedImages } from '../cli/untrusted-images.js';
import { diskWithFiles, type InspectedImage, makeImages } from './inspector-images.js';
import { EMPTY_PAGE, go, type InspectorSite, openFiles, startSite, totalsOf, verdictOf } from './inspector-page.js';

const MIB = 2 ** 20;
const HOSTILE_IMAGES = 64;
/** Milliseconds for what takes seconds, on a machine that is busy with something else. */
const BUSY = 240_000;
const PLACES = [
  '',
  '#view=map',
  '#view=map&space=host',
  '#view=hex&space=host&offset=0x18',
  '#view=files',
  '#view=snapshots',
  '#view=bitmaps',
  '#view=export',
];

let site: InspectorSite;
let folder: string;
let images: InspectedImage[];
let disk: string;

/** What is shown of other files: what, of which, where, and when it is there. */
const EXTRA: readonly [what: string, files: () => string[], place: string, ready: string][] = [
  ['a folder', () => [disk], '#view=files&path=/etc', '.folder tbody tr'],
  ['a text', () => [disk], '#view=files&path=/etc/hostname', '.preview pre'],
  ['a file of bytes', () => [disk], '#view=files&path=/noise.bin', '.preview'],
  ['a chain with a file missing', () => imageOf('top.qcow2').files.slice(0, 2), '', '.problem'],
  ['what changed', () => imageOf('snapshots.qcow2').files, '#view=snapshots', '[data-snapshot]'],
];

beforeAll(async () => {
  ({ folder, images } = makeImages());
  disk = diskWithFiles(folder, { 'etc/hostname': 'a\n', 'noise.bin': Buffer.alloc(70_000, 'x\0y') }, {});
  site = await startSite();
});

afterAll(async () => {
  await site?.close();
  rmSync(folder, { recursive: true, force: true });
});

function imageOf(name: string): InspectedImage {
  return images.find((image) => image.name === name) as InspectedImage;
}

/** Every way out that a program in a page has; each says what became of it. */
async function tryWaysOut(target: string): Promise<string[]> {
  const wsTarget = target.replace('http', 'ws');
  const settled = async (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'sent',
      () => 'refused',
    );
  const opened = (make: () => EventTarget): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const source = make();
      source.addEventListener('open', resolve);
      source.addEventListener('load', resolve);
      source.addEventListener('error', reject);
      setTimeout(reject, 3000);
    });
  const request = (): Promise<unknown> =>
    opened(() => {
      const sender = new XMLHttpRequest();
      sender.open('GET', `${target}xhr`);
      sender.send();
      return sender;
    });
  const ways: Record<string, () => Promise<unknown>> = {
    fetch: () => fetch(`${target}fetch`, { mode: 'no-cors' }),
    xhr: request,
    socket: () => opened(() => new WebSocket(`${wsTarget}socket`)),
    events: () => opened(() => new EventSource(`${target}events`)),
    module: () => import(`${target}module.js`),
  };
  const scope = globalThis as unknown as { importScripts?: (url: string) => void; document?: Document };
  if (scope.document !== undefined) {
    const elements: Record<string, Record<string, string>> = {
      img: { src: 'img.png' },
      script: { src: 'script.js' },
      link: { rel: 'stylesheet', href: 'link.css' },
      iframe: { src: 'iframe.html' },
      video: { src: 'video.mp4' },
      object: { data: 'object.svg' },
    };
    for (const [tag, attributes] of Object.entries(elements)) {
      ways[tag] = () => {
        const blocked = new Promise((_, reject) =>
          document.addEventListener('securitypolicyviolation', reject, { once: true }),
        );
        const element = document.createElement(tag);
        for (const [name, value] of Object.entries(attributes)) {
          element.setAttribute(name, value.includes('.') ? `${target}${value}` : value);
        }
        const loaded = opened(() => element);
        document.body.append(element);
        return Promise.race([loaded, blocked]);
      };
    }
    ways.beacon = async () => {
      navigator.sendBeacon(`${target}beacon`, 'secret');
      await new Promise((resolve) => setTimeout(resolve, 300));
      throw new Error('the server says whether it came');
    };
    ways.worker = () => opened(() => new Worker(`${target}worker.js`));
    ways.form = async () => {
      const form = document.createElement('form');
      form.action = `${target}form`;
      form.target = 'elsewhere';
      document.body.append(form);
      form.submit();
      await new Promise((resolve) => setTimeout(resolve, 300));
      throw new Error('the server says whether it came');
    };
  } else {
    ways.importScripts = async () => scope.importScripts?.(`${target}scripts.js`);
    ways.worker = () => opened(() => new Worker(`${target}worker.js`));
  }
  const results: string[] = [];
  for (const [name, way] of Object.entries(ways)) {
    results.push(`${name} ${await settled((async () => way())())}`);
  }
  return results;
}

test('nothing leaves the machine: neither the page nor its worker can send anything anywhere', async () => {
  const page = await site.newPage();
  await openFiles(page, site, imageOf('snapshots.qcow2').files);
  await verdictOf(page);
  const before = site.requests.length;
  const target = new URL('/secret/', site.base).href;
  const [engine] = page.workers();

  const fromPage = await page.evaluate(tryWaysOut, target);
  const fromWorker = await engine?.evaluate(tryWaysOut, target);

  expect(fromPage.length).toBeGreaterThanOrEqual(14);
  expect(fromPage.filter((line) => !line.endsWith('refused'))).toEqual([]);
  expect(fromWorker?.length).toBeGreaterThanOrEqual(7);
  expect(fromWorker?.filter((line) => !line.endsWith('refused'))).toEqual([]);
  expect(site.requests.slice(before)).toEqual([]);
});

test('the same ways lead out of a page without the policy: the test above can fail', async () => {
  const page = await site.newPage();
  await page.goto(new URL(EMPTY_PAGE, site.base).href);
  const before = site.requests.length;

  await page.evaluate(tryWaysOut, new URL('/secret/', site.base).href);

  const arrived = new Set(site.requests.slice(before).map((path) => path.replace(/^\/secret\//, '')));
  expect([...arrived]).toEqual(expect.arrayContaining(['fetch', 'xhr', 'events', 'img.png', 'beacon', 'worker.js']));
});

test('the page works from a disk, without any server', async () => {
  const page = await site.newPage();
  await page.goto(`file://${join(import.meta.dirname, '../../dist/inspector/index.html')}`);
  await page.setInputFiles('#files', imageOf('zstd.qcow2').files);

  expect(await verdictOf(page)).toBe('accept');
});

test('npm run inspector serves both pages, to this machine, and nothing else', async () => {
  const server = spawn(process.execPath, [join(import.meta.dirname, '../../.tools/inspector.mjs')]);
  try {
    const [said] = (await once(server.stdout, 'data')) as [Buffer];
    const url = String(said).trim();
    const found: unknown[] = [];
    for (const path of ['', 'index.html', 'url.html', '../package.json', '%2e%2e/package.json']) {
      const response = await fetch(url + path);
      found.push(`${response.status} ${(await response.text()).includes('Content-Security-Policy')}`);
    }

    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    expect(found).toEqual(['200 true', '200 true', '200 true', '404 false', '404 false']);
  } finally {
    server.kill();
    await once(server, 'exit');
  }
});

/** Drops some of the files that the page was given; resolves to the verdict of each. */
async function dropOneByOne(range: readonly [number, number]): Promise<string[]> {
  const verdicts: string[] = [];
  const files = (document.querySelector('#corpus') as HTMLInputElement).files as FileList;
  for (const file of Array.from(files).slice(...range)) {
    document.querySelector<HTMLElement>('.top-controls button')?.click();
    const verdict = new Promise<string>((resolve) => {
      const observer = new MutationObserver(() => {
        const banner = document.querySelector('[data-verdict]');
        if (banner === null) return;
        observer.disconnect();
        resolve(banner.getAttribute('data-verdict') ?? '');
      });
      observer.observe(document.body, { subtree: true, childList: true, attributes: true });
    });
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(file);
    document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
    verdicts.push(await verdict);
  }
  return verdicts;
}

test(
  'hostile images in turn in one tab: the verdict of each is the inspection’s own, and the memory comes back',
  async () => {
    const corpus = untrustedImages()
      .filter(({ options }) => options === undefined)
      .slice(0, HOSTILE_IMAGES);
    const page = await site.newPage();
    const crashes: unknown[] = [];
    page.on('crash', () => crashes.push('crash'));
    page.on('pageerror', (error) => crashes.push(error));
    await page.goto(site.base);
    const session = await page.context().newCDPSession(page);
    const memory = async (): Promise<number> => {
      await session.send('HeapProfiler.collectGarbage');
      return page.evaluate(
        () => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize,
      );
    };
    // All are given to the page at once, and dropped there one by one.
    await page.evaluate(() => {
      const input = Object.assign(document.createElement('input'), { type: 'file', multiple: true, id: 'corpus' });
      document.documentElement.append(input);
    });
    const good = readFileSync(imageOf('plain.qcow2').top);
    const given = [good, ...corpus.map(({ bytes }) => bytes)];
    const payloads = given.map((buffer, index) => ({ name: `${index}.qcow2`, mimeType: '', buffer }));
    await page.setInputFiles('#corpus', payloads);
    await page.evaluate(dropOneByOne, [0, 1] as const);
    const before = await memory();

    const verdicts = await page.evaluate(dropOneByOne, [1, given.length] as const);
    await page.evaluate(dropOneByOne, [0, 1] as const);
    const after = await memory();

    expect(corpus.length).toBe(HOSTILE_IMAGES);
    const core = loadCore();
    const expected: string[] = [];
    for (const { bytes } of corpus) {
      const report = await inspect(new MemoryFile(Uint8Array.from(bytes), true), { core });
      expected.push(report.verdict.result);
    }
    expect(verdicts).toEqual(expected);
    expect(crashes).toEqual([]);
    expect(page.workers().length).toBe(1);
    expect(after - before).toBeLessThan(4 * MIB);
  },
  BUSY,
);

test(
  'every view has names for everything, contrast, and fits 400 pixels, in both themes',
  async () => {
    const found: string[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
      const page = await site.newPage({ colorScheme, viewport: { width: 400, height: 800 } });
      await page.goto(site.base);
      found.push(...(await faultsOf(page, `${colorScheme} start`)));
      await page.setInputFiles('#files', imageOf('snapshots.qcow2').files);
      for (const place of PLACES) {
        await go(page, place);
        await settle(page, place);
        found.push(...(await faultsOf(page, `${colorScheme} ${place}`)));
      }
      for (const [what, files, place, ready] of EXTRA) {
        await openFiles(page, site, files(), place);
        await page.waitForSelector(ready);
        found.push(...(await faultsOf(page, `${colorScheme} ${what}`)));
      }
      await page.goto(`${site.base}url.html`);
      found.push(...(await faultsOf(page, `${colorScheme} url`)));
      await page.fill('#url', new URL('/images/none.qcow2', site.base).href);
      await page.click('text=Open');
      await page.waitForSelector('.problem');
      found.push(...(await faultsOf(page, `${colorScheme} an address that leads nowhere`)));
    }

    expect(found).toEqual([]);
  },
  BUSY,
);

async function settle(page: Page, place: string): Promise<void> {
  if (place === '') await verdictOf(page);
  else if (place.includes('view=map')) await totalsOf(page);
  else if (place.includes('view=hex')) await page.waitForSelector('[data-place]');
  else if (place.includes('view=files')) await page.waitForSelector('.partition-list');
  else await page.waitForSelector('main .card');
}

/** What axe finds, and what is wider than the page. */
async function faultsOf(page: Page, where: string): Promise<string[]> {
  await page.evaluate(axe.source);
  const faults = await page.evaluate(async () => {
    const { axe: here } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> };
    };
    const { violations } = await here.run();
    const wide = document.documentElement.scrollWidth - innerWidth;
    const lines = violations.map(
      ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`,
    );
    return wide > 0 ? [...lines, `${wide} pixels too wide`] : lines;
  });
  return faults.map((fault) => `${where}: ${fault}`);
}

test('the keyboard is enough: from the start to a cell of the map, and to its bytes', async () => {
  const page = await site.newPage();
  await openFiles(page, site, imageOf('plain.qcow2').files, '#view=map');
  await totalsOf(page);
  const focused = async (): Promise<string> =>
    page.evaluate(() => document.activeElement?.getAttribute('aria-roledescription') ?? '');
  for (let presses = 0; presses < 30 && (await focused()) !== 'allocation map'; presses++)
    await page.keyboard.press('Tab');

  expect(await focused()).toBe('allocation map');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  await page.waitForFunction(() =>
    document.querySelector('.readout')?.textContent?.startsWith('0x20000 to 0x30000: data'),
  );
  await page.keyboard.press('Enter');
  await page.waitForSelector('.dump');
  expect(page.url()).toContain('view=hex');
  expect(page.url()).toContain('offset=0x20000');
});
