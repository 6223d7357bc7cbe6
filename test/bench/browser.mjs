/**
 * The library in Chromium next to what the browser itself does: a disk taken out of an image, and a file of the same bytes
 * copied through the browser's own streams, in turn.
 *
 *   node test/bench/browser.mjs [--size 1G|256M] [--rounds N] [--only TEXT]
 *
 * All in the private file system: `raw export` by the engine in its worker, `copy` by `file.stream().pipeTo(writable)`. Seconds
 * are medians; the ratio is the copy's time by ours. The raw disk is compared with the source once.
 *
 * What is compressed is measured three times: as it is, on a page that is isolated (its threads share memory), and with an
 * engine that has no threads to help it.
 */
import { execFileSync } from 'node:child_process';
import { createReadStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { makeMixedDisk } from './convert-disk.mjs';

const BUNDLE = fileURLToPath(new URL('../../dist/bundle/browser/', import.meta.url));
const MIB = 1024 * 1024;
const PAGE = `<!doctype html><input type=file multiple><script type=module>
globalThis.corral = await import('./corral.js');
globalThis.engine = await corral.BrowserEngine.start();
const alone = new Worker('./alone.js', { type: 'module' });
globalThis.lonely = await corral.BrowserEngine.start({ worker: alone });
globalThis.root = await navigator.storage.getDirectory();
globalThis.isReady = true;
</script>`;

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1G' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
  },
});
const size = Number.parseInt(values.size, 10) * (values.size.endsWith('G') ? 1024 : 1) * MIB;
const rounds = Number(values.rounds);

/** A worker whose engine gets no others. */
const ALONE = "import { serveEngine } from './corral.js'; serveEngine(self);";
/** A page that has these may share memory with its workers; those need the second one, too. */
const ISOLATION = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

/** @typedef {{ title: string, name: string, work: string, isolated?: boolean }} Measurement */

/** @param {string} engine @param {string} [more] */
const exporting = (engine, more = "format: 'raw'") => `await ${engine}.convert({ source: file, target, ${more} })`;

/** `files` are those that were chosen, `target` is an empty one. @type {Measurement[]} */
const MEASUREMENTS = [
  {
    title: 'copy of the raw file',
    name: 'disk.raw',
    work: 'await file.stream().pipeTo(await target.createWritable())',
  },
  { title: 'raw export', name: 'plain.qcow2', work: exporting('engine') },
  ...['zlib', 'zstd'].flatMap((type) => {
    const [title, name] = [`raw export, ${type}`, `${type}.qcow2`];
    return [
      { title, name, work: exporting('engine') },
      { title: `${title}, isolated`, name, work: exporting('engine'), isolated: true },
      { title: `${title}, alone`, name, work: exporting('lonely') },
    ];
  }),
  ...[false, true].map((isolated) => ({
    title: `raw -> zlib${isolated ? ', isolated' : ''}`,
    name: 'disk.raw',
    work: exporting('engine', "format: 'qcow2', sourceFormat: 'raw', compress: true"),
    isolated,
  })),
  {
    title: 'raw -> qcow2',
    name: 'disk.raw',
    work: "await engine.convert({ source: file, sourceFormat: 'raw', target, format: 'qcow2' })",
  },
  {
    title: 'disk as a stream',
    name: 'plain.qcow2',
    work: 'const image = await engine.open(file); await image.readable().pipeTo(await target.createWritable()); await image.close()',
  },
];

const folder = mkdtempSync(join(tmpdir(), 'corral-bench-'));
const raw = join(folder, 'disk.raw');
const server = createServer((request, response) => {
  const [, folder, name] = /^\/(isolated\/)?(.*)$/.exec(request.url ?? '') ?? [];
  for (const [header, value] of folder ? Object.entries(ISOLATION) : []) response.setHeader(header, value);
  if (name === 'corral.wasm' || name === 'corral.js') {
    response.setHeader('content-type', name.endsWith('js') ? 'text/javascript' : 'application/wasm');
    createReadStream(join(BUNDLE, name)).pipe(response);
  } else if (name === 'alone.js') response.writeHead(200, { 'content-type': 'text/javascript' }).end(ALONE);
  else response.writeHead(name === '' ? 200 : 404, { 'content-type': 'text/html' }).end(PAGE);
});
try {
  makeMixedDisk(raw, size);
  const into = (/** @type {string} */ name, /** @type {string[]} */ ...args) =>
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...args, raw, join(folder, name)]);
  into('plain.qcow2');
  into('zlib.qcow2', '-c', '-W');
  into('zstd.qcow2', '-c', '-W', '-o', 'compression_type=zstd');
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  await measureAll();
} finally {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
}

