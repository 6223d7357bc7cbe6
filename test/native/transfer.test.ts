import { closeSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { DAMAGED, requireAddon } from '../../host/node/addon.js';
import { copyHelper } from '../../host/node/copy-helper.js';
import { NodeFile } from '../../host/node/index.js';
import { nodeCodec } from '../../host/node/node-codec.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const addon = requireAddon();
const MIB = 1 << 20;

/** Bytes that compress, of which no two clusters are alike. */
function text(length: number, seed: number): Uint8Array {
  const random = randomFrom(seed);
  return Uint8Array.from({ length }, (_, index) => (index % 7 < 5 ? 65 + (index % 23) : below(random, 256)));
}

function fileOf(bytes: Uint8Array): string {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, bytes);
  return path;
}

const { decompressFrom, compressInto } = nodeCodec as Required<typeof nodeCodec>;

describe('a compressed cluster', () => {
  test.each(['zlib', 'zstd'] as const)('of %s is what it was compressed from, whole and in part', async (type) => {
    const seed = chooseSeed();
    const cluster = text(65_536, seed);
    const compressed = new Uint8Array(65_536);
    const length = (await compressInto(type, cluster, compressed, undefined)) ?? 0;
    // Behind the data there is something else, as in an image.
    const path = fileOf(Uint8Array.from([...text(777, 1), ...compressed.subarray(0, length), ...text(600, 2)]));
    const file = await NodeFile.open(path);
    const place = { type, hostOffset: 777, sourceLength: length + 500, clusterSize: 65_536 } as const;

    for (const [skipped, wanted] of [
      [0, 65_536],
      [0, 1],
      [65_535, 1],
      [4096, 12_345],
    ] as const) {
      const target = new Uint8Array(wanted);
      await decompressFrom(file, { ...place, skipped }, target);
      expectSameBytes(target, cluster.subarray(skipped, skipped + wanted), `CORRAL_SEED=${seed}`);
    }
    await file.close();
  });

  test.each([undefined, 1, 9])('of zlib with level %s is followed by every reader of small windows', async (level) => {
    const cluster = text(65_536, 3);
    const compressed = new Uint8Array(65_536);

    const length = (await compressInto('zlib', cluster, compressed, level)) ?? 0;

    expect(length).toBeGreaterThan(0);
    expectSameBytes(inflateRawSync(compressed.subarray(0, length), { windowBits: 12 }), cluster);
  });

  test.each(['zlib', 'zstd'] as const)('of %s that would not fit is none', async (type) => {
    const random = randomFrom(4);
    const cluster = Uint8Array.from({ length: 65_536 }, () => below(random, 256));

    expect(await compressInto(type, cluster, new Uint8Array(65_024), undefined)).toBe(0);
  });

  test.each(['zlib', 'zstd'] as const)('of %s that is cut off, too short or too long is damaged', async (type) => {
    const cluster = text(65_536, 5);
    const compressed = new Uint8Array(65_536);
    const length = (await compressInto(type, cluster, compressed, undefined)) ?? 0;
    const file = await NodeFile.open(fileOf(compressed.subarray(0, length)));
    const target = new Uint8Array(65_536);
    const place = { type, hostOffset: 0, sourceLength: length, clusterSize: 65_536, skipped: 0 } as const;
    // All at once: one that fails before somebody waits for it would be an unhandled rejection.
    const answers = await Promise.allSettled([
      decompressFrom(file, { ...place, clusterSize: 131_072 }, new Uint8Array(131_072)),
      decompressFrom(file, { ...place, clusterSize: 32_768 }, target.subarray(0, 32_768)),
      decompressFrom(file, { ...place, sourceLength: length >> 1 }, target),
    ]);

    const damaged = { status: 'rejected', reason: { code: 'ERR_IMAGE_CORRUPT' } };
    expect(answers).toMatchObject([damaged, damaged, damaged]);
    await file.close();
  });

  test('of any bytes at all is damaged, or decompresses to its size', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const answers = new Set<number>();
    const guarded = new Uint8Array(4096 + 64).fill(0xee);

    for (let round = 0; round < 300; round++) {
      const source = round % 2 === 0 ? text(600, round) : deflateRawSync(text(4096, round)).subarray(0, 3000);
      if (round % 2 === 1) source[below(random, source.length)] = below(random, 256);
      const descriptor = openSync(fileOf(source), 'r');
      const target = guarded.subarray(32, 32 + 4096);
      const answer = await new Promise<number>((resolve) =>
        addon.decompressCluster(descriptor, 0, source.length, round % 3 === 0 ? 1 : 0, 4096, 0, target, resolve),
      );
      closeSync(descriptor);
      answers.add(answer);
    }

    expect([...answers].every((answer) => answer === 0 || answer === DAMAGED)).toBe(true);
    expect(answers.has(DAMAGED), `CORRAL_SEED=${seed}`).toBe(true);
    expect([...guarded.subarray(0, 32), ...guarded.subarray(4128)].every((byte) => byte === 0xee)).toBe(true);
  });
});

