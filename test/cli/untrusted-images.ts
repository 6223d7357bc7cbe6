/**
 * The conformance corpus of `inspect`: for every rule an image that breaks it, and a twin that does not. Images are made
 * here, from what qemu-img makes.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type InspectOptions, MemoryFile } from '../../host/index.js';
import type { RuleId } from '../../host/inspect/rules.js';
import { temporaryFolder } from '../temporary-folder.js';
import { mustQemuImg, qemuIo } from './run-corral.js';
import { newImage } from './sample-images.js';

export interface UntrustedImage {
  readonly rule: RuleId;
  /** A line of the table: what is wrong. */
  readonly name: string;
  readonly bytes: Buffer;
  /** As `bytes`, but right. */
  readonly twin: Buffer;
  /** Beside the core; `twin` and `bytes` get the same. */
  readonly options?: Partial<InspectOptions>;
  /** Instead of `options`, for the twin. */
  readonly twinOptions?: Partial<InspectOptions>;
}

type Change = (bytes: Buffer) => void;

const U32_MAX = 0xffffffff;
const FULL = { depth: 'full' } as const;

/** All of them; takes some seconds. */
export function untrustedImages(): UntrustedImage[] {
  const good = plainImage();
  return [
    ...formats(good),
    ...headers(good),
    ...references(good),
    ...features(good),
    ...encryption(),
    ...lists(),
    ...tables(good),
    ...sizes(good),
    ...contents(),
    ...limits(good),
  ];
}

/** 4 KiB clusters; data at 0, 1M and 3M; the L1 table is 16 entries long. */
function plainImage(): Buffer {
  const path = newImage('compat=1.1,cluster_size=4k', '5M');
  qemuIo(path, 'write -P 1 0 10k', 'write -P 2 1M 4k', 'write -P 3 3M 12k');
  return readFileSync(path);
}

function changed(bytes: Buffer, ...changes: Change[]): Buffer {
  const copy = Buffer.from(bytes);
  for (const change of changes) change(copy);
  return copy;
}

const u32 =
  (offset: number, value: number): Change =>
  (bytes) =>
    bytes.writeUInt32BE(value, offset);

const u64 =
  (offset: number, value: bigint): Change =>
  (bytes) =>
    bytes.writeBigUInt64BE(value, offset);

const text =
  (offset: number, value: string | Buffer): Change =>
  (bytes) =>
    bytes.set(Buffer.from(value), offset);

/** The host offset that stands in an entry or a field. */
function at(bytes: Buffer, offset: number): number {
  return Number(bytes.readBigUInt64BE(offset) & 0x00fffffffffffe00n);
}

/** Where the entry of guest offset 0 lies in its L2 table. */
function l2Of(bytes: Buffer): number {
  return at(bytes, at(bytes, 40));
}

function converted(format: string, options = ''): Buffer {
  const path = join(temporaryFolder(), `image.${format}`);
  mustQemuImg('create', '-q', '-f', format, ...(options === '' ? [] : ['-o', options]), path, '4M');
  return readFileSync(path);
}

function append(bytes: Buffer, length: number, ...changes: Change[]): Buffer {
  return changed(Buffer.concat([bytes, Buffer.alloc(length)]), ...changes);
}

function formats(good: Buffer): UntrustedImage[] {
  const vdi = converted('vdi');
  const disk = partitioned();
  const end = Math.ceil(good.length / 512) * 512;
  const padded = append(good, end - good.length + 512);
  const openstack = { policy: 'openstack' } as const;
  return [
    {
      rule: 'format.ambiguous',
      name: 'qcow2 with the footer of a VHD',
      bytes: changed(padded, text(end, 'conectix')),
      twin: padded,
    },
    {
      rule: 'format.declared-mismatch',
      name: 'qcow2, declared as raw',
      bytes: good,
      twin: good,
      options: { declared: 'raw' },
      twinOptions: { declared: 'qcow2' },
    },
    { rule: 'format.banned', name: 'VDI', bytes: vdi, twin: vdi, twinOptions: openstack },
    {
      rule: 'format.header',
      name: 'VDI with blocks of 1 byte',
      bytes: changed(vdi, (bytes) => bytes.writeUInt32LE(1, 0x178)),
      twin: vdi,
      options: openstack,
    },
    { rule: 'format.raw-fallback', name: 'noise', bytes: Buffer.alloc(65536, 'noise'), twin: disk },
    { rule: 'format.header-only', name: 'VDI, allowed', bytes: vdi, twin: good, options: openstack },
  ];
}

