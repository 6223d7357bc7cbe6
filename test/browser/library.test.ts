/** The library in Chromium, on images that QEMU made: what it says of them, and their bytes, are QEMU's. */

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { urlGate } from '../../browser/gates.js';
import { type Served, serveFile } from '../host/http-server.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import { startBrowser, type TestBrowser } from './chromium.js';
import type {} from './page-globals.js';

const MIB = 1 << 20;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  browser = await startBrowser();
  page = await browser.newPage();
});

afterAll(() => browser.close());

/** Each makes images in a folder; the first is the one that is opened. */
const KINDS: { kind: string; make: (folder: string) => string[] }[] = [
  { kind: 'of version 2', make: (folder) => [written(folder, 'a.qcow2', 'compat=0.10')] },
  { kind: 'with clusters of 512 bytes', make: (folder) => [written(folder, 'a.qcow2', 'cluster_size=512')] },
  { kind: 'with clusters of 2 MiB', make: (folder) => [written(folder, 'a.qcow2', 'cluster_size=2M')] },
  { kind: 'with extended L2 entries', make: (folder) => [written(folder, 'a.qcow2', 'extended_l2=on')] },
  { kind: 'with zlib', make: (folder) => [compressed(folder, 'zlib')] },
  { kind: 'with zstd', make: (folder) => [compressed(folder, 'zstd')] },
  { kind: 'over a backing file', make: overlay },
  { kind: 'with preallocated metadata', make: (folder) => [written(folder, 'a.qcow2', 'preallocation=metadata')] },
];

describe('an image that QEMU made', () => {
  test.each(KINDS)('$kind: info, map, check and bytes are as QEMU has them', async ({ make }) => {
    const paths = make(temporaryFolder());
    await choose(paths);

    const found = await page.evaluate(async () => {
      const [file, ...files] = chosen();
      const image = await engine.open(file!, { files });
      const extents = [];
      for await (const { offset, length, kind, depth } of image.map()) extents.push({ offset, length, kind, depth });
      const { virtualSize, clusterSize, version, compressionType, extendedL2, backingFile } = image.info;
      const facts = { virtualSize, clusterSize, version, compressionType, extendedL2, backingFile };
      const { corruptions, leaks, checkErrors, allocatedClusters, totalClusters } = await image.check();
      const check = { corruptions, leaks, checkErrors, allocatedClusters, totalClusters };
      const bytes = await new Response(image.readable()).arrayBuffer();
      const hash = await crypto.subtle.digest('SHA-256', bytes);
      await image.close();
      return { facts, extents, check, hash: new Uint8Array(hash) };
    });

    const info = qemuJson('info', paths[0]!);
    expect(found.facts).toMatchObject({ virtualSize: info['virtual-size'], clusterSize: info['cluster-size'] });
    expect(found.facts.version).toBe(info['format-specific'].data.compat === '0.10' ? 2 : 3);
    expect(found.facts.compressionType).toBe(info['format-specific'].data['compression-type']);
    expect(found.facts.extendedL2).toBe(info['format-specific'].data['extended-l2'] ?? false);
    expect(found.facts.backingFile).toBe(info['backing-filename']);
    expect(simplified(found.extents)).toEqual(qemuMap(paths[0]!));
    const check = qemuJson('check', paths[0]!);
    expect(found.check).toMatchObject({
      corruptions: 0,
      leaks: 0,
      checkErrors: 0,
      totalClusters: check['total-clusters'],
    });
    expect(found.check.allocatedClusters).toBe(check['allocated-clusters'] ?? 0);
    expect(Buffer.from(found.hash).toString('hex')).toBe(hashOf(rawOf(paths[0]!)));
  });
});

describe('of an image with snapshots', () => {
  test('each is read as QEMU reads it', async () => {
    const path = written(temporaryFolder(), 'a.qcow2', 'compat=1.1');
    qemuImg('snapshot', '-c', 'first', path);
    qemuIo(path, 'write -P 7 1M 1M', 'discard 5M 64k');
    qemuImg('snapshot', '-c', 'second', path);
    qemuIo(path, 'write -P 8 0 1M');
    await choose([path]);

    const found = await page.evaluate(async () => {
      const image = await engine.open(chosen()[0]!);
      const names = (await image.snapshots.list()).map(({ name }) => name);
      await image.close();
      const hashes: Uint8Array[] = [];
      for (const snapshot of names) {
        const old = await engine.open(chosen()[0]!, { snapshot });
        const blob = await old.blob();
        hashes.push(new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer())));
        await old.close();
      }
      return { names, hashes };
    });

    expect(found.names).toEqual(['first', 'second']);
    const expected = found.names.map((name) => hashOf(rawOf(path, '-l', name)));
    expect(found.hashes.map((hash) => Buffer.from(hash).toString('hex'))).toEqual(expected);
  });
});