describe('stretches of data', () => {
  test.each([512, 4096, 65_536])('in blocks of %s are found wherever they are', (block) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const bytes = new Uint8Array(MIB - 700);
    for (let count = 0; count < 9; count++) bytes[below(random, bytes.length)] = 1 + below(random, 255);
    const places = new Int32Array(Math.ceil(bytes.length / block) + 1);

    const found = [...places.subarray(0, addon.findData(bytes, block, places))];

    const expected: number[] = [];
    for (let start = 0; start < bytes.length; start += block) {
      const data = bytes.subarray(start, start + block).some((byte) => byte !== 0);
      if (data === (expected.length % 2 === 0)) expected.push(start);
    }
    if (expected.length % 2 === 1) expected.push(bytes.length);
    expect(found, `CORRAL_SEED=${seed}`).toEqual(expected);
  });

  test('are as many as there is room for', () => {
    const places = new Int32Array(2);

    expect(addon.findData(Uint8Array.from([1, 0, 1, 0, 1, 0]), 1, places)).toBe(2);
    expect([...places]).toEqual([0, 1]);
  });
});

describe('a range that is copied', () => {
  const helper = copyHelper();
  const leavingOut = (blockLength: number) => ({ blockLength, shares: false });

  test.each([tmpdir(), '/dev/shm'])('by the file system, where it can, has every byte: into %s', async (folder) => {
    const source = text(3 * MIB + 700, 9);
    const from = await NodeFile.open(fileOf(source));
    const path = join(folder, `corral-test-${process.pid}-shared`);
    const target = await NodeFile.open(path, { create: true });
    const shares = { blockLength: 4096, shares: true };

    try {
      const copies = [
        helper?.copy({ file: from, offset: 4096 }, { file: target, offset: MIB }, MIB, shares),
        helper?.copy({ file: from, offset: MIB }, { file: target, offset: 2 * MIB }, 4 * MIB, shares),
      ];
      expect(await Promise.all(copies)).toEqual([true, true]);

      await target.truncate(6 * MIB);
      const expected = new Uint8Array(6 * MIB);
      expected.set(source.subarray(4096, 4096 + MIB), MIB);
      expected.set(source.subarray(MIB), 2 * MIB);
      expectSameBytes(readFileSync(path), expected);
    } finally {
      await from.close();
      await target.close();
      rmSync(path);
    }
  });

  test('leaves out blocks of zeros, and ends with zeros behind the end of its source', async () => {
    const source = text(3 * MIB, 6);
    source.fill(0, 8192 + 100, 2 * MIB);
    const [from, to] = [fileOf(source), fileOf(new Uint8Array(0))];
    truncateSync(to, 4 * MIB);
    const [file, target] = [await NodeFile.open(from), await NodeFile.open(to, { write: true })];

    const copied = await helper?.copy({ file, offset: 100 }, { file: target, offset: 0 }, 4 * MIB, leavingOut(4096));

    expect(copied).toBe(true);
    const expected = new Uint8Array(4 * MIB);
    expected.set(source.subarray(100));
    expectSameBytes(readFileSync(to), expected);
    expect(statSync(to).blocks * 512).toBeLessThan(2 * MIB);
    await file.close();
    await target.close();
  });

  test('is written as a whole when nothing may be left out', async () => {
    const [from, to] = [fileOf(new Uint8Array(MIB)), fileOf(new Uint8Array(2 * MIB).fill(9))];
    const [file, target] = [await NodeFile.open(from), await NodeFile.open(to, { write: true })];

    await helper?.copy({ file, offset: 0 }, { file: target, offset: MIB }, MIB, leavingOut(0));

    expectSameBytes(readFileSync(to), new Uint8Array(2 * MIB).fill(9, 0, MIB));
    await file.close();
    await target.close();
  });

  test('is written behind what was copied to the same file before it', async () => {
    const length = 8 * MIB;
    const [from, to] = [fileOf(new Uint8Array(length).fill(1)), fileOf(new Uint8Array(0))];
    const later = text(MIB, 8);
    const [file, small] = [await NodeFile.open(from), await NodeFile.open(fileOf(later))];
    const target = await NodeFile.open(to, { write: true });

    for (let round = 0; round < 5; round++) {
      const place = { file: target, offset: 0 };
      const copies = [
        helper?.copy({ file, offset: 0 }, place, length, leavingOut(0)),
        helper?.copy({ file: small, offset: 0 }, place, MIB, leavingOut(0)),
        helper?.copy({ file: small, offset: 0 }, { file: target, offset: 2 * MIB }, MIB, leavingOut(0)),
      ];
      expect(await Promise.all(copies)).toEqual([true, true, true]);

      const expected = new Uint8Array(length).fill(1);
      for (const offset of [0, 2 * MIB]) expected.set(later, offset);
      expectSameBytes(readFileSync(to), expected);
    }
    for (const opened of [file, small, target]) await opened.close();
  });

  test('that cannot be written is none', async () => {
    const path = fileOf(text(MIB, 7));
    const [file, target] = [await NodeFile.open(path), await NodeFile.open(path)];

    const copied = await helper?.copy({ file, offset: 0 }, { file: target, offset: 4096 }, 4096, leavingOut(0));

    expect(copied).toBe(false);
    expectSameBytes(readFileSync(path), text(MIB, 7));
    await file.close();
    await target.close();
  });
});

