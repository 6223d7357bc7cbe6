/** Compressed clusters in Chromium: by several workers, with and without shared memory, and written so that all can read them. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { startBrowser, type TestBrowser } from './chromium.js';
import type {} from './page-globals.js';

const MIB = 1 << 20;
let browser: TestBrowser;
let folder: string;
const pages: Record<string, Page> = {};
/** Clusters that compress well, badly, and not at all; not a whole number of them. */
const disk = mixedDisk(3 * MIB + 512);
/** Images of it by their kind, made when they are wanted first. */
const images = new Map<string, string>();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'corral-compression-'));
  browser = await startBrowser();
  pages['a plain page'] = await browser.newPage();
  pages['an isolated page'] = await browser.newPage({ isolated: true });
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

const PAGES = ['a plain page', 'an isolated page'];

describe.each(PAGES)('on %s', (where) => {
  test('memory is shared where that is allowed, and only there', async () => {
    const found = await pageOf(where).evaluate(() => [crossOriginIsolated, 'SharedArrayBuffer' in globalThis]);

    const isIsolated = where === 'an isolated page';
    expect(found).toEqual([isIsolated, isIsolated]);
  });

  test.each([
    ['zlib', '64k'],
    ['zlib', '4k'],
    ['zlib', '2M'],
    ['zstd', '64k'],
  ])('a disk with %s and clusters of %s is exported whole', async (type, clusterSize) => {
    const path = compressedByQemu(type, clusterSize);
    const page = pageOf(where);
    await page.setInputFiles('input', [path]);

    const hash = await page.evaluate(async () => {
      const target = await root.getFileHandle('disk.raw', { create: true });
      await engine.convert({ source: chosen()[0]!, target, format: 'raw' });
      const bytes = await (await target.getFile()).arrayBuffer();
      return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    });

    expect(Buffer.from(hash).toString('hex')).toBe(hashOf(disk));
  });

  test('several workers do it, no more than there are processors, and into shared memory where there is any', async () => {
    const page = pageOf(where);
    await page.setInputFiles('input', [compressedByQemu('zlib', '64k')]);

    const found = await page.evaluate(async () => {
      let started = 0;
      const start = () => {
        started++;
        return new Worker('./corral.js', { type: 'module', name: 'corral-codec' });
      };
      const pool = new corral.CodecPool({ start, mostWorkers: 2 });
      const ways = { alone: 0, shared: 0 };
      const codec: typeof pool = Object.assign(Object.create(pool), {
        decompress: (...args: Parameters<typeof pool.decompress>) => {
          ways.alone++;
          return pool.decompress(...args);
        },
        decompressFrom: (...args: Parameters<typeof pool.decompressFrom>) => {
          const work = pool.decompressFrom(...args);
          if (work !== undefined) ways.shared++;
          return work;
        },
      });
      const image = await corral.openBlob(chosen()[0]!, { codec });
      const target = await root.getFileHandle('disk.raw', { create: true });
      await corral.exportRaw(image, target);
      await image.close();
      pool.close();
      const bytes = await (await target.getFile()).arrayBuffer();
      return { started, ways, hash: new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)) };
    });

    expect(Buffer.from(found.hash).toString('hex')).toBe(hashOf(disk));
    expect(found.started).toBe(2);
    const [used, unused] =
      where === 'an isolated page' ? (['shared', 'alone'] as const) : (['alone', 'shared'] as const);
    expect(found.ways[used]).toBeGreaterThan(20);
    expect(found.ways[unused]).toBe(0);
  });

  test('damaged data are refused as such, by a worker as by the thread itself', async () => {
    const bytes = readFileSync(compressedByQemu('zlib', '64k'));
    bytes.fill(0xff, 5 * 65536 + 2000, 5 * 65536 + 200_000);
    const path = join(temporaryFolder(), 'damaged.qcow2');
    writeFileSync(path, bytes);
    const page = pageOf(where);
    await page.setInputFiles('input', [path]);

    const codes = await page.evaluate(async () => {
      const found = [];
      const target = await root.getFileHandle('disk.raw', { create: true });
      const convert = engine.convert({ source: chosen()[0]!, target, format: 'raw' });
      found.push(await convert.catch(({ code }) => code));
      const image = await corral.openBlob(chosen()[0]!);
      found.push(await image.read(0, new Uint8Array(image.size)).catch(({ code }) => code));
      await image.close();
      return found;
    });

    expect(codes).toEqual(['ERR_IMAGE_CORRUPT', 'ERR_IMAGE_CORRUPT']);
  });

  test('a disk is written with zlib: for QEMU it is right, and each cluster keeps to the window of 4 KiB', async () => {
    const raw = join(temporaryFolder(), 'disk.raw');
    writeFileSync(raw, disk);
    const page = pageOf(where);
    await page.setInputFiles('input', [raw]);

    const image = await page.evaluate(async () => {
      const target = await root.getFileHandle('disk.qcow2', { create: true });
      const request = { source: chosen()[0]!, sourceFormat: 'raw', target, format: 'qcow2', compress: true } as const;
      await engine.convert(request);
      return new Uint8Array(await (await target.getFile()).arrayBuffer());
    });

    const path = join(temporaryFolder(), 'disk.qcow2');
    writeFileSync(path, image);
    execFileSync('qemu-img', ['check', '-q', path]);
    execFileSync('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', raw, path]);
    const byQemu = compressedByQemu('zlib', '64k');
    expect(image.length).toBeLessThan(statSync(byQemu).size * 1.02);
    const clusters = await compressedClusters(image);
    expect(clusters.length).toBeGreaterThan(20);
    for (const cluster of clusters) expect(withSmallWindow(cluster).length).toBe(65536);
  });
});