describe('an image at a URL', () => {
  const read = (url: string) =>
    page.evaluate(async (place) => {
      const image = await engine.open(place);
      const bytes = await new Response(image.readable()).arrayBuffer();
      const { warnings } = image;
      await image.close();
      return { warnings, hash: new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)) };
    }, url);

  test('is read in parts, from a server that lets this page see their places', async () => {
    const path = written(temporaryFolder(), 'a.qcow2', 'compat=1.1');
    const server = await serveFile({
      contents: readFileSync(path),
      etag: '"1"',
      answer: allowing('content-range, etag'),
    });

    const found = await read(server.url);

    expect(found.warnings).toEqual([]);
    expect(Buffer.from(found.hash).toString('hex')).toBe(hashOf(rawOf(path)));
    expect(server.ranges.length).toBeGreaterThan(1);
    expect(server.ranges).not.toContain(undefined);
  });

  test('of which this page may not see the places is refused with what to do', async () => {
    const server = await serveFile({ contents: new Uint8Array(1000), answer: allowing('etag') });

    await expect(read(server.url)).rejects.toThrow('Access-Control-Expose-Headers: Content-Range, ETag');
  });

  describe('that continues from another one', () => {
    /** The image on top at one server, its backing file at another, whose address is in the image. */
    async function serveChain() {
      const folder = temporaryFolder();
      const [top] = overlay(folder) as [string];
      const middle = join(folder, 'middle.qcow2');
      // Two layers: QEMU's own copy of what lies behind the top is at the other server.
      const flat = join(folder, 'flat.qcow2');
      qemuImg('convert', '-O', 'qcow2', middle, flat);
      const disk = hashOf(rawOf(top));
      const seen: (string | undefined)[] = [];
      const behind = await serveFile({
        contents: readFileSync(flat),
        etag: '"2"',
        answer: (request, response) => {
          seen.push(request.headers['x-secret'] as string | undefined);
          return preflight(request, response);
        },
      });
      qemuImg('rebase', '-u', '-F', 'qcow2', '-b', behind.url, top);
      const server = await serveFile({ contents: readFileSync(top), etag: '"1"', answer: preflight });
      return { url: server.url, behind: behind.url, disk, seen };
    }

    test('opens nothing of it unless it is allowed, and says so', async () => {
      const { url, behind, seen } = await serveChain();

      const found = await page.evaluate(async (place) => {
        const asked: unknown[] = [];
        const allowBacking = (named: unknown) => {
          asked.push(named);
          return undefined;
        };
        const told = ({ code, message }: { code: string; message: string }) => ({ code, message });
        const errors = [
          await engine.open(place).catch(told),
          await engine.open(place, { allowBacking }).catch(told),
          await corral.openUrl(place, { allowBacking }).catch(told),
        ];
        return { errors, asked };
      }, url);

      for (const error of found.errors) expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED' });
      expect(found.errors[1]).toMatchObject({
        message: expect.stringContaining(`'${behind}', which may not be fetched`),
      });
      expect(found.asked).toEqual(Array(2).fill({ role: 'backing file', name: behind, url: behind }));
      expect(seen).toEqual([]);
    });

    test('is read through all of it where the caller allows that, and the other server learns no headers', async () => {
      const { url, disk, seen } = await serveChain();

      const hashes = await page.evaluate(async (place) => {
        const hashed = async (bytes: BufferSource) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
        const allowBacking = ({ url: named }: { url: string | undefined }) => named;
        const http = { headers: { 'x-secret': 'mine' } };
        const remote = await engine.open(place, { allowBacking, http });
        const found = [await hashed(await new Response(remote.readable()).arrayBuffer())];
        await remote.close();
        const image = await corral.openUrl(place, { allowBacking, http });
        const bytes = new Uint8Array(image.size);
        await image.read(0, bytes);
        await image.close();
        found.push(await hashed(bytes));
        const target = await root.getFileHandle('disk.raw', { create: true });
        await engine.convert({ source: place, target, format: 'raw', open: { http } }, { allowBacking });
        found.push(await hashed(await (await target.getFile()).arrayBuffer()));
        return found;
      }, url);

      expect(hashes.map((hash) => Buffer.from(hash).toString('hex'))).toEqual([disk, disk, disk]);
      expect(seen.length).toBeGreaterThan(0);
      expect(new Set(seen)).toEqual(new Set([undefined]));
    });

    test.each([
      ['base.qcow2', 'http://here/images/base.qcow2'],
      ['../base.qcow2', 'http://here/base.qcow2'],
      ['//there/base.qcow2', 'http://there/base.qcow2'],
      ['https://there/base.qcow2', 'https://there/base.qcow2'],
      ['file:///etc/passwd', undefined],
      ['json:{"driver":"raw"}', undefined],
      ['nbd://there/disk', undefined],
      ['blob:http://here/1', undefined],
    ])('asks about %s with its address, if it has one', async (name, url) => {
      const asked: unknown[] = [];
      const gate = urlGate((named) => void asked.push(named.url));
      const named = {
        role: 'backing file',
        name,
        from: 'http://here/images/top.qcow2',
        write: false,
        above: [],
      } as const;

      await expect(gate(named)).rejects.toThrow('may not be fetched');

      expect(asked).toEqual([url]);
    });
  });

  /** Allows everything that this page may ask. */
  function preflight(request: IncomingMessage, response: ServerResponse): boolean {
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('access-control-allow-headers', '*');
    response.setHeader('access-control-expose-headers', 'content-range, etag');
    if (request.method !== 'OPTIONS') return false;
    response.writeHead(204).end();
    return true;
  }

  function allowing(exposed: string): Served['answer'] {
    return (_request, response) => {
      response.setHeader('access-control-allow-origin', '*');
      response.setHeader('access-control-expose-headers', exposed);
      return false;
    };
  }
});