function headers(good: Buffer): UntrustedImage[] {
  const cases: [RuleId, string, Buffer][] = [
    ['header.truncated', '60 bytes', good.subarray(0, 60)],
    ['header.version', 'version 4', changed(good, u32(4, 4))],
    ['hdr.length', 'header of 100 bytes', changed(good, u32(100, 100))],
    ['hdr.cluster-bits', 'clusters of 2^63 bytes', changed(good, u32(20, 63))],
    ['hdr.refcount-order', 'refcounts of 2^7 bits', changed(good, u32(96, 7))],
    ['hdr.crypt-method', 'encryption method 3', changed(good, u32(32, 3))],
    ['hdr.size-alignment', 'a disk of 511 bytes more', changed(good, u64(24, 5n * 1048576n - 1n))],
    ['hdr.l1-size', 'L1 table of 2^31 entries', changed(good, u32(36, 2 ** 31))],
    ['hdr.l1-size', 'a disk of 32 PiB', changed(good, u64(24, 2n ** 55n))],
    ['hdr.l1-offset', 'L1 table between clusters', changed(good, u64(40, 4097n))],
    ['hdr.reftable', 'no refcount table', changed(good, u32(56, 0))],
    ['hdr.snapshot-table', '2^31 snapshots', changed(good, u32(60, 2 ** 31))],
    ['hdr.snapshot-table', 'no snapshots, at byte 7', changed(good, u64(64, 7n))],
    ['hdr.extension-length', 'an end that is 4096 bytes long', changed(good, extensions(), u32(116, 4096))],
    ['hdr.extension-length', 'extension of 2^32 - 1 bytes', changed(good, u32(112, 0x12345678), u32(116, U32_MAX))],
    [
      'hdr.extension-duplicate',
      'two backing formats',
      changed(good, extensions([0xe2792aca, 'raw'], [0xe2792aca, 'qcow2'])),
    ],
    ['hdr.extension-unknown', 'unknown extension', changed(good, extensions([0x12345678, 'what']))],
  ];
  return cases.map(([rule, name, bytes]) => ({ rule, name, bytes, twin: good }));
}

/** Replaces all header extensions. */
function extensions(...all: [type: number, data: string | Buffer][]): Change {
  return (bytes) => {
    let position = bytes.readUInt32BE(100);
    bytes.fill(0, position, 2048);
    for (const [type, data] of all) {
      bytes.writeUInt32BE(type, position);
      bytes.writeUInt32BE(Buffer.from(data).length, position + 4);
      bytes.set(Buffer.from(data), position + 8);
      position += 8 + Math.ceil(Buffer.from(data).length / 8) * 8;
    }
  };
}

/** A name at byte 2048; an empty format is left out. */
function backing(name: string | Buffer, format = 'raw'): Change {
  return (bytes) => {
    extensions(...(format === '' ? [] : [[0xe2792aca, format] as [number, string]]))(bytes);
    const start = 2048;
    bytes.set(Buffer.from(name), start);
    bytes.writeBigUInt64BE(BigInt(start), 8);
    bytes.writeUInt32BE(Buffer.from(name).length, 16);
  };
}

