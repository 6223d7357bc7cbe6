/** What every `BlockFile` must do: one suite for all of them. */

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BlockFile } from '../../host/block-file.js';
import { expectSameBytes } from '../same-bytes.js';

/** A way to get files: an empty one to write to, and one that cannot be written to, with the given bytes. */
export interface BlockFileMaker {
  writable(): Promise<BlockFile>;
  readOnly(contents: Uint8Array): Promise<BlockFile>;
}

export function describeBlockFile(name: string, maker: BlockFileMaker): void {
  describe(name, () => {
    let file: BlockFile;

    beforeEach(async () => {
      file = await maker.writable();
    });

    afterEach(async () => {
      await file.close();
    });

    test('a new file is empty', async () => {
      expect(await file.size()).toBe(0);
    });

    test('bytes that were written are read back', async () => {
      await file.write(1000, [bytes(3, 5000)]);

      expectSameBytes(await readBack(file, 1000, 5000), bytes(3, 5000));
      expect(await file.size()).toBe(6000);
    });

    test('pieces are written one behind the other', async () => {
      await file.write(10, [bytes(1, 3), new Uint8Array(0), bytes(2, 4), bytes(3, 1)]);

      expectSameBytes(await readBack(file, 10, 8), Uint8Array.of(1, 1, 1, 2, 2, 2, 2, 3));
    });

    test('more pieces than one system call takes are all written', async () => {
      const pieces = Array.from({ length: 3000 }, (_, index) => bytes(index % 251, 2));

      await file.write(0, pieces);

      const read = await readBack(file, 0, 6000);
      expect(read.every((value, index) => value === (index >> 1) % 251)).toBe(true);
    });

    test('what lies beyond the end reads as zeros', async () => {
      await file.write(0, [bytes(7, 100)]);
      const target = new Uint8Array(300).fill(9);

      await file.read(50, target);

      expectSameBytes(target.subarray(0, 50), bytes(7, 50));
      expectSameBytes(target.subarray(50), new Uint8Array(250));
    });

    test('a read wholly beyond the end is zeros', async () => {
      const target = new Uint8Array(64).fill(9);

      await file.read(1 << 20, target);

      expectSameBytes(target, new Uint8Array(64));
    });

    test('a gap that a later write leaves reads as zeros', async () => {
      await file.write(0, [bytes(5, 10)]);
      await file.write(100_000, [bytes(6, 10)]);

      expectSameBytes(await readBack(file, 10, 99_990), new Uint8Array(99_990));
    });

    test('a range of zeroes reads as zeros and its neighbours stay', async () => {
      await file.write(0, [bytes(8, 300_000)]);

      await file.writeZeroes(1000, 200_000);

      expectSameBytes(await readBack(file, 0, 1000), bytes(8, 1000));
      expectSameBytes(await readBack(file, 1000, 200_000), new Uint8Array(200_000));
      expectSameBytes(await readBack(file, 201_000, 99_000), bytes(8, 99_000));
    });

    test('zeroes beyond the end make the file longer', async () => {
      await file.writeZeroes(4096, 8192);

      expect(await file.size()).toBe(12_288);
      expectSameBytes(await readBack(file, 0, 12_288), new Uint8Array(12_288));
    });

    test('a discarded range keeps the length, and its neighbours their bytes', async () => {
      await file.write(0, [bytes(4, 16_384)]);

      await file.discard(4096, 8192);

      expect(await file.size()).toBe(16_384);
      expectSameBytes(await readBack(file, 0, 4096), bytes(4, 4096));
      expectSameBytes(await readBack(file, 12_288, 4096), bytes(4, 4096));
    });

    test('a file that was cut and grown again has zeros where it was cut', async () => {
      await file.write(0, [bytes(2, 1000)]);

      await file.truncate(500);
      await file.truncate(1000);

      expectSameBytes(await readBack(file, 0, 500), bytes(2, 500));
      expectSameBytes(await readBack(file, 500, 500), new Uint8Array(500));
    });

    test('offsets beyond 2^32 are not cut off', async () => {
      if (name.includes('memory')) return expect(() => file.write(2 ** 40, [bytes(1, 1)])).rejects.toThrow();
      await file.write(2 ** 33 + 7, [bytes(1, 3)]);

      expectSameBytes(await readBack(file, 2 ** 33 + 7, 3), bytes(1, 3));
      expectSameBytes(await readBack(file, 7, 3), new Uint8Array(3));
    });

    test('calls that overlap in time all take effect', async () => {
      const offsets = Array.from({ length: 50 }, (_, index) => index * 1000);

      await Promise.all(offsets.map((offset, index) => file.write(offset, [bytes(index + 1, 1000)])));
      await file.flush();

      for (const [index, offset] of offsets.entries()) {
        expectSameBytes(await readBack(file, offset, 1000), bytes(index + 1, 1000));
      }
    });

    describeReading(maker.readOnly);
  });
}

/** The same for what never can be written. */
export function describeReadOnlyFile(name: string, make: BlockFileMaker['readOnly']): void {
  describe(name, () => describeReading(make));
}

function describeReading(make: BlockFileMaker['readOnly']): void {
  test('a read-only file gives its bytes and refuses every change', async () => {
    const readOnly = await make(bytes(6, 1000));

    expect(readOnly.readOnly).toBe(true);
    expectSameBytes(await readBack(readOnly, 0, 1000), bytes(6, 1000));
    for (const change of [
      () => readOnly.write(0, [bytes(1, 1)]),
      () => readOnly.writeZeroes(0, 1),
      () => readOnly.discard(0, 1),
      () => readOnly.truncate(0),
    ]) {
      await expect(change()).rejects.toMatchObject({ code: 'ERR_READ_ONLY' });
    }
    expect(await readOnly.size()).toBe(1000);
    await readOnly.close();
  });

  test('a read-only file gives any part of it, and zeros behind its end', async () => {
    const contents = Uint8Array.from({ length: 200_000 }, (_, index) => index % 251);
    const readOnly = await make(contents);
    const parts = [
      [0, 1],
      [65_535, 2],
      [65_536, 65_536],
      [1, 199_998],
      [130_000, 70_000],
      [199_000, 2000],
      [200_000, 10],
      [2 ** 33, 512],
    ] as const;

    const found = await Promise.all(parts.map(([offset, length]) => readBack(readOnly, offset, length)));

    for (const [index, [offset, length]] of parts.entries()) {
      const expected = new Uint8Array(length);
      expected.set(contents.subarray(offset, offset + length));
      expectSameBytes(found[index]!, expected, `part at ${offset}:`);
    }
    await readOnly.close();
  });
}

function bytes(value: number, length: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

async function readBack(file: BlockFile, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xee);
  await file.read(offset, target);
  return target;
}
