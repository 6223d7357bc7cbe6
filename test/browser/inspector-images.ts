/** Images of every kind that qemu-img makes, and what it says of them. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomFrom } from '../random.js';

const MIB = 2 ** 20;

export interface InspectedImage {
  readonly name: string;
  /** All files of the chain. */
  readonly files: string[];
  readonly top: string;
}

/** One of each kind, in one folder, which is the caller's to remove. */
export function makeImages(): { folder: string; images: InspectedImage[] } {
  const folder = mkdtempSync(join(tmpdir(), 'corral-inspector-'));
  const at = (name: string): string => join(folder, name);
  const raw = at('noise.raw');
  writeFileSync(raw, noise());
  const converted = (name: string, options: string, ...more: string[]): InspectedImage => {
    qemu('convert', '-f', 'raw', '-O', 'qcow2', '-o', options, ...more, raw, at(name));
    return { name, files: [at(name)], top: at(name) };
  };
  const images = [
    converted('plain.qcow2', 'compat=1.1'),
    converted('old.qcow2', 'compat=0.10,cluster_size=4k'),
    converted('zlib.qcow2', 'compression_type=zlib', '-c'),
    converted('zstd.qcow2', 'compression_type=zstd', '-c'),
    converted('extended.qcow2', 'extended_l2=on,cluster_size=32k'),
    snapshots(at('snapshots.qcow2')),
    overlay(at),
    { name: 'noise.raw', files: [raw], top: raw },
  ];
  return { folder, images };
}

/** Data and zeros, by turns. */
function noise(): Buffer {
  const random = randomFrom(7);
  const bytes = Buffer.alloc(6 * MIB);
  for (let at = 0; at < 2 * MIB; at += 4) bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), at);
  bytes.fill('a text that compresses well. ', 3 * MIB, 4 * MIB);
  return bytes;
}

/** Two snapshots, a bitmap, and changes after each. */
function snapshots(path: string): InspectedImage {
  qemu('create', '-q', '-f', 'qcow2', path, '16M');
  io(path, 'write -P 1 0 2M', 'write -P 2 8M 1M');
  qemu('snapshot', '-c', 'monday', path);
  io(path, 'write -P 3 1M 192k', 'write -z 8M 128k', 'write -P 1 0 64k', 'write -P 9 12M 300');
  qemu('snapshot', '-c', 'tuesday', path);
  qemu('bitmap', '--add', path, 'backup');
  io(path, 'write -P 5 5M 256k', 'write -P 5 14M 64k');
  return { name: 'snapshots.qcow2', files: [path], top: path };
}

/** An image over an image over a raw file. */
function overlay(at: (name: string) => string): InspectedImage {
  const [base, middle, top] = [at('base.raw'), at('middle.qcow2'), at('top.qcow2')];
  writeFileSync(base, Buffer.alloc(4 * MIB, 0x42));
  qemu('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', middle, '8M');
  io(middle, 'write -P 2 1M 512k', 'write -z 2M 128k', 'write -P 3 6M 64k');
  qemu('create', '-q', '-f', 'qcow2', '-b', middle, '-F', 'qcow2', top, '8M');
  io(top, 'write -P 4 1088k 64k', 'write -P 5 7M 128k');
  return { name: 'top.qcow2', files: [base, top, middle], top };
}

/** A disk with an MBR and one ext4 partition of `files`; a snapshot of it, after which one file is another. */
export function diskWithFiles(
  folder: string,
  files: Readonly<Record<string, string | Buffer>>,
  later: typeof files,
): string {
  const [first, second] = [files, { ...files, ...later }].map((tree, number) => {
    const source = join(folder, `tree${number}`);
    for (const [name, contents] of Object.entries(tree)) {
      mkdirSync(join(source, name, '..'), { recursive: true });
      writeFileSync(join(source, name), contents);
    }
    const path = join(folder, `disk${number}.raw`);
    execFileSync('mkfs.ext4', ['-q', '-L', 'rootfs', '-d', source, path, '12M']);
    const partition = readFileSync(path);
    const start = Buffer.alloc(MIB);
    start[446 + 4] = 0x83;
    start.writeUInt32LE(MIB / 512, 446 + 8);
    start.writeUInt32LE(partition.length / 512, 446 + 12);
    start.writeUInt16BE(0x55aa, 510);
    writeFileSync(path, Buffer.concat([start, partition]));
    return path;
  }) as [string, string];
  const image = join(folder, 'files.qcow2');
  qemu('convert', '-f', 'raw', '-O', 'qcow2', first, image);
  qemu('snapshot', '-c', 'before', image);
  io(image, `write -s ${second} 0 ${readFileSync(second).length}`);
  return image;
}

/** Has to succeed. */
export function qemu(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Commands of qemu-io. */
export function io(path: string, ...commands: string[]): void {
  const list = commands.flatMap((command) => ['-c', command]);
  execFileSync('qemu-io', ['-f', 'qcow2', ...list, path], { stdio: 'pipe' });
}

/** `qemu-img info`, as an object. */
export function infoOf({ top }: InspectedImage): QemuInfo {
  return JSON.parse(qemu('info', '--output=json', top));
}

interface QemuInfo {
  'virtual-size': number;
  'cluster-size'?: number;
  format: string;
  'format-specific'?: { data: Record<string, unknown> };
}

export interface QemuExtent {
  start: number;
  length: number;
  depth: number;
  present: boolean;
  zero: boolean;
  data: boolean;
  compressed?: boolean;
  offset?: number;
}

/** `qemu-img map`. */
export function mapOf({ top }: InspectedImage): QemuExtent[] {
  return JSON.parse(qemu('map', '--output=json', top));
}

/** The page's word for what QEMU says of an extent. */
export function kindOf({ depth, present, zero, data, compressed }: QemuExtent): string {
  if (!present) return 'unallocated';
  if (zero || !data) return 'zero';
  if (depth > 0) return 'backing';
  return compressed ? 'compressed' : 'data';
}

/** The disk's bytes, as `qemu-img convert` has them. */
export function bytesOf({ top }: InspectedImage, snapshot?: string): Buffer {
  const raw = `${top}.bytes`;
  const options = snapshot === undefined ? [] : ['-l', snapshot];
  qemu('convert', '-O', 'raw', ...options, top, raw);
  return readFileSync(raw);
}
