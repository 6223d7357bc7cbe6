/** Another metadata cache while an image is in use: nothing is lost, and nobody sees more than a pause. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { BlockFile } from '../../host/block-file.js';
import { Image, loadCore, MemoryFile, openImage, pathGate } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const MIB = 1 << 20;
const SIZE = 32 * MIB;
const CLUSTER = 65_536;
const core = loadCore();

describe.each([
  { name: 'an image with a bitmap', options: ['-o', 'cluster_size=4k,lazy_refcounts=on'], bitmap: true },
  { name: 'an overlay', options: ['-b', 'base.raw', '-F', 'raw', '-o', 'cluster_size=4k'], bitmap: true },
  { name: 'an image with a data file', options: ['-o', 'cluster_size=4k,data_file=FOLDER/data.raw'], bitmap: false },
])('the cache of $name', ({ options, bitmap }) => {
  test('changes again and again while it is written, and QEMU finds every byte', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const folder = temporaryFolder();
    const qemuImg = (...args: string[]): string => execFileSync('qemu-img', args, { cwd: folder, encoding: 'utf8' });
    const path = join(folder, 'disk.qcow2');
    const contents = new Uint8Array(SIZE);
    if (options.includes('-b')) contents.fill(7, 0, 8 * MIB);
    writeFileSync(join(folder, 'base.raw'), contents);
    const given = options.map((text) => text.replace('FOLDER', folder));
    qemuImg('create', '-q', '-f', 'qcow2', ...given, path, String(SIZE));
    const gate = pathGate();
    const image = await openImage(path, { write: true, requestCapacity: 8, gate });
    if (bitmap) await image.bitmaps.add('changes', { granularity: MIB });
    const sizes: number[] = [];
    let changing = true;
    const changes = (async () => {
      for (let round = 0; round < 12; round++) {
        await image.setCacheSize(below(random, 9) * MIB);
        sizes.push(image.statistics().cacheSize);
      }
      changing = false;
    })();

    const written = new Set<number>();
    for (let round = 0; changing || round < 8; round++) {
      const writes: Promise<void>[] = [];
      for (let index = 0; index < 12; index++) {
        const offset = index * 2 * MIB + 512 * below(random, 3900);
        const bytes = new Uint8Array(512 * (1 + below(random, 60))).fill(1 + below(random, 250));
        contents.set(bytes, offset);
        for (let at = offset; at < offset + bytes.length; at += 512) written.add(Math.floor(at / MIB));
        writes.push(image.write(offset, bytes));
      }
      await Promise.all(writes);
    }
    await changes;
    const seen = new Uint8Array(SIZE);
    await image.read(0, seen);
    await image.close();

    expectSameBytes(seen, contents, `seed ${seed}:`);
    expect(new Set(sizes).size, `seed ${seed}`).toBeGreaterThan(3);
    expect(qemuImg('check', path)).toContain('No errors');
    qemuImg('convert', '-O', 'raw', path, 'seen.raw');
    expectSameBytes(readFileSync(join(folder, 'seen.raw')), contents, `seed ${seed}, QEMU:`);
    if (!bitmap) return;
    await using again = await openImage(path, { gate });
    const dirty: number[] = [];
    for await (const { offset, length } of again.bitmaps.ranges('changes')) {
      for (let at = offset; at < offset + length; at += MIB) dirty.push(at / MIB);
    }
    expect(dirty, `seed ${seed}`).toEqual([...written].sort((one, other) => one - other));
  });
});

type Call = 'flush' | 'read' | 'write';

/** An image in memory, in a file of which one kind of call fails while `failing` says so. */
async function fragile({ requestCapacity = 2, failing }: { requestCapacity?: number; failing?: Call } = {}) {
  const state: { failing: Call | undefined; code: string } = { failing, code: 'EIO' };
  const memory: BlockFile = new MemoryFile();
  await Image.create(memory, { core, virtualSize: 8 * MIB });
  const refuse = (): Promise<never> => Promise.reject(Object.assign(new Error('broken'), { code: state.code }));
  const file = new Proxy(memory, {
    get(target, name) {
      if (name === state.failing) return refuse;
      const value = Reflect.get(target, name) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const image = await Image.open(file, { core, write: true, requestCapacity, cacheSize: 4 * MIB });
  return { image, state, memory };
}

test('an image that cannot be closed keeps its cache, and goes on when there is space again', async () => {
  const { image, state } = await fragile();
  await image.write(0, new Uint8Array(4096).fill(1));
  const before = image.statistics();
  Object.assign(state, { failing: 'write', code: 'ENOSPC' });

  const changing = image.setCacheSize(8 * MIB);
  const meanwhile = image.read(0, new Uint8Array(512));

  await expect(changing).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  await meanwhile;
  expect(image.statistics()).toMatchObject({
    cacheSize: before.cacheSize,
    allocatedClusters: before.allocatedClusters,
  });
  state.failing = undefined;
  await image.write(CLUSTER, new Uint8Array(512).fill(2));
  await image.setCacheSize(8 * MIB);
  expect(image.statistics()).toMatchObject({ allocatedClusters: 0 });
  expect(image.statistics().cacheSize).toBeGreaterThan(before.cacheSize);
  const seen = new Uint8Array(CLUSTER + 512);
  await image.read(0, seen);
  expect([seen[0], seen[4095], seen[4096], seen[CLUSTER]]).toEqual([1, 1, 0, 2]);
  await image.close();
});

test('an image that cannot be opened again says so to everybody', async () => {
  const { image, state } = await fragile();
  await image.write(0, new Uint8Array(4096).fill(1));
  await image.flush();
  state.failing = 'read';

  const changing = image.setCacheSize(8 * MIB);

  await expect(changing).rejects.toMatchObject({ code: 'ERR_IO' });
  state.failing = undefined;
  await expect(image.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  await expect(image.close()).rejects.toMatchObject({ code: 'ERR_CLOSED' });
});

test('a cache with too little room for the bitmaps is refused, and the one before goes on', async () => {
  const { image } = await fragile({ requestCapacity: 1 });
  for (let index = 0; index < 420; index++) await image.bitmaps.add(`b${index}`);
  await image.write(0, new Uint8Array(512).fill(1));

  await expect(image.setCacheSize(0)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });

  await image.write(512, new Uint8Array(512).fill(2));
  expect(image.statistics().cacheSize).toBeGreaterThan(3 * MIB);
  await image.close();
});

test('what was found corrupt is not opened again, to be written as if it were not', async () => {
  const memory = new MemoryFile();
  await Image.create(memory, { core, virtualSize: MIB, compat: '0.10' });
  await using written = await Image.open(memory, { core, write: true });
  await written.write(0, new Uint8Array(CLUSTER));
  await written.flush();
  const facts = written.info;
  const entry = new Uint8Array(8);
  await memory.read(facts.l1TableOffset, entry);
  const tableOffset = Number(new DataView(entry.buffer).getBigUint64(0) & 0xff_ffff_ffff_fe00n);
  // The first cluster's data, where the refcount table is.
  new DataView(entry.buffer).setBigUint64(0, (1n << 63n) | BigInt(facts.refcountTableOffset));
  await memory.write(tableOffset, [entry]);
  const image = await Image.open(memory, { core, write: true });
  await expect(image.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });

  await expect(image.setCacheSize(MIB)).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });

  await expect(image.write(CLUSTER, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
});

test('an image that is only read gets another cache, too', async () => {
  const memory = new MemoryFile();
  await Image.create(memory, { core, virtualSize: MIB });
  await using image = await Image.open(memory, { core, cacheSize: 0 });
  const before = image.statistics().cacheSize;

  await image.setCacheSize(16 * MIB);

  expect(image.statistics().cacheSize).toBeGreaterThan(4 * before);
});

test.each([
  [-1, 'ERR_INVALID_ARGUMENT'],
  [0.5, 'ERR_INVALID_ARGUMENT'],
  [Number.NaN, 'ERR_INVALID_ARGUMENT'],
  [2 ** 32, 'ERR_TOO_LARGE'],
])('%d is no size of a cache', async (size, code) => {
  const { image } = await fragile();

  await expect(image.setCacheSize(size)).rejects.toMatchObject({ code });

  await image.write(0, new Uint8Array(512));
  await image.close();
});
