/** Check on images that are made byte by byte: every refcount width, windows, hostile tables, cancelling. */

import { describe, expect, test } from 'vitest';
import { Field, Structure } from '../../host/abi.js';
import { type CheckReport, Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { COPIED, CountingFile, ImageBuilder, openForCheck } from './image-builder.js';

const NOTHING_WRONG = { corruptions: 0, leaks: 0, checkErrors: 0, findings: [] };
const ORDERS = [0, 1, 2, 3, 4, 5, 6];

/** An image with one L2 table and some data clusters. */
function smallImage(options: { refcountOrder?: number } = {}) {
  const builder = new ImageBuilder(options);
  const table = builder.take();
  const data = builder.take(4);
  builder.setL1(0, BigInt(table) | COPIED);
  for (let index = 0; index < 4; index++) {
    builder.setWord(table + index * 8, BigInt(data + index * builder.clusterSize) | COPIED);
  }
  return { builder, table, data };
}

async function check(file: MemoryFile, checkSize?: number): Promise<CheckReport> {
  const image = await openForCheck(file, { tablesOnly: true, ...(checkSize === undefined ? {} : { checkSize }) });
  return image.check();
}

describe('refcounts of every width', () => {
  test.each(ORDERS)('a sound image with refcounts of 2^%i bits has no findings', async (refcountOrder) => {
    const { builder } = smallImage({ refcountOrder });

    const report = await check(builder.file());

    expect(report).toMatchObject({ ...NOTHING_WRONG, allocatedClusters: 4, fragmentedClusters: 0 });
    expect(report.imageEndOffset).toBe(9 * builder.clusterSize);
  });

  test.each(ORDERS)('random refcounts of 2^%i bits are reported as they are stored', async (refcountOrder) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const builder = new ImageBuilder({ refcountOrder });
    const expected: object[] = [];
    for (let cluster = 0; cluster < 64; cluster++) {
      const bits = Array.from({ length: 1 << refcountOrder }, () => (random() < 0.4 ? '1' : '0')).join('');
      const refcount = BigInt(`0b${bits}`);
      const references = cluster < 4 ? 1n : 0n;
      builder.setRefcount(cluster, refcount);
      if (refcount === references) continue;
      const where = { structure: Structure.RefcountBlock, field: Field.Refcount, hostOffset: cluster * 4096 };
      expected.push({ ...where, found: refcount, expected: references, leak: refcount > references, repaired: false });
    }

    const report = await check(builder.file());

    expect(report.findings, `seed ${seed}`).toEqual(expected);
  });

  test.each([
    [0, 1],
    [1, 3],
    [2, 15],
    [3, 255],
  ])('2^%i bits count %i references; each one more is a corruption', async (refcountOrder, maximum) => {
    const { builder, table, data } = smallImage({ refcountOrder });
    for (let index = 0; index < 512; index++) builder.setWord(table + index * 8, index < 300 ? BigInt(data) : 0n);
    builder.setRefcount(data / 4096, BigInt(maximum));
    for (let index = 1; index < 4; index++) builder.setRefcount(data / 4096 + index, 0n);

    const report = await check(builder.file());

    // A refcount of one asks for COPIED in each entry.
    const flags = maximum === 1 ? 300 : 0;
    expect(report).toMatchObject({ corruptions: 300 - maximum + flags, leaks: 0 });
  });
});

describe('windows', () => {
  test('a damaged image walked in windows of any size gives the report of a walk in one', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const { builder, table } = smallImage();
    for (let poke = 0; poke < 40; poke++) {
      const offset = BigInt(below(random, 140) * 2048);
      builder.setWord(table + below(random, 512) * 8, offset | (random() < 0.5 ? COPIED : 0n));
      builder.setRefcount(below(random, 64), BigInt(below(random, 3)));
    }

    const { findings, ...whole } = await check(builder.file());
    for (const checkSize of [2000, 2100, 2300, 2600, 4000]) {
      const { findings: _, ...report } = await check(builder.file(), checkSize);

      expect(report, `seed ${seed}, ${checkSize} bytes`).toEqual(whole);
    }
    expect(findings.length, `seed ${seed}`).toBeGreaterThan(40);
  });

  test('windows in which nothing lies are passed over in a file of a terabyte', async () => {
    const { builder, table } = smallImage();
    const far = 0x8000000000n;
    builder.setWord(table + 8 * 4, far);
    const file = new SparseFile(builder.bytes, 2 ** 40);

    const report = await check(file, 65536);

    // The far cluster has a reference and no refcount block.
    expect(report).toMatchObject({ corruptions: 1, leaks: 0, imageEndOffset: Number(far) + 4096 });
    expect(file.bytesRead).toBeLessThan(builder.bytes.length * 4);
  });
});