async function measureAll() {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const context = await chromium.launchPersistentContext(join(folder, 'profile'), {
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  });
  try {
    const [page, isolated] = [await context.newPage(), await context.newPage()];
    for (const [one, path] of /** @type {const} */ ([
      [page, ''],
      [isolated, 'isolated/'],
    ])) {
      one.setDefaultTimeout(600_000);
      await one.goto(`http://127.0.0.1:${port}/${path}`);
      await one.waitForFunction('globalThis.isReady');
      if ((await one.evaluate('crossOriginIsolated')) !== (one === isolated))
        throw new Error('not isolated as it should be');
    }
    await compareOnce(page);
    console.log(`in Chromium, ${values.size} of mixed real data, medians of ${rounds}`);
    /** @type {Map<Measurement, number[]>} */
    const times = new Map(
      MEASUREMENTS.filter(({ title }, index) => index === 0 || title.includes(values.only)).map((measurement) => [
        measurement,
        [],
      ]),
    );
    for (let round = 0; round < rounds; round++) {
      for (const [measurement, seconds] of times) {
        const one = measurement.isolated ? isolated : page;
        await one.bringToFront();
        seconds.push(await run(one, measurement));
      }
    }
    const copy = median(times.get(/** @type {Measurement} */ (MEASUREMENTS[0])) ?? []);
    for (const [{ title }, seconds] of times) {
      const found = median(seconds);
      console.log(`  ${title.padEnd(28)} ${found.toFixed(2).padStart(6)} s  ratio ${(copy / found).toFixed(2)}`);
    }
  } finally {
    await context.close();
  }
}

/**
 * @param {import('playwright-core').Page} page
 * @param {Measurement} measurement
 * @returns {Promise<number>} seconds
 */
async function run(page, { name, work }) {
  await page.setInputFiles('input', join(folder, name));
  const seconds = await page.evaluate(`(async () => {
    const [file] = document.querySelector('input').files;
    const target = await root.getFileHandle('target', { create: true });
    const begun = performance.now();
    ${work};
    const seconds = (performance.now() - begun) / 1000;
    await root.removeEntry('target');
    return seconds;
  })()`);
  return Number(seconds);
}

/**
 * The raw disk that comes out is the one that went in, at its start, in the middle and at its end.
 *
 * @param {import('playwright-core').Page} page
 */
async function compareOnce(page) {
  await page.setInputFiles('input', join(folder, 'plain.qcow2'));
  const places = [0, Math.floor(size / 2 / MIB) * MIB, size - MIB];
  const found = /** @type {number[][]} */ (
    await page.evaluate(`(async () => {
      const target = await root.getFileHandle('target', { create: true });
      await engine.convert({ source: document.querySelector('input').files[0], target, format: 'raw' });
      const file = await target.getFile();
      const part = async (place) => [...new Uint8Array(await file.slice(place, place + ${MIB}).arrayBuffer())];
      return [file.size, ...(await Promise.all(${JSON.stringify(places)}.map(part)))];
    })()`)
  );
  const disk = readFileSync(raw);
  const [length, ...parts] = /** @type {[number, ...number[][]]} */ (/** @type {unknown} */ (found));
  const isSame = parts.every((part, index) => {
    const place = places[index] ?? 0;
    return Buffer.compare(Buffer.from(part), disk.subarray(place, place + MIB)) === 0;
  });
  if (length !== size || !isSame) throw new Error('the exported disk is not the one that was converted');
}

/** @param {number[]} seconds */
function median(seconds) {
  return seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)] ?? Number.NaN;
}
