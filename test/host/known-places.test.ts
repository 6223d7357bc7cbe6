/** Reading what a map has told the place of: the same bytes, from the file where that is known, and in another way where not. */

import { expect, test } from 'vitest';
import { KnownPlaces } from '../../host/known-places.js';
import { MemoryFile } from '../../host/memory-file.js';

const DISK = 4096;
/** Of the file that has the disk's bytes, in another order. */
const SHIFT = 1000;

/** A disk of numbered bytes, its file, and the stretches that were read in the other way. */
function makeDisk() {
  const disk = Uint8Array.from({ length: DISK }, (_, index) => (index * 7 + (index >> 8)) & 255);
  const bytes = new Uint8Array(DISK + SHIFT);
  bytes.set(disk, SHIFT);
  const file = new MemoryFile(bytes);
  const others: [offset: number, length: number][] = [];
  const other = async (offset: number, target: Uint8Array): Promise<void> => {
    others.push([offset, target.length]);
    target.set(disk.subarray(offset, offset + target.length));
  };
  const noted = (offset: number, length: number) => ({ offset, length, place: { file, offset: offset + SHIFT } });
  return { disk, file, others, other, noted };
}

test('reads known places from their file, and the rest in the other way', async () => {
  const { disk, others, other, noted } = makeDisk();
  const known = new KnownPlaces();
  known.note(noted(100, 200));
  known.note(noted(400, 100));

  const target = new Uint8Array(500);
  await known.read(50, target, other);

  expect(target).toEqual(disk.subarray(50, 550));
  expect(others).toEqual([
    [50, 50],
    [300, 100],
    [500, 50],
  ]);
});

test('a place that reaches behind what is read is known for the next reading', async () => {
  const { disk, others, other, noted } = makeDisk();
  const known = new KnownPlaces();
  known.note(noted(0, 1000));

  const target = new Uint8Array(1000);
  await known.read(0, target.subarray(0, 400), other);
  await known.read(400, target.subarray(400), other);

  expect(target).toEqual(disk.subarray(0, 1000));
  expect(others).toEqual([]);
});

test('what cannot be read at its place is read in the other way', async () => {
  const { disk, file, others, other, noted } = makeDisk();
  const known = new KnownPlaces();
  file.read = async () => {
    throw new Error('broken');
  };
  known.note(noted(0, 512));

  const target = new Uint8Array(512);
  await known.read(0, target, other);

  expect(target).toEqual(disk.subarray(0, 512));
  expect(others).toEqual([[0, 512]]);
});

test('a map that begins anew forgets what was told before, and many places do not pile up', async () => {
  const { disk, others, other, noted } = makeDisk();
  const known = new KnownPlaces();
  known.note(noted(0, 512));
  for (let offset = 0; offset < DISK; offset += 2) known.note(noted(offset, 2));

  const target = new Uint8Array(DISK);
  await known.read(0, target, other);

  expect(target).toEqual(disk);
  expect(others).toEqual([[0, DISK - 2 * 1024]]);
});