describe('what an image may ask for', () => {
  test('a table that every one of four million L1 entries names is read once', async () => {
    const builder = new ImageBuilder({ clusterBits: 16, clusters: 600, l1Size: 4194304, refcountOrder: 5 });
    const table = builder.take();
    const data = builder.take();
    for (let index = 0; index < 4194304; index++) builder.setL1(index, BigInt(table));
    for (let index = 0; index < 8192; index++) builder.setWord(table + index * 8, BigInt(data));
    builder.setRefcount(table / 65536, 4194304n);
    const file = builder.file();

    const report = await check(file);

    expect(report).toMatchObject({ checkErrors: 0, leaks: 0 });
    expect(report.corruptions).toBeGreaterThan(0); // a cluster referred to 2^35 times
    expect(file.bytesRead).toBeLessThan(builder.bytes.length * 1.2);
  });

  test('snapshots whose L1 tables cannot all be in the file are an error, not years of work', async () => {
    const builder = new ImageBuilder({ clusterBits: 16, clusters: 700, l1Size: 4194304 });
    const snapshots = builder.take(57);
    builder.setSnapshots(snapshots, 65536, builder.l1Offset, 4194304);
    const file = builder.file();

    const report = await check(file);

    expect(report.checkErrors).toBeGreaterThan(0);
    expect(report.findings).toContainEqual(
      expect.objectContaining({ structure: Structure.SnapshotTable, field: Field.Overlap }),
    );
    expect(file.bytesRead).toBeLessThan(builder.bytes.length * 4);
  });

  test('a snapshot table that goes on behind the end of the file is refused where it leaves the file', async () => {
    const builder = new ImageBuilder({ clusters: 16 });
    const snapshots = builder.take();
    builder.setSnapshots(snapshots, 2, 0, 0);
    builder.bytes.writeUInt16BE(65535, snapshots + 14);

    await expect(check(builder.file())).rejects.toMatchObject({
      code: 'ERR_IMAGE_CORRUPT',
      details: { hostOffset: BigInt(snapshots + 65592) },
    });
  });

  test('a thousand snapshots that share one table cost one look at it', async () => {
    const builder = new ImageBuilder({ clusterBits: 16, clusters: 1100 });
    const table = builder.take();
    const data = builder.take();
    builder.setL1(0, BigInt(table));
    builder.setWord(table, BigInt(data));
    const snapshots = builder.take();
    builder.setSnapshots(snapshots, 1000, 0, 1);
    for (let index = 0; index < 1000; index++) {
      const l1 = builder.take();
      builder.setWord(l1, BigInt(table));
      builder.setWord(snapshots + index * 56, BigInt(l1));
    }
    builder.setRefcount(table / 65536, 1001n);
    builder.setRefcount(data / 65536, 1001n);
    const file = builder.file();

    const report = await check(file);

    expect(report).toMatchObject({ ...NOTHING_WRONG, allocatedClusters: 1 });
    // One slice of each L1 table, the L2 table, the snapshot table, the refcounts.
    expect(file.bytesRead).toBeLessThan(1001 * 4096 + 4 * 65536 + 65536);
  });

  test('the first findings are listed, all of them are counted', async () => {
    const builder = new ImageBuilder({ clusters: 2048 });
    for (let cluster = 4; cluster < 2048; cluster++) builder.setRefcount(cluster, 1n);

    const report = await check(builder.file());

    expect(report).toMatchObject({ leaks: 2044, corruptions: 0 });
    expect(report.findings).toHaveLength(1636);
    expect(report.findings.at(-1)).toMatchObject({ hostOffset: (4 + 1635) * 4096, leak: true });
  });

  test.each([
    ['more extra data than QEMU reads', 1025],
    ['a table of more than 64 MiB', 1024],
  ])('a snapshot table with %s is refused', async (_name, extraData) => {
    const builder = new ImageBuilder({ clusterBits: 16, clusters: 1600 });
    const snapshots = builder.take(1500);
    builder.setSnapshots(snapshots, 65536, 0, 0);
    for (let entry = snapshots; entry + 40 < snapshots + 1500 * 65536; entry += 40 + extraData) {
      builder.bytes.writeUInt32BE(extraData, entry + 36);
    }

    const result = check(builder.file());

    await expect(result).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
  });
});

