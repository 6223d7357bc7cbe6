/** Bitmaps, snapshot table and header extensions, against the specification's diagrams. */

import { beforeAll, describe, expect, test } from 'vitest';
import { assemblyModule } from './assembly-module.js';

interface Bitmaps extends Record<string, unknown> {
  bitmapEntryLength(extraDataLength: number, nameLength: number): bigint;
  bitCount(size: bigint, granularityBits: number): bigint;
  bitmapTableSize(size: bigint, granularityBits: number, clusterBits: number): bigint;
  bitsOffset(entry: bigint): bigint;
  isWrongTableEntry(entry: bigint, clusterSize: number): number;
}

interface Snapshots extends Record<string, unknown> {
  requiredExtraData(version: number): number;
  repairedExtraData(version: number, length: number): number;
}

interface Headers extends Record<string, unknown> {
  memory: WebAssembly.Memory;
  fieldsLength(address: number): number;
  completeHeader(
    address: number,
    capacity: number,
    names: number,
    kept: number,
    keptEnd: number,
    nameOffset: number,
    withFeatureNames: number,
  ): number;
  extensionsEnd(address: number, end: number): number;
  findExtension(address: number, end: number, type: number): number;
  writeVersion3Fields(address: number, refcountOrder: number): void;
}

const bit = (index: number) => 1n << BigInt(index);
/** Behind everything that the module keeps in its memory. */
const ADDRESS = 16384;
const KEPT = 24576;
const NAMES = 32768;
const BACKING_FORMAT = 0xe2792aca;
const DATA_FILE = 0x44415441;
const BITMAPS = 0x23852875;
const UNKNOWN = 0x12345678;

let bitmaps: Bitmaps;
let snapshots: Snapshots;
let headers: Headers;

beforeAll(async () => {
  bitmaps = await assemblyModule<Bitmaps>('format/bitmap-directory.ts');
  snapshots = await assemblyModule<Snapshots>('format/snapshot-table.ts');
  headers = await assemblyModule<Headers>('format/header-writer.ts');
});

describe('a bitmap', () => {
  test.each([
    [0, 1, 32n],
    [0, 8, 32n],
    [0, 9, 40n],
    [5, 3, 32n],
    [0xffffffff, 1023, 0x100000418n],
  ])('directory entry with %i bytes of extra data and a name of %i has %i bytes', (extra, name, length) => {
    expect(bitmaps.bitmapEntryLength(extra, name)).toBe(length);
  });

  test.each([
    [0n, 16, 16, 0n, 0n],
    [1n, 16, 16, 1n, 1n],
    [65537n, 16, 16, 2n, 1n],
    // A cluster of 512 bytes has 4096 bits.
    [4096n * 512n, 9, 9, 4096n, 1n],
    [4096n * 512n + 1n, 9, 9, 4097n, 2n],
  ])('of a disk of %i bytes', (size, granularityBits, clusterBits, count, tableSize) => {
    expect(bitmaps.bitCount(size, granularityBits)).toBe(count);
    expect(bitmaps.bitmapTableSize(size, granularityBits, clusterBits)).toBe(tableSize);
  });

  test('table entry has its offset in the bits 9 to 55', () => {
    for (let index = 0; index < 64; index++) {
      expect(bitmaps.bitsOffset(bit(index)), `bit ${index}`).toBe(index >= 9 && index <= 55 ? bit(index) : 0n);
    }
  });

  test('table entry names an aligned cluster, or says that all bits are ones, or nothing', () => {
    for (const right of [0n, 1n, bit(16), bit(55)]) expect(bitmaps.isWrongTableEntry(right, 65536)).toBe(0);
    for (const wrong of [2n, bit(8), bit(9), bit(56), bit(63), bit(16) | 1n, bit(16) | bit(15)]) {
      expect(bitmaps.isWrongTableEntry(wrong, 65536), wrong.toString(16)).toBe(1);
    }
  });
});

test.each([
  [2, 0, 0],
  [2, 8, 8],
  [2, 1024, 1024],
  [2, 1025, 1024],
  [3, 0, 24],
  [3, 15, 24],
  [3, 16, 16],
  [3, 24, 24],
  [3, 0xffffffff, 1024],
])('for version %i, %i bytes of extra data of a snapshot become %i', (version, length, repaired) => {
  expect(snapshots.repairedExtraData(version, length) >>> 0).toBe(repaired);
  expect(snapshots.requiredExtraData(version)).toBe(version === 2 ? 0 : 16);
});

