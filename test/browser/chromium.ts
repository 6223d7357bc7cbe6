/** Debian's Chromium, with pages from a server on this machine that holds the library's bundle and nothing else. */

import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';

const BUNDLE = join(import.meta.dirname, '../../dist/bundle/browser');

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

/** The same again in this folder, with what isolates a page; its workers need the second one, too. */
const ISOLATED = 'isolated/';
const ISOLATION = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

const PAGE = `<!doctype html><title>test</title><input type=file multiple>
<script type=module>
globalThis.corral = await import('./corral.js');
globalThis.engine = await corral.BrowserEngine.start();
globalThis.chosen = () => [...document.querySelector('input').files];
globalThis.root = await navigator.storage.getDirectory();
globalThis.isReady = true;
</script>`;

export interface TestBrowser {
  readonly context: BrowserContext;
  readonly url: string;
  /** A new page with the globals of `page-globals.ts`; an isolated one may share memory with its workers. */
  newPage(options?: { isolated?: boolean }): Promise<Page>;
  /** Kills the browser, without a chance to write anything, and starts another one on the same profile. */
  kill(): Promise<void>;
  /** Bytes of memory that the processes of its pages have for themselves. */
  memoryOfPages(): number;
  close(): Promise<void>;
}

/** Serves the bundle, and `files` by their names; starts a browser with an empty profile. */
export async function startBrowser(files: Readonly<Record<string, string>> = {}): Promise<TestBrowser> {
  const server = await serve({ 'index.html': PAGE, ...files });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const profile = mkdtempSync(join(tmpdir(), 'corral-chromium-'));
  let context = await launch(profile);
  return {
    get context() {
      return context;
    },
    url,
    async newPage({ isolated = false } = {}) {
      const page = await context.newPage();
      await openPage(page, isolated ? `${url}${ISOLATED}` : url);
      return page;
    },
    async kill() {
      const gone = new Promise((resolve) => context.once('close', resolve));
      process.kill(browserOf(profile), 'SIGKILL');
      await gone;
      rmSync(join(profile, 'SingletonLock'), { force: true });
      context = await launch(profile);
    },
    memoryOfPages: () => memoryOfPages(browserOf(profile)),
    async close() {
      await context.close();
      server.closeAllConnections();
      server.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** Goes to the library's page, or loads it again. */
export async function openPage(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.waitForFunction(() => (globalThis as { isReady?: boolean }).isReady);
}

function launch(profile: string): Promise<BrowserContext> {
  return chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: ARGUMENTS,
  });
}

/** The process that has the profile: a link in there ends with its number. */
function browserOf(profile: string): number {
  return Number(readlinkSync(join(profile, 'SingletonLock')).split('-').at(-1));
}

function memoryOfPages(ancestor: number): number {
  const family = new Set([ancestor]);
  let bytes = 0;
  const numbers = readdirSync('/proc').map(Number).filter(Number.isInteger);
  // A child has a higher number than its parent, unless the numbers began anew.
  for (const number of numbers.sort((a, b) => a - b)) {
    const status = readProcess(number, 'status');
    if (!family.has(Number(/^PPid:\s*(\d+)/m.exec(status)?.[1]))) continue;
    family.add(number);
    if (!readProcess(number, 'cmdline').includes('--type=renderer')) continue;
    bytes += Number(/^RssAnon:\s*(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  }
  return bytes;
}

/** Empty when it has ended meanwhile. */
function readProcess(number: number, name: string): string {
  try {
    return readFileSync(`/proc/${number}/${name}`, 'utf8');
  } catch {
    return '';
  }
}

async function serve(files: Readonly<Record<string, string>>): Promise<Server> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').slice(1);
    const isIsolated = path.startsWith(ISOLATED);
    const name = (isIsolated ? path.slice(ISOLATED.length) : path) || 'index.html';
    for (const [header, value] of isIsolated ? Object.entries(ISOLATION) : []) response.setHeader(header, value);
    const contents = files[name] ?? bundled(name);
    const types: Readonly<Record<string, string>> = {
      html: 'text/html',
      js: 'text/javascript',
      wasm: 'application/wasm',
    };
    if (contents === undefined) response.writeHead(404).end();
    else response.writeHead(200, { 'content-type': types[name.split('.').at(-1) ?? ''] ?? 'text/plain' }).end(contents);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

function bundled(name: string): Buffer | undefined {
  return ['corral.js', 'corral.wasm'].includes(name) ? readFileSync(join(BUNDLE, name)) : undefined;
}
