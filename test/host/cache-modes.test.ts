/** Each cache mode by what it does: flushes that are counted, flags of open files, bytes that arrive. */

import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { CacheMode } from '../../host/cache-mode.js';
import { createImage, Image, loadCore, MemoryFile, NodeFile, openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const MIB = 1 << 20;
const CLUSTER = 65536;
const O_DIRECT = 0o40000;
const core = loadCore();

/** Knows how much of what was written no flush has covered. */
class FlushedFile extends MemoryFile {
  flushes = 0;
  unflushed = 0;
  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.unflushed++;
    await super.write(offset, pieces);
  }
  override async writeZeroes(offset: number, length: number): Promise<void> {
    this.unflushed++;
    await super.writeZeroes(offset, length);
  }
  override async flush(): Promise<void> {
    this.flushes++;
    this.unflushed = 0;
  }
}

async function opened(cache: CacheMode | undefined, setUp = async (_: Image) => {}) {
  const file = new FlushedFile();
  await Image.create(file, { core, virtualSize: 16 * MIB });
  const image = await Image.open(file, { core, write: true });
  await setUp(image);
  await image.close();
  file.flushes = 0;
  return { file, image: await Image.open(file, { core, write: true, cache }) };
}

const CHANGES: [title: string, change: (image: Image) => Promise<void>][] = [
  ['a write to a new cluster', (image) => image.write(MIB + 700, new Uint8Array(9000).fill(1))],
  ['a write in place', (image) => image.write(100, new Uint8Array(1000).fill(2))],
  ['a write of zeros', (image) => image.writeZeroes(0, 4 * CLUSTER)],
  ['a write of zeros that unmaps', (image) => image.writeZeroes(0, CLUSTER, { unmap: true })],
  ['a discard', (image) => image.discard(0, 2 * CLUSTER)],
];

describe.each(['writethrough', 'directsync'] as const)('with %s', (cache) => {
  test.each(CHANGES)('%s is durable when it ends', async (_, change) => {
    const { file, image } = await opened(cache, (fresh) => fresh.write(0, new Uint8Array(4 * CLUSTER).fill(7)));

    await change(image);

    expect(file.flushes).toBeGreaterThan(0);
    expect(file.unflushed).toBe(0);
    await image.close();
  });
});

describe('with writeback, the default', () => {
  test.each(CHANGES)('%s waits for a flush', async (_, change) => {
    const { file, image } = await opened(undefined, (fresh) => fresh.write(0, new Uint8Array(4 * CLUSTER).fill(7)));

    await change(image);

    expect(file.flushes).toBe(0);
    await image.flush();
    expect(file.flushes).toBeGreaterThan(0);
    expect(file.unflushed).toBe(0);
    await image.close();
  });
});

test('with unsafe nothing is flushed, not even at the end, and all is in the file', async () => {
  const { file, image } = await opened('unsafe');

  await image.write(MIB, new Uint8Array(5 * MIB).fill(9), { durable: true });
  await image.flush();
  await image.close();

  expect(file.flushes).toBe(0);
  await using again = await Image.open(file, { core, checkSize: MIB });
  const found = new Uint8Array(5 * MIB);
  await again.read(MIB, found);
  expectSameBytes(found, new Uint8Array(5 * MIB).fill(9));
  expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
});

/** Flags of this process's open files of that name, as open(2) has them. */
function flagsOf(path: string): number[] {
  const flags: number[] = [];
  for (const number of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${number}`) !== path) continue;
      const [, octal] = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${number}`, 'utf8')) ?? [];
      flags.push(Number.parseInt(octal ?? '0', 8));
    } catch {
      // Closed meanwhile.
    }
  }
  return flags;
}

describe.each([
  ['none', true],
  ['directsync', true],
  ['writeback', false],
  ['writethrough', false],
  ['unsafe', false],
] as const)('openImage with %s', (cache, isDirect) => {
  test(`${isDirect ? 'goes past' : 'uses'} the page cache and keeps every byte`, async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = join(temporaryFolder(), 'image.qcow2');
    await createImage(path, { virtualSize: 4 * MIB, clusterSize: 512 });
    const model = new Uint8Array(4 * MIB);

    const image = await openImage(path, { write: true, cache });
    const [flags] = flagsOf(path);
    for (let round = 0; round < 10; round++) {
      const writes = Array.from({ length: 12 }, (_, index) => {
        const offset = below(random, 4 * MIB - 1);
        const length = 1 + below(random, Math.min(20_000, 4 * MIB - offset));
        const data = new Uint8Array(length).fill(1 + round * 12 + index);
        model.set(data, offset);
        return image.write(offset, data);
      });
      await Promise.all(writes);
    }
    await image.close();

    expect(((flags ?? 0) & O_DIRECT) !== 0).toBe(isDirect);
    await using again = await openImage(path, { checkSize: MIB });
    const found = new Uint8Array(4 * MIB);
    await again.read(0, found);
    expectSameBytes(found, model, `seed ${seed}`);
    expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });
});

test('a file system that cannot go past the page cache says so', async () => {
  await expect(NodeFile.open('/proc/version', { direct: true, lock: false })).rejects.toMatchObject({
    code: 'ERR_UNSUPPORTED',
    message: expect.stringContaining('filesystem does not support O_DIRECT'),
  });
});

test('writes past the page cache that share a block do not undo each other', async () => {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, new Uint8Array(3 * 4096).fill(1));
  const file = await NodeFile.open(path, { write: true, direct: true });

  const parts = Array.from({ length: 96 }, (_, index) =>
    file.write(index * 128, [new Uint8Array(128).fill(index + 1)]),
  );
  await Promise.all(parts);
  await file.close();

  const expected = new Uint8Array(3 * 4096).map((_, index) => Math.floor(index / 128) + 1);
  expectSameBytes(new Uint8Array(readFileSync(path)), expected);
});
