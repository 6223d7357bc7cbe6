import { describe, expect, test } from 'vitest';
import type { BlockFile } from '../../host/block-file.js';
import { Image } from '../../host/image.js';
import { MemoryFile } from '../../host/memory-file.js';
import { loadCore } from '../../host/node/core.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';

const core = loadCore();
const MIB = 1 << 20;

async function newFile(
  options: { virtualSize?: number; clusterSize?: number; compat?: '0.10' | '1.1' } = {},
): Promise<MemoryFile> {
  const file = new MemoryFile();
  await Image.create(file, { core, virtualSize: 8 * MIB, ...options });
  return file;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Passes everything on, and counts or fails what the test asks for. */
class WatchedFile implements BlockFile {
  flushes = 0;
  failing: 'read' | 'write' | 'flush' | undefined;
  error: Error = Object.assign(new Error('broken cable'), { code: 'EIO' });
  /** Held back until `release` is called. */
  gate: Promise<void> | undefined;

  constructor(private readonly inner: MemoryFile) {}

  readonly zeroBeyondEnd = true;
  readonly readOnly = false;
  size = () => this.inner.size();
  async read(offset: number, target: Uint8Array) {
    await this.gate;
    if (this.failing === 'read') throw this.error;
    await this.inner.read(offset, target);
  }
  async write(offset: number, pieces: readonly Uint8Array[]) {
    await this.gate;
    if (this.failing === 'write') throw this.error;
    await this.inner.write(offset, pieces);
  }
  writeZeroes = (offset: number, length: number) => this.inner.writeZeroes(offset, length);
  discard = (offset: number, length: number) => this.inner.discard(offset, length);
  truncate = (length: number) => this.inner.truncate(length);
  async flush() {
    this.flushes++;
    if (this.failing === 'flush') throw this.error;
  }
  close = () => this.inner.close();
}

describe('a new image', () => {
  test('reads as zeros everywhere', async () => {
    await using image = await Image.open(await newFile(), { core });
    const target = new Uint8Array(3 * MIB).fill(1);

    await image.read(5 * MIB, target);

    expectSameBytes(target, new Uint8Array(3 * MIB));
  });

  test('is one unallocated extent', async () => {
    await using image = await Image.open(await newFile(), { core });

    const extents = await collect(image.map());

    expect(extents).toEqual([
      { offset: 0, length: 8 * MIB, kind: 'unallocated', allocated: false, hostOffset: undefined },
    ]);
  });

  test.each([512, 4096, 65536, 2 * MIB])('with clusters of %i bytes keeps what is written', async (clusterSize) => {
    const file = await newFile({ clusterSize });
    const image = await Image.open(file, { core, write: true });
    await image.write(MIB + 512, new Uint8Array(100_000).fill(7));
    await image.close();

    await using again = await Image.open(file, { core });
    const target = new Uint8Array(100_000 + 1024);
    await again.read(MIB, target);

    expectSameBytes(target.subarray(0, 512), new Uint8Array(512));
    expectSameBytes(target.subarray(512, 100_512), new Uint8Array(100_000).fill(7));
    expectSameBytes(target.subarray(100_512), new Uint8Array(512));
  });

  test('of size zero can be opened, read and mapped', async () => {
    await using image = await Image.open(await newFile({ virtualSize: 0 }), { core, write: true });

    await image.read(0, new Uint8Array(0));

    expect(await collect(image.map())).toEqual([]);
    await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
  });
});

describe('writing', () => {
  test('zeros the rest of a cluster that lies on stale bytes of the file', async () => {
    const file = await newFile();
    const end = await file.size();
    await file.write(end, [new Uint8Array(MIB).fill(0xaa)]);
    await using image = await Image.open(file, { core, write: true });

    await image.write(8192, new Uint8Array(4096).fill(5));

    const target = new Uint8Array(65536);
    await image.read(0, target);
    expect(target.every((value, index) => value === (index >= 8192 && index < 12_288 ? 5 : 0))).toBe(true);
  });

  test('of neighbouring pieces of one new cluster at the same time keeps all of them', async () => {
    await using image = await Image.open(await newFile(), { core, write: true });

    await Promise.all(
      Array.from({ length: 16 }, (_, index) => image.write(index * 4096, new Uint8Array(4096).fill(index + 1))),
    );

    const target = new Uint8Array(65536);
    await image.read(0, target);
    expect(target.every((value, index) => value === (index >> 12) + 1)).toBe(true);
    expect(image.statistics().allocatedClusters).toBe(2);
  });

  test('overlapping requests take effect in the order of the calls', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    await using image = await Image.open(await newFile({ clusterSize: 4096 }), {
      core,
      write: true,
      requestCapacity: 16,
    });
    const model = new Uint8Array(MIB);
    const calls: Promise<void>[] = [];

    for (let step = 1; step <= 400; step++) {
      const offset = below(random, MIB - 20_000);
      const length = 1 + below(random, 20_000);
      if (random() < 0.6) {
        model.fill(step % 256, offset, offset + length);
        calls.push(image.write(offset, new Uint8Array(length).fill(step % 256)));
      } else {
        const expected = model.slice(offset, offset + length);
        const target = new Uint8Array(length);
        calls.push(image.read(offset, target).then(() => expectSameBytes(target, expected, `seed ${seed}`)));
      }
    }

    await Promise.all(calls);
  });

  test('more calls than there are slots keep their order', async () => {
    await using image = await Image.open(await newFile(), { core, write: true, requestCapacity: 2 });

    await Promise.all(Array.from({ length: 100 }, (_, index) => image.write(0, new Uint8Array(512).fill(index))));

    const target = new Uint8Array(512);
    await image.read(0, target);
    expectSameBytes(target, new Uint8Array(512).fill(99));
  });

  test('a durable write is flushed before it is answered', async () => {
    const file = new WatchedFile(await newFile());
    await using image = await Image.open(file, { core, write: true });

    await image.write(0, new Uint8Array(512), { durable: true });

    // Data and refcounts before the entries, then the entries themselves.
    expect(file.flushes).toBe(2);
  });

  test('however many tables have changed, a flush flushes the file twice', async () => {
    const file = new WatchedFile(await newFile({ virtualSize: 2048 * MIB, clusterSize: 4096 }));
    await using image = await Image.open(file, { core, write: true, cacheSize: 16 * MIB });
    await image.write(0, new Uint8Array(4096));
    await image.flush();
    file.flushes = 0;

    const data = new Uint8Array(4096).fill(1);
    for (let offset = 0; offset < 2048 * MIB; offset += 4 * MIB) await image.write(offset, data);
    await image.flush();

    expect(file.flushes).toBe(2);
  });

  test('a flush without anything written asks nothing of the file', async () => {
    const file = new WatchedFile(await newFile());
    await using image = await Image.open(file, { core, write: true });

    await image.flush();

    expect(file.flushes).toBe(0);
  });

  test('beyond the end of the disk is refused and changes nothing', async () => {
    const file = await newFile();
    const before = file.contents();
    const image = await Image.open(file, { core, write: true });

    await expect(image.write(8 * MIB - 1, new Uint8Array(2))).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    await image.close();

    expectSameBytes(file.contents(), before);
  });

  test('to an image that is open for reading is refused', async () => {
    await using image = await Image.open(await newFile(), { core });

    await expect(image.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'ERR_READ_ONLY' });
  });
});

