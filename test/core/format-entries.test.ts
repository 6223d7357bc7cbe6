/** Entries of the tables, bit by bit, against the specification's bit diagrams. */

import { beforeAll, describe, expect, test } from 'vitest';
import { Status } from '../../host/abi.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { assemblyModule } from './assembly-module.js';

interface L1Entry extends Record<string, unknown> {
  l2TableOffset(entry: bigint): bigint;
  isL1Copied(entry: bigint): number;
  hasReservedL1Bits(entry: bigint): number;
  makeL1Entry(offset: bigint): bigint;
  checkL1Entry(entry: bigint, clusterSize: bigint): number;
}

interface L2Entry extends Record<string, unknown> {
  isCopied(entry: bigint): number;
  isCompressed(entry: bigint): number;
  isZero(entry: bigint): number;
  isPlainData(entry: bigint): number;
  clusterOffset(entry: bigint): bigint;
  hasReservedBits(entry: bigint, version: number): number;
  makeDataEntry(offset: bigint): bigint;
  makeZeroEntry(entry: bigint): bigint;
}

interface Compressed extends Record<string, unknown> {
  compressedOffset(entry: bigint, clusterBits: number): bigint;
  compressedLength(entry: bigint, clusterBits: number): bigint;
}

interface Refcounts extends Record<string, unknown> {
  memory: WebAssembly.Memory;
  loadRefcount(address: number, index: number, order: number): bigint;
  storeRefcount(address: number, index: number, order: number, value: bigint): void;
  refcountBlockOffset(entry: bigint): bigint;
  hasReservedBlockBits(entry: bigint): number;
  hasReservedTableBits(entry: bigint, clusterSize: bigint): number;
}

const bit = (index: number) => 1n << BigInt(index);
const bits = Array.from({ length: 64 }, (_, index) => index);
/** The module's numbers are signed. */
const unsigned = (value: bigint) => BigInt.asUintN(64, value);
/** Behind everything that the module keeps in its memory. */
const ADDRESS = 32768;

let l1: L1Entry;
let l2: L2Entry;
let compressed: Compressed;
let refcounts: Refcounts;

beforeAll(async () => {
  l1 = await assemblyModule<L1Entry>('format/l1-entry.ts');
  l2 = await assemblyModule<L2Entry>('format/l2-entry.ts');
  compressed = await assemblyModule<Compressed>('format/compressed.ts');
  refcounts = await assemblyModule<Refcounts>('format/refcount-entry.ts');
});

describe('an L1 entry', () => {
  test.each(bits)('has in bit %i what the specification puts there', (index) => {
    const entry = bit(index);
    const isOffset = index >= 9 && index <= 55;

    expect(unsigned(l1.l2TableOffset(entry))).toBe(isOffset ? entry : 0n);
    expect(l1.isL1Copied(entry)).toBe(index === 63 ? 1 : 0);
    expect(l1.hasReservedL1Bits(entry)).toBe(isOffset || index === 63 ? 0 : 1);
  });

  test('that is made names its table and is exclusive', () => {
    const entry = unsigned(l1.makeL1Entry(0x1234_0000n));

    expect(entry).toBe(0x8000_0000_1234_0000n);
    expect(l1.checkL1Entry(entry, 65536n)).toBe(Status.Ok);
  });

  test.each([
    ['no table', 0n, Status.Ok],
    ['a table at a cluster', 0x2_0000n, Status.Ok],
    ['a table within a cluster', 0x2_0200n, Status.Corrupt],
    ['reserved bits below the offset', 0x2_0001n, Status.Corrupt],
    ['reserved bits above the offset', bit(56) | 0x2_0000n, Status.Corrupt],
  ])('with %s is judged', (_name, entry, status) => {
    expect(l1.checkL1Entry(entry, 65536n)).toBe(status);
  });
});

describe('a standard L2 entry', () => {
  test.each(bits)('has in bit %i what the specification puts there', (index) => {
    const entry = bit(index);
    const isOffset = index >= 9 && index <= 55;
    const isFlag = index === 63 || index === 62;

    expect(unsigned(l2.clusterOffset(entry))).toBe(isOffset ? entry : 0n);
    expect(l2.isCopied(entry)).toBe(index === 63 ? 1 : 0);
    expect(l2.isCompressed(entry)).toBe(index === 62 ? 1 : 0);
    expect(l2.isZero(entry)).toBe(index === 0 ? 1 : 0);
    expect(l2.hasReservedBits(entry, 3)).toBe(isOffset || isFlag || index === 0 ? 0 : 1);
    expect(l2.hasReservedBits(entry, 2)).toBe(isOffset || isFlag ? 0 : 1);
  });

  test('is plain data only with an offset and without any other mark', () => {
    const data = unsigned(l2.makeDataEntry(0x50000n));

    expect(data).toBe(bit(63) | 0x50000n);
    expect(l2.isPlainData(data)).toBe(1);
    expect(l2.isPlainData(0x50000n)).toBe(1);
    expect(l2.isPlainData(bit(63))).toBe(0);
    for (const index of [0, 1, 8, 56, 61, 62]) expect(l2.isPlainData(data | bit(index)), `bit ${index}`).toBe(0);
  });

  test('that is marked as zeros keeps its cluster', () => {
    expect(unsigned(l2.makeZeroEntry(bit(63) | 0x50000n))).toBe(bit(63) | 0x50001n);
    expect(l2.makeZeroEntry(0n)).toBe(1n);
  });
});

