/** The library in Chromium, on images that QEMU made: what it says of them, and their bytes, are QEMU's. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
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
  const descriptor = openSync(raw, 'w');
  writeSync(descriptor, disk);
  closeSync(descriptor);
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
function rawOf(path: string): Buffer {
  const raw = join(temporaryFolder(), 'disk.raw');
  qemuImg('convert', '-O', 'raw', path, raw);
  return readFileSync(raw);
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