function references(good: Buffer): UntrustedImage[] {
  const harmless = changed(good, backing('base.img'));
  const names: [RuleId, string, string | Buffer][] = [
    ['ref.name-protocol', 'nbd://', 'nbd://localhost/export'],
    ['ref.name-protocol', 'json:', 'json:{"driver":"file","filename":"/etc/passwd"}'],
    ['ref.name-absolute', 'an absolute path', '/etc/passwd'],
    ['ref.name-traversal', 'a path upwards', 'images/../../secret'],
    ['ref.name-device', 'a device', '/dev/sda'],
    ['ref.name-control-chars', 'escape codes', 'a\x1b[2Jb'],
    ['ref.name-not-utf8', 'bytes that are no UTF-8', Buffer.from([0x61, 0xff, 0xfe])],
    ['ref.name-nul', 'a zero byte', 'a\0b'],
  ];
  const dataFile = dataFileImage('');
  const open = async (): Promise<MemoryFile> => new MemoryFile(partitioned(), true);
  const allowed = { patterns: ['/images/*'], path: '/images/image', open };
  const flat = converted('vmdk', 'subformat=monolithicFlat');
  const sparse = converted('vmdk', 'subformat=monolithicSparse');
  const openstack = { policy: 'openstack' } as const;
  return [
    { rule: 'ref.backing-file', name: 'a backing file', bytes: harmless, twin: good },
    {
      rule: 'ref.backing-format-missing',
      name: 'a backing file of unknown format',
      bytes: changed(good, backing('base.img', '')),
      twin: harmless,
    },
    ...names.map(([rule, name, value]) => ({
      rule,
      name: `a backing file: ${name}`,
      bytes: changed(good, backing(value)),
      twin: harmless,
    })),
    {
      rule: 'ref.cycle',
      name: 'an allowed backing file: the image itself',
      bytes: changed(good, backing('image')),
      twin: harmless,
      options: { references: allowed },
    },
    {
      rule: 'ref.depth',
      name: 'with --max-chain 0: an allowed backing file',
      bytes: harmless,
      twin: harmless,
      options: { references: { ...allowed, maxChain: 0 } },
      twinOptions: { references: allowed },
    },
    {
      rule: 'ref.name-position',
      name: 'a name behind the first cluster',
      bytes: changed(good, u64(8, 8192n), u32(16, 10)),
      twin: harmless,
    },
    { rule: 'ref.data-file', name: 'an external data file', bytes: dataFile, twin: good },
    {
      rule: 'ref.data-file-name-missing',
      name: 'an external data file without a name',
      bytes: changed(dataFile, extensions()),
      twin: dataFile,
    },
    {
      rule: 'ref.data-file-raw',
      name: 'an external data file that is raw',
      bytes: dataFileImage(',data_file_raw=on'),
      twin: dataFile,
    },
    { rule: 'ref.extent-file', name: 'VMDK in two files', bytes: flat, twin: sparse, options: openstack },
  ];
}

function dataFileImage(options: string): Buffer {
  const folder = temporaryFolder();
  const path = join(folder, 'image.qcow2');
  const dataFile = `data_file=${join(folder, 'data.raw')}${options}`;
  mustQemuImg('create', '-q', '-f', 'qcow2', '-o', dataFile, path, '4M');
  return readFileSync(path);
}

function features(good: Buffer): UntrustedImage[] {
  const bits = (offset: number, value: bigint): Buffer => changed(good, u64(offset, value));
  const extended = readFileSync(newImage('extended_l2=on'));
  const cases: [RuleId, string, Buffer][] = [
    ['hdr.unknown-incompatible', 'incompatible feature 5', bits(72, 32n)],
    ['hdr.unknown-compatible', 'compatible feature 7', bits(80, 128n)],
    ['hdr.unknown-autoclear', 'autoclear feature 9', bits(88, 512n)],
    ['hdr.raw-without-data-file', 'a raw data file that is not there', bits(88, 2n)],
    ['hdr.known-incompatible', 'extended L2 entries', extended],
    ['hdr.dirty', 'the dirty bit', bits(72, 1n)],
    ['hdr.corrupt', 'the corrupt bit', bits(72, 2n)],
    ['hdr.compression-type', 'zstd without its feature', changed(good, (bytes) => bytes.writeUInt8(1, 104))],
    ['hdr.subcluster-size', 'subclusters of 128 bytes', bits(72, 16n)],
  ];
  return cases.map(([rule, name, bytes]) => ({ rule, name, bytes, twin: good }));
}

/** What QEMU's tools are told for these images to be decrypted. */
export const KEY = ['--object', 'secret,id=key,data=secret'];

/** A qcow2 image for qemu-img, which checks an encrypted one only for those who have the key. */
export function sourceOf(path: string, encryption: string | undefined): string[] {
  if (encryption === undefined) return ['-f', 'qcow2', path];
  const options = `driver=qcow2,encrypt.format=${encryption},encrypt.key-secret=key,file.filename=${path}`;
  return [...KEY, '--image-opts', options];
}