describe('a compressed cluster descriptor', () => {
  test.each([9, 12, 16, 21])('of clusters of 2^%i bytes is split where the specification says', (clusterBits) => {
    const x = BigInt(62 - (clusterBits - 8));
    const largestOffset = (1n << x) - 1n;
    const sectors = (1n << (62n - x)) - 1n;

    const entry = bit(62) | (sectors << x) | largestOffset;

    expect(compressed.compressedOffset(entry, clusterBits)).toBe(largestOffset);
    expect(compressed.compressedLength(entry, clusterBits)).toBe((sectors + 1n) * 512n - 511n);
    expect(compressed.compressedOffset(bit(62) | bit(63) | (sectors << x), clusterBits)).toBe(0n);
    expect(compressed.compressedLength(bit(62) | bit(63), clusterBits)).toBe(512n);
  });

  test('counts its sectors from the one in which the data begin', () => {
    const x = 54n;
    const entry = bit(62) | (2n << x) | 0x1234n;

    expect(compressed.compressedOffset(entry, 16)).toBe(0x1234n);
    expect(compressed.compressedLength(entry, 16)).toBe(BigInt(3 * 512 - (0x1234 % 512)));
  });
});

describe('refcounts', () => {
  test.each([0, 1, 2, 3, 4, 5, 6])('of 2^%i bits are found again, and their neighbours are left alone', (order) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const width = 1 << order;
    const count = Math.min(256, 4096 / width);
    const expected = Array.from({ length: count }, () => 0n);
    new Uint8Array(refcounts.memory.buffer, ADDRESS, 4096).fill(0);

    for (let round = 0; round < 2 * count; round++) {
      const index = below(random, count);
      const value = BigInt.asUintN(width, BigInt(Math.floor(random() * 2 ** 32)) * 0x1_0000_0001n);
      refcounts.storeRefcount(ADDRESS, index, order, value);
      expected[index] = value;
    }

    const found = expected.map((_, index) => unsigned(refcounts.loadRefcount(ADDRESS, index, order)));
    expect(found, `seed ${seed}`).toEqual(expected);
    const bytes = Buffer.from(refcounts.memory.buffer, ADDRESS, (count * width) / 8);
    expect(readRefcounts(bytes, width), `seed ${seed}`).toEqual(expected);
  });

  test('below a byte begin at its least significant bit', () => {
    const byte = new Uint8Array(refcounts.memory.buffer, ADDRESS, 1);
    byte[0] = 0b1100_0110;

    expect([0, 1, 2, 3].map((index) => refcounts.loadRefcount(ADDRESS, index, 1))).toEqual([2n, 1n, 0n, 3n]);
    expect([0, 1, 2].map((index) => refcounts.loadRefcount(ADDRESS, index, 0))).toEqual([0n, 1n, 1n]);
    expect([0, 1].map((index) => refcounts.loadRefcount(ADDRESS, index, 2))).toEqual([6n, 12n]);
  });
});

describe('a refcount table entry', () => {
  test.each(bits)('has in bit %i what the specification puts there', (index) => {
    const entry = bit(index);

    expect(unsigned(refcounts.refcountBlockOffset(entry))).toBe(index >= 9 ? entry : 0n);
    expect(refcounts.hasReservedBlockBits(entry)).toBe(index < 9 ? 1 : 0);
    expect(refcounts.hasReservedTableBits(entry, 65536n)).toBe(index < 16 ? 1 : 0);
  });
});

/** The same numbers, read in the plainest way: as one string of bits a byte, or as big-endian hexadecimal. */
function readRefcounts(bytes: Buffer, width: number): bigint[] {
  if (width >= 8) {
    const hex = bytes.toString('hex');
    return Array.from({ length: (bytes.length * 8) / width }, (_, index) =>
      BigInt(`0x${hex.slice((index * width) / 4, ((index + 1) * width) / 4)}`),
    );
  }
  return [...bytes].flatMap((byte) =>
    Array.from({ length: 8 / width }, (_, index) => BigInt((byte >> (index * width)) & ((1 << width) - 1))),
  );
}