describe('a file that cannot be read as it is', () => {
  const CASES = [
    { what: 'no image', code: 'ERR_NOT_QCOW2', damage: (bytes: Buffer) => bytes.fill(1, 0, 512) },
    { what: 'an unknown feature', code: 'ERR_UNSUPPORTED', damage: (bytes: Buffer) => bytes.fill(0x80, 72, 73) },
    {
      what: 'an L1 table behind the end',
      code: 'ERR_IMAGE_CORRUPT',
      damage: (bytes: Buffer) => bytes.fill(0x7f, 42, 44),
    },
  ];

  test.each(CASES)('because it has $what is refused: $code', async ({ code, damage }) => {
    const path = written(temporaryFolder(), 'a.qcow2', 'compat=1.1');
    const bytes = readFileSync(path);
    damage(bytes);
    writeFileSync(path, bytes);
    await choose([path]);

    const found = await page.evaluate(() =>
      engine.open(chosen()[0]!).catch(({ code, message }) => ({ code, message })),
    );

    expect(found).toMatchObject({ code, message: expect.stringMatching(/^[^\n]+$/) });
  });

  test('because its backing file was not chosen says which one is needed', async () => {
    await choose(overlay(temporaryFolder()).slice(0, 1));

    const message = await page.evaluate(() => engine.open(chosen()[0]!, { files: [] }).catch((error) => error.message));

    expect(message).toContain("'middle.qcow2': choose that file together with it");
  });

  test('because it has changed since it was chosen says so', async () => {
    const path = written(temporaryFolder(), 'a.qcow2', 'compat=1.1');
    await choose([path]);
    writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(4096)]));

    const error = await page.evaluate(() =>
      engine.open(chosen()[0]!).catch(({ code, message }) => ({ code, message })),
    );

    expect(error).toMatchObject({ code: 'ERR_IO', message: expect.stringContaining('may have changed') });
  });

  test('because of wrong refcounts is checked as QEMU checks it', async () => {
    const path = written(temporaryFolder(), 'a.qcow2', 'compat=1.1');
    const bytes = readFileSync(path);
    // The first refcount block lies in the third cluster: two clusters too many, one too few.
    bytes.writeUInt16BE(5, 2 * 65536 + 2 * 5);
    bytes.writeUInt16BE(1, 2 * 65536 + 2 * 100);
    bytes.writeUInt16BE(0, 2 * 65536 + 2 * 4);
    writeFileSync(path, bytes);
    await choose([path]);

    const found = await page.evaluate(async () => {
      const image = await engine.open(chosen()[0]!);
      const { corruptions, leaks } = await image.check();
      await image.close();
      return { corruptions, leaks };
    });

    const { stdout } = spawnSync('qemu-img', ['check', '--output=json', path], { encoding: 'utf8' });
    const { corruptions = 0, leaks = 0 } = JSON.parse(stdout);
    expect(found).toEqual({ corruptions, leaks });
    expect(corruptions).toBeGreaterThan(0);
  });
});