test.each([
  ['a negative offset', () => addon.copyRange(1, -1, 2, 0, 1, 0, false, () => {})],
  ['a number that is none', () => addon.copyRange(1, Number.NaN, 2, 0, 1, 0, false, () => {})],
  ['no callback', () => addon.copyRange(1, 0, 2, 0, 1, 0, false, undefined as never)],
  ['a cluster shorter than its part', () => addon.decompressCluster(0, 0, 9, 0, 512, 1, new Uint8Array(512), () => {})],
  ['a cluster too large', () => addon.decompressCluster(0, 0, 9, 0, 2 ** 22, 0, new Uint8Array(1), () => {})],
  ['other than bytes', () => addon.compressCluster(0, 0, [] as never, new Uint8Array(1), () => {})],
  ['blocks of no length', () => addon.findData(new Uint8Array(1), 0, new Int32Array(1))],
  ['a type that there is not', () => addon.codecAvailable(2)],
])('arguments with %s are refused', (_, call) => {
  expect(call).toThrow(TypeError);
});

test('a file tells its holes from its bytes, and what lies behind its end from both', async () => {
  const path = fileOf(new Uint8Array(0));
  truncateSync(path, 3 * MIB + 5);
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, text(65_536, 8), 0, 65_536, MIB);
  closeSync(descriptor);
  const file = await NodeFile.open(path);

  expect(file.extentAt(0)).toEqual({ end: MIB, hole: true });
  expect(file.extentAt(MIB - 1)).toEqual({ end: MIB, hole: true });
  expect(file.extentAt(MIB)).toEqual({ end: MIB + 65_536, hole: false });
  expect(file.extentAt(MIB + 65_535)).toEqual({ end: MIB + 65_536, hole: false });
  expect(file.extentAt(MIB + 65_536)).toEqual({ end: 3 * MIB + 5, hole: true });
  expect(file.extentAt(3 * MIB + 5)).toBeUndefined();
  await file.close();
});
