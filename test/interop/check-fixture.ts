/** One image, two checkers: `qemu-img check` and Corral's, with the same names for what they count. */

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import type { CheckReport } from '../../host/check-report.js';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { madeOnce } from '../made-once.js';

export interface Counts {
  corruptions: number;
  leaks: number;
  checkErrors: number;
  allocatedClusters: number;
  totalClusters: number;
  fragmentedClusters: number;
  compressedClusters: number;
  imageEndOffset: number;
}

/** Memory for 64 clusters or so: the smallest images are walked in many windows. */
export const TINY = 2500;

export interface ImageOptions {
  clusterSize: number;
  compat?: '0.10' | '1.1';
  refcountBits?: number;
  size?: number;
  preallocation?: string;
  /** More of what `qemu-img create -o` takes. */
  more?: readonly string[];
}

/** Path of an image that qemu-img made, with `commands` of qemu-io carried out; a data file is made by the first call. */
export function makeImage(options: ImageOptions, commands: string[] = []): string {
  const { clusterSize, compat = '1.1', refcountBits = 16, size = 1 << 20, preallocation = 'off' } = options;
  const given = [`cluster_size=${clusterSize}`, `compat=${compat}`, `preallocation=${preallocation}`];
  if (compat === '1.1') given.push(`refcount_bits=${refcountBits}`, ...(options.more ?? []));
  const make = (path: string): void => {
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', given.join(','), path, String(size)]);
    io(path, commands);
  };
  const key = [...given, size, ...commands].join('\n');
  return madeOnce(key, make);
}

/** Carries out commands of qemu-io. */
export function io(path: string, commands: string[]): void {
  if (commands.length === 0) return;
  execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path], { stdio: 'pipe' });
}

export function snapshot(path: string, name: string): void {
  execFileSync('qemu-img', ['snapshot', '-c', name, path]);
}

/** What QEMU counts; the message when it gives no counts. */
export function qemuCheck(path: string): Counts | string {
  const options = { encoding: 'utf8', maxBuffer: 1 << 28 } as const;
  const { stdout, stderr } = spawnSync('qemu-img', ['check', '-f', 'qcow2', '--output=json', path], options);
  if (stdout === '') return stderr;
  const json = JSON.parse(stdout) as Record<string, number>;
  const count = (name: string) => json[name] ?? 0;
  return {
    corruptions: count('corruptions'),
    leaks: count('leaks'),
    checkErrors: count('check-errors'),
    allocatedClusters: count('allocated-clusters'),
    totalClusters: count('total-clusters'),
    fragmentedClusters: count('fragmented-clusters'),
    compressedClusters: count('compressed-clusters'),
    imageEndOffset: count('image-end-offset'),
  };
}

/** What Corral counts. */
export async function corralCheck(path: string, checkSize = 1 << 22): Promise<Counts> {
  const file = new MemoryFile(readFileSync(path), true);
  const image = await Image.open(file, { core: loadCore(), checkSize, tablesOnly: true });
  return countsOf(await image.check());
}

/** What QEMU counts too. */
export function countsOf(report: CheckReport): Counts {
  const { corruptions, leaks, checkErrors, imageEndOffset } = report;
  const { totalClusters, allocatedClusters, fragmentedClusters, compressedClusters } = report;
  return {
    corruptions,
    leaks,
    checkErrors,
    imageEndOffset,
    totalClusters,
    allocatedClusters,
    fragmentedClusters,
    compressedClusters,
  };
}

/** An image's bytes and where its tables are, to do damage. */
export class Damage {
  readonly bytes: Buffer;
  readonly clusterSize: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly blockOffset: number;
  readonly snapshotsOffset: number;

  constructor(readonly path: string) {
    this.bytes = readFileSync(path);
    this.clusterSize = 1 << this.bytes.readUInt32BE(20);
    this.l1Offset = this.number(40);
    this.refcountTableOffset = this.number(48);
    this.blockOffset = this.number(this.refcountTableOffset);
    this.snapshotsOffset = this.number(64);
  }

  word(offset: number): bigint {
    return this.bytes.readBigUInt64BE(offset);
  }

  number(offset: number): number {
    return Number(this.word(offset));
  }

  set(offset: number, value: bigint): void {
    this.bytes.writeBigUInt64BE(BigInt.asUintN(64, value), offset);
  }

  flip(offset: number, bits: bigint): void {
    this.set(offset, this.word(offset) ^ bits);
  }

  /** Where the L1 entry lies, in bytes. */
  l1(index: number): number {
    return this.l1Offset + index * 8;
  }

  /** Where the entry of a guest cluster lies, by the active L1 table. */
  l2(cluster: number): number {
    const entrySize = (this.number(72) & EXTENDED_L2) !== 0 ? 16 : 8;
    const entries = this.clusterSize / entrySize;
    const table = Number(this.word(this.l1(Math.floor(cluster / entries))) & OFFSET);
    return table + (cluster % entries) * entrySize;
  }

  /** The host cluster of a guest cluster. */
  hostCluster(cluster: number): number {
    return Number(this.word(this.l2(cluster)) & OFFSET) / this.clusterSize;
  }

  /** Sets the refcount of a host cluster in the first block; refcounts have 16 bits. */
  setRefcount(hostCluster: number, value: number): void {
    this.bytes.writeUInt16BE(value, this.blockOffset + hostCluster * 2);
  }

  /** Cuts the file to `length` bytes. */
  save(length = this.bytes.length): void {
    writeFileSync(this.path, this.bytes.subarray(0, length));
  }
}

/** Incompatible feature bit. */
const EXTENDED_L2 = 16;

export const OFFSET = 0x00fffffffffffe00n;
export const COPIED = 1n << 63n;