test('data that need a larger window than 4 KiB are found: the test above can fail', () => {
  const repeated = Buffer.from(disk.subarray(2 * MIB, 2 * MIB + 10_000));
  const data = deflateRawSync(Buffer.concat([repeated, repeated]));

  expect(() => withSmallWindow(data)).toThrow('too far back');
});

test('writing with zstd is refused by name, and the file keeps what was in it', async () => {
  const found = await pageOf('a plain page').evaluate(async () => {
    const target = await root.getFileHandle('kept', { create: true });
    const writer = await target.createWritable();
    await writer.write('precious');
    await writer.close();
    const create = { compressionType: 'zstd' } as const;
    const source = new Blob([new Uint8Array(512)]);
    const request = { source, sourceFormat: 'raw', target, format: 'qcow2', compress: true, create } as const;
    const error = await engine.convert(request).catch(({ code, message }) => ({ code, message }));
    return { error, kept: await (await target.getFile()).text() };
  });

  expect(found.error).toMatchObject({ code: 'ERR_UNSUPPORTED', message: expect.stringContaining('zstd: use zlib') });
  expect(found.kept).toBe('precious');
});

test('workers that cannot start are done without', async () => {
  const page = pageOf('a plain page');
  await page.setInputFiles('input', [compressedByQemu('zlib', '64k')]);

  const hashes = await page.evaluate(async () => {
    const starts = [
      () => new Worker('./nothing.js', { type: 'module' }),
      () => {
        throw new Error('a policy forbids it');
      },
    ];
    const found = [];
    for (const start of starts) {
      const pool = new corral.CodecPool({ start, mostWorkers: 2 });
      const image = await corral.openBlob(chosen()[0]!, { codec: pool });
      const bytes = new Uint8Array(image.size);
      await image.read(0, bytes);
      await image.close();
      found.push(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));
    }
    return found;
  });

  expect(hashes.map((hash) => Buffer.from(hash).toString('hex'))).toEqual([hashOf(disk), hashOf(disk)]);
});

function pageOf(where: string): Page {
  return pages[where] as Page;
}

function mixedDisk(length: number): Buffer {
  const random = randomFrom(chooseSeed());
  const bytes = Buffer.alloc(length);
  for (let index = MIB / 2; index < 2 * MIB; index++) bytes[index] = below(random, 3);
  for (let index = 2 * MIB; index < 2.25 * MIB; index++) bytes[index] = below(random, 256);
  // Copies of random bytes, some of them nearer than 4 KiB, others not.
  for (let index = 2.25 * MIB; index < length; index++) {
    bytes[index] =
      index % 9000 < 5000 ? below(random, 256) : (bytes[index - (index % 3 === 0 ? 3000 : 5000)] as number);
  }
  return bytes;
}

function compressedByQemu(type: string, clusterSize: string): string {
  const kind = `${type}-${clusterSize}`;
  const known = images.get(kind);
  if (known !== undefined) return known;
  const [raw, path] = [join(folder, 'disk.raw'), join(folder, `${kind}.qcow2`)];
  writeFileSync(raw, disk);
  const options = `compression_type=${type},cluster_size=${clusterSize}`;
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', options, raw, path]);
  images.set(kind, path);
  return path;
}

/** The compressed data of an image, each up to the end of its last sector. */
async function compressedClusters(bytes: Uint8Array): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  const codec = {
    async decompress(_type: string, source: Uint8Array, size: number) {
      found.push(source);
      return new Uint8Array(inflateRawSync(source, { maxOutputLength: size }));
    },
  };
  const image = await Image.open(new MemoryFile(Uint8Array.from(bytes), true), { core: loadCore(), codec });
  const read = new Uint8Array(image.size);
  await image.read(0, read);
  await image.close();
  expectSameBytes(read, disk);
  return found;
}

/** Decompresses as a reader does that keeps no more than 4 KiB of what it has written. */
function withSmallWindow(data: Uint8Array): Buffer {
  return inflateRawSync(data, { windowBits: 12, chunkSize: 64 });
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
