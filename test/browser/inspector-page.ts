/** The built inspector page in Debian's Chromium, from a server that notes every request. */

import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const PAGES = join(import.meta.dirname, '../../dist/inspector');
/** Not the root of the server: the page must work from anywhere. */
const FOLDER = '/tools/inspector/';
/** A page without a policy. */
export const EMPTY_PAGE = '/empty.html';

/** Nothing of it may look for the network. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export interface InspectorSite {
  readonly browser: Browser;
  /** Address of the folder with both pages. */
  readonly base: string;
  /** Paths that were asked for, in order. */
  readonly requests: string[];
  /** Serves this file at `/images/NAME`, in ranges. */
  readonly images: Map<string, Buffer>;
  /** Milliseconds that each request of an image waits for its answer. */
  delay: number;
  /** In a context of its own, which is the caller's to close. */
  newPage(options?: BrowserContextOptions): Promise<Page>;
  close(): Promise<void>;
}

/** One browser, one server. */
export async function startSite(): Promise<InspectorSite> {
  const requests: string[] = [];
  const images = new Map<string, Buffer>();
  const server = await listen((request, response) => {
    requests.push(String(request.url));
    setTimeout(() => answer(request, response, images), site.delay);
  });
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args: ARGUMENTS });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const site: InspectorSite = {
    browser,
    delay: 0,
    base: `${origin}${FOLDER}`,
    requests,
    images,
    async newPage(options = {}) {
      const context = await browser.newContext({ acceptDownloads: true, ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      return page;
    },
    async close() {
      await browser.close();
      server.closeAllConnections();
      server.close();
    },
  };
  return site;
}

function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const server = createServer(handler);
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

function answer(request: IncomingMessage, response: ServerResponse, images: Map<string, Buffer>): void {
  const path = String(request.url).replace(/[?#].*/, '');
  const image = images.get(path.replace('/images/', ''));
  if (image !== undefined) {
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const start = Number(first ?? 0);
    const end = Math.min(image.length, last === undefined || last === '' ? image.length : Number(last) + 1);
    const headers = { etag: '"one"', 'accept-ranges': 'bytes', 'content-length': end - start };
    if (first === undefined) response.writeHead(200, headers).end(image);
    else {
      const range = { 'content-range': `bytes ${start}-${end - 1}/${image.length}` };
      response.writeHead(206, { ...headers, ...range }).end(image.subarray(start, end));
    }
    return;
  }
  if (path === EMPTY_PAGE) {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><body></body>');
    return;
  }
  const name = path.startsWith(FOLDER) ? path.slice(FOLDER.length) || 'index.html' : '';
  if (!['index.html', 'url.html'].includes(name)) response.writeHead(404).end();
  else response.writeHead(200, { 'content-type': 'text/html' }).end(readFileSync(join(PAGES, name)));
}

/** Opens files on the page at an address behind `#`; the page is loaded anew. */
export async function openFiles(page: Page, site: InspectorSite, files: string | string[], hash = ''): Promise<void> {
  await page.goto('about:blank');
  await page.goto(`${site.base}${hash}`);
  await page.setInputFiles('#files', files);
  await page.waitForSelector('.shell');
}

/** Goes to another address of the same page. */
export async function go(page: Page, hash: string): Promise<void> {
  await page.evaluate((wanted) => {
    location.hash = wanted;
  }, hash);
}

/** The verdict, once it is there. */
export async function verdictOf(page: Page): Promise<string> {
  const banner = await page.waitForSelector('[data-verdict]');
  return String(await banner.getAttribute('data-verdict'));
}

/** Terms and what they are, of the lists of the page. */
export function factsOf(page: Page): Promise<Record<string, string>> {
  return page.evaluate(() =>
    Object.fromEntries(
      [...document.querySelectorAll('dl.facts > div')].map((row) => [
        row.querySelector('dt')?.textContent ?? '',
        row.querySelector('dd')?.textContent ?? '',
      ]),
    ),
  );
}

/** Bytes of each kind, when the whole picture is there. */
export async function totalsOf(page: Page): Promise<Record<string, number>> {
  const map = await page.waitForSelector('[data-picture="whole"]');
  return JSON.parse(String(await map.getAttribute('data-totals')));
}

/** Bytes of files that the page's worker has read. */
export async function bytesRead(page: Page): Promise<number> {
  return Number(await page.getAttribute('#bytes-read', 'data-bytes'));
}
