/** Images that lie: one valid image, and every way of being wrong that a reader of headers should survive. */

import { readFileSync } from 'node:fs';
import { below, randomFrom } from '../random.js';
import { mustQemuImg, qemuIo } from './run-corral.js';
import { newImage } from './sample-images.js';

export interface HostileImage {
  readonly name: string;
  readonly bytes: Buffer;
}

interface HeaderField {
  readonly name: string;
  readonly offset: number;
  readonly size: 4 | 8;
  /** Beside those that every field gets. */
  readonly values?: readonly bigint[];
}

const U32_MAX = 2n ** 32n - 1n;
const U64_MAX = 2n ** 64n - 1n;

/** The specification's header, in its order. */
const FIELDS: readonly HeaderField[] = [
  { name: 'magic', offset: 0, size: 4 },
  { name: 'version', offset: 4, size: 4, values: [1n, 2n, 3n, 4n] },
  { name: 'backing_file_offset', offset: 8, size: 8, values: [72n, 104n, 112n, 4095n, 4096n, 4097n] },
  { name: 'backing_file_size', offset: 16, size: 4, values: [1n, 1023n, 1024n, 4096n] },
  { name: 'cluster_bits', offset: 20, size: 4, values: [8n, 9n, 10n, 16n, 21n, 22n, 31n, 32n, 63n, 64n] },
  { name: 'size', offset: 24, size: 8, values: [1n, 511n, 513n, 2n ** 53n, 2n ** 53n + 512n, 2n ** 61n] },
  { name: 'crypt_method', offset: 32, size: 4, values: [1n, 2n, 3n] },
  { name: 'l1_size', offset: 36, size: 4, values: [1n, 4194304n, 4194305n, 2n ** 31n, 2n ** 29n] },
  { name: 'l1_table_offset', offset: 40, size: 8 },
  { name: 'refcount_table_offset', offset: 48, size: 8 },
  { name: 'refcount_table_clusters', offset: 56, size: 4, values: [1n, 2048n, 2049n, 2n ** 20n] },
  { name: 'nb_snapshots', offset: 60, size: 4, values: [1n, 65536n, 65537n, 2n ** 31n] },
  { name: 'snapshots_offset', offset: 64, size: 8 },
  { name: 'incompatible_features', offset: 72, size: 8, values: eachBit() },
  { name: 'compatible_features', offset: 80, size: 8, values: [1n, 2n] },
  { name: 'autoclear_features', offset: 88, size: 8, values: [1n, 2n, 3n, 4n] },
  { name: 'refcount_order', offset: 96, size: 4, values: [3n, 5n, 6n, 7n, 31n, 32n, 64n] },
  { name: 'header_length', offset: 100, size: 4, values: [72n, 103n, 104n, 105n, 112n, 4096n, 4097n] },
  { name: 'compression_type', offset: 104, size: 4, values: [1n, 2n, 255n] },
];

const EXTENSIONS = {
  'the backing format': 0xe2792aca,
  'the feature name table': 0x6803f857,
  bitmaps: 0x23852875,
  'the encryption header': 0x0537be77,
  'the data file': 0x44415441,
  'something unknown': 0x12345678,
};

function eachBit(): bigint[] {
  return Array.from({ length: 64 }, (_, bit) => 1n << BigInt(bit));
}

/** Bytes of a small image with data, zeros, and more than one L2 table. */
export function validImage(compat: '0.10' | '1.1'): Buffer {
  const path = newImage(`compat=${compat},cluster_size=4k`, '5M');
  qemuIo(path, 'write -P 1 0 10k', 'write -P 2 1M 4k', 'write -P 3 3M 12k', 'write -P 4 5238784 4k');
  if (compat === '1.1') qemuIo(path, 'write -z 2M 64k', 'write -z 0 4k');
  return readFileSync(path);
}

/** An image with a snapshot, so that there are more tables to lie about. */
export function imageWithSnapshot(): Buffer {
  const path = newImage('compat=1.1,cluster_size=4k', '1M');
  qemuIo(path, 'write -P 1 0 10k');
  mustQemuImg('snapshot', '-c', 'before', path);
  qemuIo(path, 'write -P 2 4k 10k');
  return readFileSync(path);
}

/** The image cut off after each sector, and within the first ones. */
export function truncated(valid: Buffer): HostileImage[] {
  const lengths = [0, 1, 3, 4, 7, 8, 71, 72, 73, 103, 104, 105, 111, 112, 113];
  for (let length = 512; length < valid.length; length += 512) lengths.push(length);
  return lengths.map((length) => ({ name: `cut off after ${length} bytes`, bytes: valid.subarray(0, length) }));
}