test('bitmaps that the header names in a way that makes no sense are a corruption that ends no check', async () => {
  const { builder } = smallImage();
  builder.bytes.writeBigUInt64BE(1n, 88);
  builder.bytes.writeUInt32BE(0x23852875, 104);
  builder.bytes.writeUInt32BE(24, 108);

  const report = await check(builder.file());

  expect(report).toMatchObject({ corruptions: 1, checkErrors: 1, leaks: 0 });
});

describe('refused before any walk', () => {
  test('an instance without memory for checking says so', async () => {
    const { builder } = smallImage();

    const result = check(builder.file(), 0);

    await expect(result).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
  });
});

describe('while it runs', () => {
  test('a guest read is answered in the middle of a check', async () => {
    const { builder } = largeImage();
    const image = await openForCheck(new SlowFile(builder.bytes));
    const order: string[] = [];

    const checked = image.check().then(() => order.push('check'));
    await image.read(0, new Uint8Array(512)).then(() => order.push('read'));
    await checked;

    expect(order).toEqual(['read', 'check']);
  });

  test('a cancelled check ends early, and the next one begins anew', async () => {
    const { builder } = largeImage();
    const file = new SlowFile(builder.bytes);
    const image = await openForCheck(file);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);

    const cancelled = image.check({ signal: controller.signal });

    await expect(cancelled).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    expect(file.reads).toBeLessThan(30);
    expect(await image.check()).toMatchObject({ ...NOTHING_WRONG, allocatedClusters: 512 });
  });

  test('a check can be cancelled although every table is resident', async () => {
    const { builder } = largeImage();
    const image = await openForCheck(new SlowFile(builder.bytes), { checkSize: 2600 });
    await image.check();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 0);

    const cancelled = image.check({ signal: controller.signal });

    await expect(cancelled).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
  });

  test('progress grows towards the length of the file', async () => {
    const { builder } = largeImage();
    const image = await openForCheck(new SlowFile(builder.bytes));
    const seen: number[] = [];

    await image.check({ onProgress: (done, total) => seen.push(done / total) });

    expect(seen.length).toBeGreaterThan(0);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBeLessThanOrEqual(1);
  });

  test('a table that cannot be read ends the check with the error of the file', async () => {
    const { builder, table } = smallImage();
    const file = new FailingFile(builder.bytes, table);

    const result = check(file);

    await expect(result).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  test('tables that are changed but not yet written count as they are', async () => {
    const file = new MemoryFile();
    await Image.create(file, { core: loadCore(), virtualSize: 1 << 24, clusterSize: 4096 });
    const image = await openForCheck(file, { write: true });
    for (let offset = 0; offset < 1 << 24; offset += 1 << 20) await image.write(offset, new Uint8Array(9000).fill(7));

    const report = await image.check();

    expect(report).toMatchObject({ ...NOTHING_WRONG, allocatedClusters: 16 * 3 });
  });
});

/** 64 L2 tables of 8 data clusters each: some seventy reads. */
function largeImage() {
  const builder = new ImageBuilder({ clusters: 700, l1Size: 64 });
  for (let index = 0; index < 64; index++) {
    const table = builder.take();
    const data = builder.take(8);
    builder.setL1(index, BigInt(table) | COPIED);
    for (let entry = 0; entry < 8; entry++) {
      builder.setWord(table + entry * 8, BigInt(data + entry * builder.clusterSize) | COPIED);
    }
  }
  return { builder };
}

class SlowFile extends MemoryFile {
  reads = 0;

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.reads++;
    await new Promise((resolve) => setTimeout(resolve, 3));
    await super.read(offset, target);
  }
}

class FailingFile extends MemoryFile {
  constructor(
    bytes: Uint8Array,
    private readonly broken: number,
  ) {
    super(bytes);
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    if (offset === this.broken) throw Object.assign(new Error('bad sector'), { code: 'EIO' });
    await super.read(offset, target);
  }
}

/** Longer than what is in it. */
class SparseFile extends CountingFile {
  constructor(
    bytes: Uint8Array,
    private readonly apparent: number,
  ) {
    super(bytes);
  }

  override async size(): Promise<number> {
    return this.apparent;
  }
}