describe('failures of the file', () => {
  test('a failed read names its cause, and a later one works', async () => {
    const file = new WatchedFile(await newFile());
    await using image = await Image.open(file, { core, write: true });
    await image.write(0, new Uint8Array(4096).fill(3));
    file.failing = 'read';

    await expect(image.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_IO', cause: file.error });
    file.failing = undefined;
    const target = new Uint8Array(512);
    await image.read(0, target);

    expectSameBytes(target, new Uint8Array(512).fill(3));
  });

  test('a full disk fails the write with ERR_NO_SPACE, and later writes work', async () => {
    const file = new WatchedFile(await newFile());
    await using image = await Image.open(file, { core, write: true });
    await image.write(0, new Uint8Array(512));
    file.failing = 'write';
    file.error = Object.assign(new Error('no space'), { code: 'ENOSPC' });

    await expect(image.write(MIB, new Uint8Array(512).fill(1))).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
    file.failing = undefined;
    await image.write(MIB, new Uint8Array(512).fill(2));

    const target = new Uint8Array(512);
    await image.read(MIB, target);
    expectSameBytes(target, new Uint8Array(512).fill(2));
  });

  test('after a failed flush nothing more is written', async () => {
    const file = new WatchedFile(await newFile());
    const image = await Image.open(file, { core, write: true });
    await image.write(0, new Uint8Array(512));
    file.failing = 'flush';

    await expect(image.flush()).rejects.toMatchObject({ code: 'ERR_IO' });
    file.failing = undefined;

    await expect(image.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_BROKEN' });
    await expect(image.flush()).rejects.toMatchObject({ code: 'ERR_BROKEN' });
    await expect(image.close()).rejects.toMatchObject({ code: 'ERR_BROKEN' });
  });
});

describe('cancelling', () => {
  test('a signal that was aborted before the call rejects at once', async () => {
    await using image = await Image.open(await newFile(), { core });

    const call = image.read(0, new Uint8Array(512), { signal: AbortSignal.abort() });

    await expect(call).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
  });

  test('a call that waits for the file ends when its operations have ended, and the image goes on', async () => {
    const file = new WatchedFile(await newFile({ clusterSize: 512 }));
    await using image = await Image.open(file, { core, write: true });
    await image.write(0, new Uint8Array(65_536).fill(1));
    const controller = new AbortController();
    let release = () => {};
    file.gate = new Promise((resolve) => {
      release = resolve;
    });

    const call = image.write(65_536, new Uint8Array(MIB), { signal: controller.signal });
    controller.abort();
    release();
    file.gate = undefined;

    await expect(call).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    await image.write(2 * MIB, new Uint8Array(512));
  });
});

describe('closing', () => {
  test('waits for the calls that are under way', async () => {
    const inner = await newFile();
    const file = new WatchedFile(inner);
    const image = await Image.open(file, { core, write: true });
    let closed = false;
    file.close = async () => {
      closed = true;
    };
    let release = () => {};
    file.gate = new Promise((resolve) => {
      release = resolve;
    });

    const write = image.write(0, new Uint8Array(MIB).fill(4)).then(() => expect(closed).toBe(false));
    const closing = image.close();
    setTimeout(release, 20);

    await Promise.all([write, closing]);
    expect(closed).toBe(true);
    await using again = await Image.open(inner, { core });
    const target = new Uint8Array(MIB);
    await again.read(0, target);
    expectSameBytes(target, new Uint8Array(MIB).fill(4));
  });

  test('refuses every later call', async () => {
    const image = await Image.open(await newFile(), { core, write: true });

    await image.close();

    await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await expect(image.flush()).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await image.close();
  });
});

describe('memory', () => {
  test('is the same for a small and for a huge disk', async () => {
    const small = await Image.open(await newFile({ virtualSize: MIB }), { core, write: true });
    const huge = await Image.open(await newFile({ virtualSize: 2 ** 44 }), { core, write: true });

    await huge.write(2 ** 43, new Uint8Array(512));

    expect(huge.statistics().cacheSize).toBe(small.statistics().cacheSize);
    await small.close();
    await huge.close();
  });

  test('a cache of the smallest size serves writes all over the disk', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const file = await newFile({ virtualSize: 64 * MIB, clusterSize: 512 });
    await using image = await Image.open(file, { core, write: true, cacheSize: 0, requestCapacity: 2 });
    const written = new Map<number, number>();

    for (let step = 0; step < 3000; step++) {
      const offset = below(random, (64 * MIB) / 512) * 512;
      written.set(offset, step % 256);
      await image.write(offset, new Uint8Array(512).fill(step % 256));
    }

    expect(image.statistics().cacheEvictions).toBeGreaterThan(0);
    for (const [offset, value] of written) {
      const target = new Uint8Array(512);
      await image.read(offset, target);
      expectSameBytes(target, new Uint8Array(512).fill(value), `seed ${seed}, offset ${offset}`);
    }
  });
});