/** A LUKS image, with a header that costs little to make. */
export function encryptedImage(format: 'luks' | 'aes'): Buffer {
  const path = join(temporaryFolder(), 'image.qcow2');
  const options = `encrypt.format=${format},encrypt.key-secret=key`;
  const cheap = format === 'luks' ? ',encrypt.iter-time=10' : '';
  mustQemuImg('create', '-q', ...KEY, '-f', 'qcow2', '-o', options + cheap, path, '4M');
  return readFileSync(path);
}

function encryption(): UntrustedImage[] {
  const luks = encryptedImage('luks');
  const aes = encryptedImage('aes');
  const plain = readFileSync(newImage());
  // The extension comes first.
  const header = Number(luks.readBigUInt64BE(luks.readUInt32BE(100) + 8));
  return [
    { rule: 'crypt.present', name: 'LUKS', bytes: luks, twin: plain },
    { rule: 'crypt.legacy-aes', name: 'AES-CBC', bytes: aes, twin: luks },
    {
      rule: 'crypt.luks-header',
      name: 'LUKS without its magic number',
      bytes: changed(luks, text(header, 'SKUL')),
      twin: luks,
    },
    {
      rule: 'crypt.kdf-cost',
      name: 'a key of 2^32 iterations',
      bytes: changed(luks, u32(header + 208 + 4, U32_MAX)),
      twin: luks,
    },
  ];
}

/** Two snapshots, `one` and `two`. */
function snapshotImage(): Buffer {
  const path = newImage('compat=1.1,cluster_size=4k', '1M');
  qemuIo(path, 'write -P 1 0 10k');
  mustQemuImg('snapshot', '-c', 'one', path);
  qemuIo(path, 'write -P 2 4k 10k');
  mustQemuImg('snapshot', '-c', 'two', path);
  return readFileSync(path);
}

function bitmapImage(): Buffer {
  const path = newImage('compat=1.1', '4M');
  mustQemuImg('bitmap', '--add', path, 'changes');
  return readFileSync(path);
}

function lists(): UntrustedImage[] {
  const snapshots = snapshotImage();
  const table = Number(snapshots.readBigUInt64BE(64));
  // An entry of 40 bytes, 24 of extra data, the id and the name; the next one at a multiple of 8.
  const second = table + Math.ceil((40 + 24 + 1 + 3) / 8) * 8;
  const bitmaps = bitmapImage();
  const extension = bitmaps.indexOf(Buffer.from([0x23, 0x85, 0x28, 0x75])) + 8;
  const directory = Number(bitmaps.readBigUInt64BE(extension + 16));
  const none = readFileSync(newImage());
  return [
    {
      rule: 'snap.table',
      name: 'a snapshot with an L1 table of 2^30 entries',
      bytes: changed(snapshots, u32(table + 8, 2 ** 30)),
      twin: snapshots,
    },
    {
      rule: 'snap.extra-data',
      name: 'a snapshot with 2000 bytes of extra data',
      bytes: changed(snapshots, u32(table + 36, 2000)),
      twin: snapshots,
    },
    {
      rule: 'snap.duplicate-id',
      name: 'two snapshots with one id',
      bytes: changed(snapshots, text(second + 64, '1')),
      twin: snapshots,
    },
    { rule: 'snap.hidden-state', name: 'snapshots', bytes: snapshots, twin: none },
    {
      rule: 'snap.vm-state',
      name: 'a snapshot with 1 MiB of machine state',
      bytes: changed(snapshots, u32(table + 32, 2 ** 20), u64(table + 40, 2n ** 20n)),
      twin: snapshots,
    },
    {
      rule: 'text.escape-sequences',
      name: 'a snapshot with escape codes in its name',
      bytes: changed(snapshots, text(table + 65, '\x1b[2')),
      twin: snapshots,
    },
    {
      rule: 'bitmap.directory',
      name: 'bitmaps between clusters',
      bytes: changed(bitmaps, u64(extension + 16, BigInt(directory + 8))),
      twin: bitmaps,
    },
    {
      rule: 'bitmap.extra-data',
      name: 'a bitmap that may have extra data',
      bytes: changed(bitmaps, u32(directory + 12, 6)),
      twin: bitmaps,
    },
    {
      rule: 'bitmap.in-use',
      name: 'a bitmap in use',
      bytes: changed(bitmaps, u32(directory + 12, 3)),
      twin: bitmaps,
    },
    {
      rule: 'bitmap.stale',
      name: 'bitmaps whose autoclear bit is gone',
      bytes: changed(bitmaps, u64(88, 0n)),
      twin: bitmaps,
    },
    {
      rule: 'bitmap.table',
      name: 'a bitmap whose table lies outside the file',
      bytes: changed(bitmaps, u64(directory, 2n ** 40n)),
      twin: bitmaps,
    },
  ];
}