describe('a header that is written', () => {
  /** Fields of version 3, and the names of its files, each a text in the module's memory. */
  function prepare({ backingFile = '', backingFormat = '', dataFile = '' }): DataView {
    const view = new DataView(headers.memory.buffer);
    new Uint8Array(headers.memory.buffer).fill(0, ADDRESS);
    view.setUint32(ADDRESS + 4, 3);
    headers.writeVersion3Fields(ADDRESS, 4);
    let at = NAMES + 64;
    for (const [index, text] of [backingFile, backingFormat, dataFile].entries()) {
      new TextEncoder().encodeInto(text, new Uint8Array(view.buffer, at, text.length));
      view.setUint32(NAMES + index * 8, at, true);
      view.setUint32(NAMES + index * 8 + 4, text.length, true);
      at += text.length;
    }
    return view;
  }

  function putExtension(view: DataView, address: number, type: number, data: string): number {
    view.setUint32(address, type);
    view.setUint32(address + 4, data.length);
    new TextEncoder().encodeInto(data, new Uint8Array(view.buffer, address + 8, data.length));
    return address + 8 + ((data.length + 7) & ~7);
  }

  const textAt = (view: DataView, address: number, length: number) =>
    new TextDecoder().decode(new Uint8Array(view.buffer, address, length));

  test('has its names, and keeps the extensions that are not its own', () => {
    const view = prepare({ backingFile: 'base', backingFormat: 'raw', dataFile: 'data' });
    let keptEnd = putExtension(view, KEPT, BACKING_FORMAT, 'qcow2');
    keptEnd = putExtension(view, keptEnd, UNKNOWN, 'nobody knows');
    keptEnd = putExtension(view, keptEnd, BITMAPS, 'x'.repeat(24));

    const length = headers.completeHeader(ADDRESS, 4096, NAMES, KEPT, keptEnd + 8, 0, 1);

    const start = ADDRESS + headers.fieldsLength(ADDRESS);
    const end = headers.extensionsEnd(start, ADDRESS + 4096);
    const data = (type: number) => {
      const at = headers.findExtension(start, end, type);
      return at === 0 ? undefined : textAt(view, at + 8, view.getUint32(at + 4));
    };
    expect(data(BACKING_FORMAT)).toBe('raw');
    expect(data(DATA_FILE)).toBe('data');
    expect(data(UNKNOWN)).toBe('nobody knows');
    expect(data(BITMAPS)).toBe('x'.repeat(24));
    expect(data(0x6803f857)?.length).toBe(384);
    expect(data(0x0537be77)).toBeUndefined();
    const nameOffset = Number(view.getBigUint64(ADDRESS + 8));
    expect(textAt(view, ADDRESS + nameOffset, view.getUint32(ADDRESS + 16))).toBe('base');
    expect(nameOffset).toBe(end - ADDRESS);
    expect(length).toBe(nameOffset + 4);
  });

  test('has no feature names where they do not fit, and nothing where the rest does not', () => {
    prepare({ backingFile: 'b'.repeat(300) });

    const length = headers.completeHeader(ADDRESS, 512, NAMES, 0, 0, 0, 1);

    const start = ADDRESS + headers.fieldsLength(ADDRESS);
    expect(length).toBe(112 + 8 + 300);
    expect(headers.findExtension(start, ADDRESS + 512, 0x6803f857)).toBe(0);
    expect(headers.completeHeader(ADDRESS, 400, NAMES, 0, 0, 0, 1)).toBe(0);
  });

  test('is not left by an extension that claims to be longer than everything', () => {
    const view = prepare({});
    view.setUint32(KEPT, UNKNOWN);
    view.setUint32(KEPT + 4, 0xffffffff);

    expect(headers.findExtension(KEPT, KEPT + 512, BITMAPS)).toBe(0);
    expect(headers.extensionsEnd(KEPT, KEPT + 512)).toBe(KEPT + 512);
  });
});
