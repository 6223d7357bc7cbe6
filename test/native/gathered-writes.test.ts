import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { requireAddon } from '../../host/node/addon.js';
import { NodeFile } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const LENGTH = 1 << 20;

async function emptyFile(): Promise<{ path: string; file: NodeFile }> {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, '');
  return { path, file: await NodeFile.open(path, { write: true }) };
}

test('writes that are asked for together all get where they belong, whatever their pieces are', async () => {
  const random = randomFrom(chooseSeed());
  const { path, file } = await emptyFile();
  const expected = Buffer.alloc(LENGTH);
  const writes: Promise<void>[] = [];

  for (let offset = 0; offset < LENGTH; ) {
    // Some have more pieces than one system call takes, and some of these are empty.
    const count = below(random, 20) === 0 ? 1500 : 1 + below(random, 4);
    const pieces: Uint8Array[] = [];
    const start = offset;
    for (let index = 0; index < count; index++) {
      const length = Math.min(below(random, count > 4 ? 12 : 3000), LENGTH - offset);
      const piece = Buffer.alloc(length, 1 + below(random, 255));
      piece.copy(expected, offset);
      pieces.push(piece);
      offset += length;
    }
    writes.push(file.write(start, pieces));
  }
  await Promise.all(writes);
  await file.close();

  expectSameBytes(readFileSync(path), expected);
});

test('a write that fails fails alone, with the error of the system', async () => {
  const { path, file } = await emptyFile();
  const bytes = Buffer.from('hello');

  const endings = await Promise.allSettled([
    file.write(0, [bytes]),
    file.write(Number.MAX_SAFE_INTEGER - 4096, [bytes]),
    file.write(5, [bytes]),
  ]);
  await file.close();

  expect(endings.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(endings[1]).toMatchObject({ reason: { code: 'EFBIG' } });
  expect(readFileSync(path, 'latin1')).toBe('hellohello');
});

test('long writes far apart behind the end of a file take the space of their bytes, and no more', async () => {
  const { path, file } = await emptyFile();
  const bytes = Buffer.alloc(2 * LENGTH, 7);

  await Promise.all([0, 1, 2].map((index) => file.write(index * 8 * LENGTH, [bytes.subarray(0, LENGTH), bytes])));
  await file.close();

  const status = statSync(path);
  expect(status.size).toBe(19 * LENGTH);
  expect(status.blocks * 512).toBeLessThanOrEqual(9 * LENGTH + 65_536);
  const holes = Buffer.alloc(5 * LENGTH);
  const data = Buffer.alloc(3 * LENGTH, 7);
  expectSameBytes(readFileSync(path), Buffer.concat([data, holes, data, holes, data]));
});

test('one write at a time, and then some at once, all get where they belong, and one that fails says so', async () => {
  const random = randomFrom(chooseSeed());
  const { path, file } = await emptyFile();
  const expected = Buffer.alloc(LENGTH);

  for (let round = 0; round < 300; round++) {
    const together = round % 60 < 50 ? 1 : 1 + below(random, 5);
    const writes = Array.from({ length: together }, (_, index) => {
      const length = 1 + below(random, 9000);
      const offset = Math.floor((index * LENGTH) / 8) + below(random, LENGTH / 8 - length);
      const bytes = Buffer.alloc(length, 1 + below(random, 255));
      bytes.copy(expected, offset);
      const cut = below(random, length);
      return file.write(offset, [bytes.subarray(0, cut), bytes.subarray(cut)]);
    });
    await Promise.all(writes);
  }
  const failure = file.write(Number.MAX_SAFE_INTEGER - 4096, [expected.subarray(0, 512)]);

  await expect(failure).rejects.toMatchObject({ code: 'EFBIG', path });
  await file.close();
  expectSameBytes(readFileSync(path).subarray(0, LENGTH), expected.subarray(0, statSync(path).size));
});

test('a write from shared memory is one as any other', async () => {
  const { path, file } = await emptyFile();
  const shared = new Uint8Array(new SharedArrayBuffer(5));
  shared.set(Buffer.from('hello'));

  await file.write(0, [shared]);
  await file.close();

  expect(readFileSync(path, 'latin1')).toBe('hello');
});

test.each([
  ['more pieces than there are', [0, 2]],
  ['fewer pieces than there are', [0, 0]],
  ['an offset before the start', [-1, 1]],
  ['an offset that is no number', [Number.NaN, 1]],
])('places with %s are refused', (_what, places) => {
  const { writeGathered } = requireAddon();

  const write = (): void => writeGathered(0, [new Uint8Array(1)], Float64Array.from(places), () => {});

  expect(write).toThrow(TypeError);
});

test('a file that is closed while writes wait is closed after them', async () => {
  const { path, file } = await emptyFile();
  const bytes = Buffer.from('hello');

  const writes = Array.from({ length: 40 }, (_, index) => file.write(index * bytes.length, [bytes]));
  const long = file.write(200, [Buffer.alloc(1 << 20, 1)]);
  await file.close();
  // The number of the closed descriptor is the next one's: a late write would reach it.
  const others = Array.from({ length: 4 }, emptyFile);
  await Promise.all([...writes, long]);

  expect(readFileSync(path, 'latin1')).toBe('hello'.repeat(40) + '\u0001'.repeat(1 << 20));
  for (const other of await Promise.all(others)) {
    expect(statSync(other.path).size).toBe(0);
    await other.file.close();
  }
});