describe('a large image', () => {
  test('of 40 GiB shows its first map at once, and little of it is read', async () => {
    const path = join(temporaryFolder(), 'large.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', path, '40G');
    expect(statSync(path).size).toBeGreaterThan(40 * 1024 * MIB);
    await choose([path]);

    const attempts = await page.evaluate(async () => {
      const found = [];
      for (let attempt = 0; attempt < 3; attempt++) {
        const begun = performance.now();
        const file = new corral.BlobFile(chosen()[0]!);
        const image = await corral.Image.open(file, { core: await corral.loadCore() });
        let length = 0;
        for await (const extent of image.map()) length += extent.length;
        const milliseconds = performance.now() - begun;
        await image.close();
        found.push({ length, milliseconds, bytesRead: file.bytesRead });
      }
      return found;
    });

    console.log(`first map of 40 GiB: ${attempts.map(({ milliseconds }) => milliseconds.toFixed(0)).join(', ')} ms`);
    for (const { length, bytesRead } of attempts) {
      expect(length).toBe(40 * 1024 * MIB);
      expect(bytesRead).toBeLessThanOrEqual(16 * MIB);
    }
    expect(Math.min(...attempts.map(({ milliseconds }) => milliseconds))).toBeLessThan(1000);
  });

  test('that is read can be left at any time', async () => {
    const path = join(temporaryFolder(), 'large.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', path, '40G');
    await choose([path]);

    const code = await page.evaluate(async () => {
      const image = await engine.open(chosen()[0]!);
      const ending = new AbortController();
      setTimeout(() => ending.abort(), 50);
      const stream = image.readable({ signal: ending.signal });
      const error = await stream.pipeTo(new WritableStream()).catch((reason) => reason);
      await image.close();
      return error.code;
    });

    expect(code).toBe('ERR_CANCELLED');
  });
});

describe('sixty-four hostile images', () => {
  test('in one tab, one after the other, do it no harm, and leave no memory behind', async () => {
    const seed = chooseSeed();
    const good = readFileSync(written(temporaryFolder(), 'a.qcow2', 'cluster_size=4k', 6 * MIB));
    const images = hostileImages(good, seed);
    const folder = temporaryFolder();
    const paths = images.map((_, index) => join(folder, `${index}.qcow2`));
    for (const [index, path] of paths.entries()) writeFileSync(path, images[index]!);
    await choose(paths);
    const open = (first: number, end: number) =>
      page.evaluate(
        async (range) => {
          const codes: string[] = [];
          for (const file of chosen().slice(...range)) {
            await engine.inspect(file, { limits: { maxTime: 1000 } });
            const image = await engine
              .open(file, { files: [] })
              .catch(({ code }: { code: string }) => void codes.push(code));
            if (!image) continue;
            const length = Math.min(image.size, 1 << 20);
            await image.read(0, length).then(
              () => codes.push('read'),
              ({ code }) => codes.push(code),
            );
            await image.check().catch(() => undefined);
            await image.close();
          }
          return codes;
        },
        [first, end] as const,
      );
    // Programs and caches that stay are there after some of them.
    const codes = await open(0, 8);
    const before = await memoryOfTab();

    codes.push(...(await open(8, images.length)));

    const grown = (await memoryOfTab()) - before;
    expect(codes.length, `seed ${seed}`).toBe(64);
    expect(codes).not.toContain('ERR_INTERNAL');
    expect(grown, `seed ${seed}: bytes that the others left behind`).toBeLessThan(32 * MIB);
  });
});

/** Puts files into the page's chooser. */
async function choose(paths: readonly string[]): Promise<void> {
  await page.setInputFiles('input', [...paths]);
}

