import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createImage, NodeFile, openImage } from '../../host/node/index.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const MIB = 1 << 20;

function allocated(path: string): number {
  return statSync(path).blocks * 512;
}

test('a discarded range becomes a hole of whole blocks, and its neighbours keep their bytes', async () => {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, new Uint8Array(4 * MIB).fill(7));
  const file = await NodeFile.open(path, { write: true });
  await file.flush();
  const before = allocated(path);

  await file.discard(MIB + 100, 2 * MIB);
  await file.flush();

  expect(before - allocated(path)).toBe(2 * MIB - 4096);
  expect(statSync(path).size).toBe(4 * MIB);
  const found = new Uint8Array(4 * MIB);
  await file.read(0, found);
  const expected = new Uint8Array(4 * MIB).fill(7).fill(0, MIB + 4096, 3 * MIB);
  expectSameBytes(found, expected);
  await file.close();
});

test.each([false, true])('zeros are allocated, not written, and end where they should; direct: %s', async (direct) => {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, new Uint8Array(MIB).fill(7));
  const file = await NodeFile.open(path, { write: true, direct });

  await file.writeZeroes(4096 + 100, 8 * MIB);
  await file.flush();

  expect(allocated(path)).toBeGreaterThanOrEqual(8 * MIB);
  const found = new Uint8Array(8 * MIB + 4196);
  await file.read(0, found);
  expectSameBytes(found, new Uint8Array(8 * MIB + 4196).fill(7, 0, 4196));
  await file.close();
});

test('what the guest discards goes back to the file system', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');
  await createImage(path, { virtualSize: 16 * MIB });
  await using image = await openImage(path, { write: true });
  await image.write(0, new Uint8Array(8 * MIB).fill(7));
  await image.flush();
  const before = allocated(path);

  await image.discard(0, 8 * MIB);
  await image.flush();
  await image.close();

  expect(before - allocated(path)).toBeGreaterThan(7 * MIB);
});
