/** Extended L2 entries, bit by bit. */

import { beforeAll, describe, expect, test } from 'vitest';
import { assemblyModule } from './assembly-module.js';

interface Exports extends Record<string, unknown> {
  subclusterState(bitmap: bigint, index: number): number;
  isBitmapValid(bitmap: bigint, hasHost: boolean): number;
  countSubclusters(bitmap: bigint, index: number, end: number): number;
  areAllocated(bitmap: bigint, first: number, last: number): number;
  hasReservedExtendedBits(entry: bigint): number;
}

const UNALLOCATED = 0;
const ALLOCATED = 1;
const ZEROES = 2;
const INVALID = 3;

let format: Exports;

beforeAll(async () => {
  format = await assemblyModule<Exports>('format/l2-subclusters.ts');
});

function bitmap(allocated: number, zeroes: number): bigint {
  return (BigInt(zeroes >>> 0) << 32n) | BigInt(allocated >>> 0);
}

describe('a subcluster', () => {
  test.each([0, 1, 15, 31])('number %i has one bit for allocated and one for zeros', (index) => {
    const bit = 1 << index;

    expect(format.subclusterState(0n, index)).toBe(UNALLOCATED);
    expect(format.subclusterState(bitmap(bit, 0), index)).toBe(ALLOCATED);
    expect(format.subclusterState(bitmap(0, bit), index)).toBe(ZEROES);
    expect(format.subclusterState(bitmap(bit, bit), index)).toBe(INVALID);
    expect(format.subclusterState(bitmap(~bit, ~bit), index)).toBe(UNALLOCATED);
  });

  test('run ends where the next one is something else', () => {
    const mixed = bitmap(0b0000_0111, 0b0011_0000);

    expect(format.countSubclusters(mixed, 0, 32)).toBe(3);
    expect(format.countSubclusters(mixed, 1, 32)).toBe(2);
    expect(format.countSubclusters(mixed, 3, 32)).toBe(1);
    expect(format.countSubclusters(mixed, 4, 32)).toBe(2);
    expect(format.countSubclusters(mixed, 6, 32)).toBe(26);
    expect(format.countSubclusters(bitmap(0, 0xffffffff), 0, 32)).toBe(32);
    expect(format.countSubclusters(mixed, 6, 10)).toBe(4);
  });

  test.each([
    [0, 0, true],
    [0, 3, true],
    [0, 4, false],
    [2, 2, true],
    [4, 4, false],
    [28, 31, true],
    [0, 31, false],
  ])('range %i to %i is data only when every bit says so', (first, last, expected) => {
    expect(Boolean(format.areAllocated(bitmap(0xf000000f, 0x00000100), first, last))).toBe(expected);
  });
});

describe('a bitmap', () => {
  test('is valid when no subcluster is both allocated and zeros', () => {
    expect(Boolean(format.isBitmapValid(bitmap(0x0f, 0xf0), true))).toBe(true);
    expect(Boolean(format.isBitmapValid(bitmap(0x1f, 0xf0), true))).toBe(false);
    expect(Boolean(format.isBitmapValid(bitmap(0x80000000, 0x80000000), true))).toBe(false);
    expect(Boolean(format.areAllocated(bitmap(0x1f, 0xf0), 0, 0))).toBe(false);
  });

  test('allocates nothing without a host cluster', () => {
    expect(Boolean(format.isBitmapValid(bitmap(0, 0xffffffff), false))).toBe(true);
    expect(Boolean(format.isBitmapValid(bitmap(1, 0), false))).toBe(false);
    expect(Boolean(format.isBitmapValid(0n, false))).toBe(true);
  });
});

test('the zero flag of standard entries is reserved in extended ones', () => {
  expect(Boolean(format.hasReservedExtendedBits(0x8000000000050000n))).toBe(false);
  expect(Boolean(format.hasReservedExtendedBits(0x8000000000050001n))).toBe(true);
});