function tables(good: Buffer): UntrustedImage[] {
  const l2 = l2Of(good);
  const entry = good.readBigUInt64BE(l2);
  const next = good.readBigUInt64BE(l2 + 8);
  const copied = 1n << 63n;
  const refcounts = at(good, at(good, 48));
  const reftable = good.readBigUInt64BE(at(good, 48));
  const extended = extendedImage();
  const data = Number(entry & 0x00fffffffffffe00n) / 4096;
  const cases: [RuleId, string, Buffer][] = [
    ['map.offset-range', 'a cluster at 2^40', changed(good, u64(l2, copied | (2n ** 40n)))],
    ['map.offset-alignment', 'a cluster between clusters', changed(good, u64(l2, entry | 512n))],
    ['map.reserved-bits', 'an entry with reserved bits', changed(good, u64(l2, entry | 2n))],
    ['map.copied-flag', 'an entry without COPIED', changed(good, u64(l2, entry & ~copied))],
    [
      'map.points-to-metadata',
      'a cluster that is the refcount table',
      changed(good, u64(l2, copied | BigInt(at(good, 48)))),
    ],
    ['map.shared-cluster', 'a cluster twice', changed(good, u64(l2, next))],
    ['map.compressed-range', 'a compressed cluster at 2^40', changed(good, u64(l2, (1n << 62n) | (2n ** 40n)))],
    ['refcount.table', 'reserved bits in the refcount table', changed(good, u64(at(good, 48), reftable | 1n))],
    [
      'refcount.mismatch',
      'data without a refcount',
      changed(good, (bytes) => bytes.writeUInt16BE(0, refcounts + data * 2)),
    ],
    ['refcount.leak', 'a lost cluster', leaked(good, refcounts)],
  ];
  const extendedL2 = at(extended, at(extended, 40));
  return [
    ...cases.map(([rule, name, bytes]) => ({ rule, name, bytes, twin: good })),
    {
      rule: 'map.extl2-bitmap',
      name: 'a subcluster with data that is zero',
      bytes: changed(extended, u64(extendedL2 + 8, 2n ** 64n - 1n)),
      twin: extended,
    },
    manyErrors(),
  ];
}

function leaked(good: Buffer, refcounts: number): Buffer {
  const end = Math.ceil(good.length / 4096);
  return append(good, (end + 1) * 4096 - good.length, (bytes) => bytes.writeUInt16BE(1, refcounts + end * 2));
}

function extendedImage(): Buffer {
  const path = newImage('extended_l2=on', '4M');
  qemuIo(path, 'write -P 1 0 64k');
  return readFileSync(path);
}

/** No entry has COPIED: more errors than a check lists. */
function manyErrors(): UntrustedImage {
  const path = newImage('cluster_size=4k', '16M');
  qemuIo(path, 'write -P 1 0 16M');
  const twin = readFileSync(path);
  const bytes = changed(twin, (copy) => {
    for (let table = at(copy, 40), index = 0; index < 8; index++) {
      const l2 = at(copy, table + index * 8);
      for (let offset = l2; offset < l2 + 4096; offset += 8) copy.writeUInt8(0, offset);
    }
  });
  return { rule: 'map.more', name: '4096 entries without COPIED', bytes, twin };
}