function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8' });
}

// biome-ignore lint/suspicious/noExplicitAny: QEMU's answers are not ours to describe
function qemuJson(verb: string, path: string): any {
  return JSON.parse(qemuImg(verb, '--output=json', path));
}

/** QEMU's map: what is data, what reads as zeros, and which layer says so. */
function qemuMap(path: string): Stretch[] {
  const stretches: (Stretch & { start: number })[] = qemuJson('map', path);
  return joined(stretches.map(({ start, length, data, depth }) => ({ offset: start, length, data, depth })));
}

interface Stretch {
  offset: number;
  length: number;
  data: boolean;
  depth: number;
}

function simplified(extents: readonly { offset: number; length: number; kind: string; depth: number }[]): Stretch[] {
  return joined(
    extents.map(({ offset, length, kind, depth }) => {
      return { offset, length, data: kind === 'data' || kind === 'compressed', depth };
    }),
  );
}

/** Neighbours that say the same are one; which layer says that there are zeros is nobody's business. */
function joined(stretches: readonly Stretch[]): Stretch[] {
  const result: Stretch[] = [];
  for (const stretch of stretches) {
    const depth = stretch.data ? stretch.depth : 0;
    const last = result.at(-1);
    if (last?.data === stretch.data && last.depth === depth) last.length += stretch.length;
    else result.push({ ...stretch, depth });
  }
  return result;
}

/** An image with data, zeros and holes in it. */
function written(folder: string, name: string, options: string, size = 8 * MIB): string {
  const path = join(folder, name);
  qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, String(size));
  qemuIo(
    path,
    'write -P 1 0 128k',
    'write -P 2 1M 64k',
    'write -z 2M 2M',
    'write -P 5 5M 192k',
    `write -P 6 ${size - 512} 512`,
  );
  return path;
}

function qemuIo(path: string, ...commands: string[]): void {
  execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path]);
}

/** Clusters that compress well, badly, and not at all. */
function compressed(folder: string, type: string): string {
  const random = randomFrom(chooseSeed());
  const disk = Buffer.alloc(3 * MIB);
  for (let index = MIB; index < 2 * MIB; index++) disk[index] = below(random, 3);
  for (let index = 2 * MIB; index < disk.length; index++) disk[index] = below(random, 256);
  const raw = join(folder, 'disk.raw');
  writeFileSync(raw, disk);
  const path = join(folder, `${type}.qcow2`);
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', `compression_type=${type}`, raw, path);
  return path;
}

function overlay(folder: string): string[] {
  const base = written(folder, 'base.qcow2', 'compat=1.1', 6 * MIB);
  const middle = join(folder, 'middle.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', middle, '8M');
  qemuIo(middle, 'write -P 9 64k 64k', 'write -z 5M 64k');
  const top = join(folder, 'top.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', top);
  qemuIo(top, 'write -P 8 1M 10k', 'write -P 7 7M 1k');
  return [top, middle, base];
}

/** The disk's bytes, as QEMU reads them. */
function rawOf(path: string, ...options: string[]): Buffer {
  const raw = join(temporaryFolder(), 'disk.raw');
  qemuImg('convert', '-O', 'raw', ...options, path, raw);
  return readFileSync(raw);
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Headers, tables and everything, with values in them that nobody meant. */
function hostileImages(good: Buffer, seed: number): Buffer[] {
  const random = randomFrom(seed);
  return Array.from({ length: 64 }, (_, index) => {
    const bytes = Buffer.from(good);
    const [from, to, changes] = [
      [4, 120, 1 + below(random, 4)],
      [8, 512, 100],
      [4096, bytes.length, 1 + below(random, 2000)],
      [4096, Math.min(bytes.length, 65536), 200],
    ][index % 4] as [number, number, number];
    for (let change = 0; change < changes; change++) bytes[from + below(random, to - from)] = below(random, 256);
    return bytes;
  });
}

/** Bytes of memory that the page's process has, once what nobody needs is gone. */
async function memoryOfTab(): Promise<number> {
  const session = await browser.context.newCDPSession(page);
  for (let pass = 0; pass < 3; pass++) {
    await session.send('HeapProfiler.collectGarbage');
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 100)));
  }
  await session.detach();
  return browser.memoryOfPages();
}
