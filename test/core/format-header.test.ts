/** The header, field by field: what is read, what is refused, and where the refusal points. */

import { beforeAll, describe, expect, test } from 'vitest';
import { FailureView, Field, ImageInfoView, Status, Structure } from '../../host/abi.js';
import { assemblyModule } from './assembly-module.js';

interface Exports extends Record<string, unknown> {
  memory: WebAssembly.Memory;
  readHeader(address: number, available: bigint, info: number, geometry: number, failure: number): Status;
}

interface FeatureNames extends Record<string, unknown> {
  memory: WebAssembly.Memory;
  writeFeatureNames(address: number): number;
}

/** Behind everything that the modules keep in their memory. */
const HEADER = 32768;
const INFO = 40960;
const GEOMETRY = 45056;
const FAILURE = 49152;
const FILE_LENGTH = 10 * 65536;

let format: Exports;
let names: FeatureNames;

beforeAll(async () => {
  format = await assemblyModule<Exports>('format/header.ts');
  names = await assemblyModule<FeatureNames>('format/feature-names.ts');
});

/** A header of version 3 for a disk of 1 GiB; the bytes of `changes` replace what stands at their offsets. */
function header(changes: Record<number, number[]> = {}): Buffer {
  const bytes = Buffer.alloc(512);
  bytes.writeUInt32BE(0x514649fb, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(2n ** 30n, 24);
  bytes.writeUInt32BE(2, 36);
  bytes.writeBigUInt64BE(3n * 65536n, 40);
  bytes.writeBigUInt64BE(65536n, 48);
  bytes.writeUInt32BE(1, 56);
  bytes.writeBigUInt64BE(0x0102030405060708n, 80);
  bytes.writeBigUInt64BE(3n, 88);
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(112, 100);
  for (const [offset, values] of Object.entries(changes)) bytes.set(values, Number(offset));
  return bytes;
}

function read(bytes: Buffer, available = FILE_LENGTH) {
  const { buffer } = format.memory;
  new Uint8Array(buffer, HEADER, 16384 + 8192).fill(0);
  new Uint8Array(buffer).set(bytes, HEADER);
  const status = format.readHeader(HEADER, BigInt(available), INFO, GEOMETRY, FAILURE);
  return { status, info: new ImageInfoView(buffer, INFO), failure: new FailureView(buffer, FAILURE) };
}

describe('a header of version 3', () => {
  test('is read field by field', () => {
    const { status, info } = read(header());

    expect(status).toBe(Status.Ok);
    expect(info.version).toBe(3);
    expect(info.clusterBits).toBe(16);
    expect(info.virtualSizeBig).toBe(2n ** 30n);
    expect(info.l1Size).toBe(2);
    expect(info.l1TableOffset).toBe(3 * 65536);
    expect(info.refcountTableOffset).toBe(65536);
    expect(info.refcountTableClusters).toBe(1);
    expect(info.compatibleFeaturesBig).toBe(0x0102030405060708n);
    expect(info.autoclearFeaturesBig).toBe(3n);
    expect(info.refcountOrder).toBe(4);
    expect(info.headerLength).toBe(112);
    expect(info.snapshotCount).toBe(0);
    expect(info.backingFileLength).toBe(0);
  });

  test('counts whole sectors', () => {
    expect(read(header({ 31: [1] })).info.virtualSizeBig).toBe(2n ** 30n);
  });

  test('without snapshots has no snapshot table, whatever the field says', () => {
    const { status, info } = read(header({ 64: [0, 0, 0, 0, 0, 0x50, 0x50, 0x82] }));

    expect(status).toBe(Status.Ok);
    expect(info.snapshotsOffsetBig).toBe(0n);
  });

  test('of 104 bytes has no compression type, whatever stands behind it', () => {
    const { status, info } = read(header({ 103: [104], 104: [1] }));

    expect(status).toBe(Status.Ok);
    expect(info.compressionType).toBe(0);
  });

  test.each([
    ['a cluster of 256 bytes', { 23: [8] }, Field.ClusterBits, 20],
    ['a cluster of 4 MiB', { 23: [22] }, Field.ClusterBits, 20],
    ['a shift of more bits than a number has', { 20: [0, 0, 0, 64] }, Field.ClusterBits, 20],
    ['refcounts of 128 bits', { 99: [7] }, Field.RefcountOrder, 96],
    ['a header shorter than the fields that it must have', { 103: [96] }, Field.HeaderLength, 100],
    ['a header length that is no multiple of 8', { 103: [108] }, Field.HeaderLength, 100],
    ['a header longer than a cluster', { 100: [0, 1, 0, 8] }, Field.HeaderLength, 100],
    ['an unknown encryption', { 35: [3] }, Field.CryptMethod, 32],
    ['more L1 entries than 32 MiB hold', { 36: [0, 64, 0, 1] }, Field.L1Size, 36],
    ['fewer L1 entries than the disk needs', { 39: [1] }, Field.Size, 24],
    ['a disk of nearly 2^64 bytes', { 24: [255, 255, 255, 255, 255, 255, 254, 0] }, Field.Size, 24],
    ['an L1 table within a cluster', { 46: [2] }, Field.L1TableOffset, 40],
    ['an L1 table on the header', { 45: [0] }, Field.L1TableOffset, 40],
    ['an L1 table behind the end of the file', { 45: [10] }, Field.L1TableOffset, 40],
    [
      'an L1 table at the end of what a number holds',
      { 40: [255, 255, 255, 255, 255, 255, 0, 0] },
      Field.L1TableOffset,
      40,
    ],
    ['no refcount table', { 59: [0] }, Field.RefcountTableClusters, 56],
    ['a refcount table of more than 8 MiB', { 59: [129] }, Field.RefcountTableClusters, 56],
    ['a refcount table that leaves the file', { 59: [10] }, Field.RefcountTableOffset, 48],
    ['snapshots without a table', { 63: [1] }, Field.SnapshotsOffset, 64],
    ['a backing file name of 1024 bytes', { 15: [128], 18: [4, 0] }, Field.BackingFileLength, 16],
    ['a backing file name within the header', { 15: [64], 19: [4] }, Field.BackingFileOffset, 8],
    ['a backing file name behind the first cluster', { 13: [1], 14: [0, 0], 19: [4] }, Field.BackingFileOffset, 8],
  ])('with %s is refused', (_name, changes, field, offset) => {
    const { status, failure } = read(header(changes as Record<number, number[]>));

    expect(status).toBe(Status.Corrupt);
    expect({ structure: failure.structure, field: failure.field }).toEqual({ structure: Structure.Header, field });
    expect(failure.hostOffset).toBe(offset);
  });

  test.each([0, 3, 7, 71, 103])('that is cut off after %i bytes is refused', (available) => {
    const { status, failure } = read(header(), available);

    expect(status).toBe(available < 8 ? Status.NotQcow2 : Status.Corrupt);
    expect(failure.field).toBe(available < 8 ? Field.Magic : Field.Truncated);
  });

  test.each([0, 1, 4, 0xff])('may not be of version %i', (version) => {
    const { status, failure } = read(header({ 7: [version] }));

    expect(status).toBe(Status.Unsupported);
    expect(failure.field).toBe(Field.Version);
  });
});

describe('a header of version 2', () => {
  test('has 72 bytes, 16-bit refcounts and no features, whatever stands behind it', () => {
    const { status, info } = read(header({ 7: [2], 72: Array.from({ length: 40 }, () => 0xff) }));

    expect(status).toBe(Status.Ok);
    expect(info.headerLength).toBe(72);
    expect(info.refcountOrder).toBe(4);
    expect([info.incompatibleFeaturesBig, info.compatibleFeaturesBig, info.autoclearFeaturesBig]).toEqual([0n, 0n, 0n]);
  });
});

describe('the feature name table', () => {
  test('names every bit that this engine knows, each entry 48 bytes', () => {
    const length = names.writeFeatureNames(HEADER);

    const bytes = Buffer.from(names.memory.buffer, HEADER, length);
    expect(bytes.readUInt32BE(0)).toBe(0x6803f857);
    expect(bytes.readUInt32BE(4)).toBe(length - 8);
    const entries = Array.from({ length: (length - 8) / 48 }, (_, index) => {
      const entry = bytes.subarray(8 + index * 48, 56 + index * 48);
      return `${entry[0]} ${entry[1]} ${entry.subarray(2).toString().replace(/\0+$/, '')}`;
    });
    expect(entries).toEqual([
      '0 0 dirty bit',
      '0 1 corrupt bit',
      '0 2 external data file',
      '0 3 compression type',
      '0 4 extended L2 entries',
      '1 0 lazy refcounts',
      '2 0 bitmaps',
      '2 1 raw external data',
    ]);
  });
});