function sizes(good: Buffer): UntrustedImage[] {
  const large = readFileSync(newImage('cluster_size=2M', '2T'));
  const end = Math.ceil(good.length / 4096) * 4096;
  const compressed = compressedImage();
  const l2 = l2Of(compressed);
  return [
    { rule: 'size.virtual-limit', name: 'a disk of 2 TiB', bytes: large, twin: good },
    {
      rule: 'size.expansion-ratio',
      name: 'one compressed cluster 8192 times',
      bytes: changed(compressed, (bytes) => {
        for (let index = 1; index < 8192; index++) bytes.copy(bytes, l2 + index * 8, l2, l2 + 8);
      }),
      twin: compressed,
    },
    {
      rule: 'size.file-truncated',
      name: 'a file without its last two clusters',
      bytes: good.subarray(0, good.length - 8192),
      twin: good,
    },
    {
      rule: 'size.trailing-data',
      name: '64 KiB behind the last cluster',
      bytes: append(good, end - good.length + 65536, (bytes) => bytes.fill(0x55, end)),
      twin: good,
    },
  ];
}

/** One compressed cluster; an L2 table for 512 MiB. */
function compressedImage(): Buffer {
  const path = newImage('compat=1.1', '512M');
  qemuIo(path, 'write -c -P 1 0 64k');
  return readFileSync(path);
}

/** A raw disk with an MBR and one partition of 32 KiB at 1 MiB, which holds `contents`. */
function partitioned(contents: Buffer = Buffer.alloc(0), overlap = false): Buffer {
  const disk = Buffer.alloc(2 * 1048576);
  const entry = (index: number, start: number, count: number): void => {
    const offset = 446 + index * 16;
    disk[offset + 4] = 0x83;
    disk.writeUInt32LE(start, offset + 8);
    disk.writeUInt32LE(count, offset + 12);
  };
  entry(0, 2048, 1024);
  entry(1, overlap ? 2050 : 3072, 64);
  disk.set([0x55, 0xaa], 510);
  disk.set(contents, 1048576);
  return disk;
}

function imageOf(disk: Buffer, options: string[] = []): Buffer {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'disk.raw'), disk);
  mustQemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, join(folder, 'disk.raw'), join(folder, 'disk.qcow2'));
  return readFileSync(join(folder, 'disk.qcow2'));
}

function contents(): UntrustedImage[] {
  const harmless = imageOf(partitioned());
  const nested = readFileSync(newImage());
  const ext = Buffer.alloc(4096);
  ext.set([0x53, 0xef], 0x438);
  const packed = imageOf(Buffer.alloc(65536, 'some text'), ['-c']);
  const place = Number(packed.readBigUInt64BE(l2Of(packed)) & 0x003fffffffffffffn);
  const cases: [RuleId, string, Buffer, Buffer?][] = [
    ['content.nested-format', 'a qcow2 image on the disk', imageOf(nested)],
    ['content.nested-partition', 'a qcow2 image as partition', imageOf(partitioned(nested.subarray(0, 32768)))],
    ['content.partition-table', 'partitions that overlap', imageOf(partitioned(Buffer.alloc(0), true))],
    ['content.fs-id', 'an ext file system', imageOf(partitioned(ext))],
    ['content.unreadable', 'a compressed cluster of noise', changed(packed, text(place, 'x'.repeat(20))), packed],
  ];
  return cases.map(([rule, name, bytes, twin = harmless]) => ({ rule, name, bytes, twin, options: FULL }));
}

function limits(good: Buffer): UntrustedImage[] {
  const same = { bytes: good, twin: good };
  let time = 0;
  const large = readFileSync(newImage('cluster_size=2M', '4M'));
  return [
    {
      rule: 'limit.read',
      name: 'with --max-read 64k',
      ...same,
      options: { limits: { maxRead: 65536 } },
      twinOptions: {},
    },
    {
      rule: 'limit.time',
      name: 'with --max-time 0',
      ...same,
      options: { limits: { maxTime: 0 }, now: () => time++ },
      twinOptions: {},
    },
    {
      rule: 'limit.clusters',
      name: 'with --max-clusters 4',
      ...same,
      options: { limits: { maxClusters: 4 } },
      twinOptions: {},
    },
    {
      rule: 'limit.memory',
      name: 'a backing name at 1 MiB',
      bytes: changed(large, u64(8, 2n ** 20n), u32(16, 4)),
      twin: large,
    },
    {
      rule: 'limit.snapshots',
      name: 'more snapshots than are looked into',
      bytes: snapshotImage(),
      twin: good,
      options: { depth: 'full', limits: { maxSnapshots: 1 } },
    },
  ];
}