/** Each field of the header at each value that it should not have, and at some that it may. */
export function wrongFields(valid: Buffer): HostileImage[] {
  const length = BigInt(valid.length);
  return FIELDS.flatMap(({ name, offset, size, values = [] }) => {
    const maximum = size === 4 ? U32_MAX : U64_MAX;
    const old = readField(valid, offset, size);
    const common = [0n, 1n, maximum, maximum >> 1n, (maximum >> 1n) + 1n, old + 1n, old + 512n, old ^ 7n];
    const places = size === 8 ? [length, length + 4095n, 2n ** 40n, 2n ** 56n, 2n ** 63n + 4096n, U64_MAX - 4095n] : [];
    const wanted = new Set([...common, ...places, ...values].map((value) => BigInt.asUintN(size * 8, value)));
    return [...wanted].map((value) => ({
      name: `${name} is ${value}`,
      bytes: withField(valid, { offset, size }, value),
    }));
  });
}

/** Names and extensions whose lengths lead anywhere. Version 3 only. */
export function wrongExtensions(valid: Buffer): HostileImage[] {
  const start = valid.readUInt32BE(100);
  const lengths = [
    0,
    1,
    7,
    8,
    47,
    48,
    49,
    1023,
    1024,
    3968,
    4096,
    65536,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32 - 8,
    2 ** 32 - 1,
  ];
  const images: HostileImage[] = Object.entries(EXTENSIONS).flatMap(([name, type]) =>
    lengths.map((length) => {
      const bytes = Buffer.from(valid);
      bytes.writeUInt32BE(type, start);
      bytes.writeUInt32BE(length, start + 4);
      // No end marker until the end of the cluster.
      bytes.fill(0x41, start + 8, 4096);
      return { name: `${name} has ${length} bytes`, bytes };
    }),
  );
  for (const [offset, length] of [
    [112, U32_MAX],
    [4095, 2n],
    [512, 1023n],
    [512, 1024n],
    [3800, 1023n],
    [2 ** 32, 10n],
  ] as const) {
    const bytes = withField(valid, { offset: 8, size: 8 }, BigInt(offset));
    bytes.writeUInt32BE(Number(length), 16);
    images.push({ name: `the backing name at ${offset} has ${length} bytes`, bytes });
  }
  return images;
}

/** Noise: behind nothing, behind the magic number, in a few places of the header, in the tables. */
export function randomImages(valid: Buffer, seed: number, count: number): HostileImage[] {
  const random = randomFrom(seed);
  const images: HostileImage[] = [];
  for (let index = 0; index < count; index++) {
    const bytes = Buffer.from(valid);
    const kind = index % 4;
    if (kind === 0) scatter(bytes, random, { from: 0, to: bytes.length, changes: bytes.length });
    if (kind === 1) scatter(bytes, random, { from: 8, to: 512, changes: 504 });
    if (kind === 2) scatter(bytes, random, { from: 4, to: 120, changes: 1 + below(random, 4) });
    if (kind === 3) scatter(bytes, random, { from: 4096, to: bytes.length, changes: 1 + below(random, 2000) });
    images.push({ name: `random bytes, kind ${kind}, CORRAL_SEED=${seed}, number ${index}`, bytes });
  }
  return images;
}

/** Entries of the L1 table, the refcount table and the tables that those name, at values that point anywhere. */
export function wrongTables(valid: Buffer): HostileImage[] {
  const at = (offset: number): number => Number(valid.readBigUInt64BE(offset) & 0x00fffffffffffe00n);
  const places: Record<string, number> = {
    'L1 entry': at(40),
    'L2 entry': at(at(40)),
    'refcount table entry': at(48),
    'refcount block': at(at(48)),
  };
  const length = BigInt(valid.length);
  const values = [1n, 512n, 4096n, 8192n, length, length + 4096n, 2n ** 55n, 2n ** 56n - 512n, 2n ** 61n, U64_MAX];
  const flags = [0n, 1n, 1n << 62n, 1n << 63n, (1n << 63n) | 1n, 3n << 62n];
  return Object.entries(places).flatMap(([name, offset]) =>
    values.flatMap((value) =>
      flags.map((flag) => {
        const entry = BigInt.asUintN(64, value | flag);
        return { name: `${name} is 0x${entry.toString(16)}`, bytes: withField(valid, { offset, size: 8 }, entry) };
      }),
    ),
  );
}

function scatter(
  bytes: Buffer,
  random: () => number,
  { from, to, changes }: { from: number; to: number; changes: number },
) {
  if (changes >= to - from) {
    for (let offset = from; offset < to; offset++) bytes[offset] = below(random, 256);
    return;
  }
  for (let change = 0; change < changes; change++) bytes[from + below(random, to - from)] = below(random, 256);
}

function readField(bytes: Buffer, offset: number, size: 4 | 8): bigint {
  return size === 4 ? BigInt(bytes.readUInt32BE(offset)) : bytes.readBigUInt64BE(offset);
}

function withField(valid: Buffer, { offset, size }: { offset: number; size: 4 | 8 }, value: bigint): Buffer {
  const bytes = Buffer.from(valid);
  if (size === 4) bytes.writeUInt32BE(Number(value), offset);
  else bytes.writeBigUInt64BE(value, offset);
  return bytes;
}
