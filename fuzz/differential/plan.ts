/** A sequence as data, drawn from a seed before anything runs: it can be cut down and run again. */

import type { Random } from '../simulator/random.js';
import type { Capabilities } from './capabilities.js';

export type Engine = 'corral' | 'qemu';

/** Numbers are bytes. Steps on guest ranges are cut to the disk as it is then. */
export type Step =
  | { readonly kind: 'write' | 'compressed'; readonly offset: number; readonly length: number; readonly value: number }
  | { readonly kind: 'zero' | 'unmap' | 'discard'; readonly offset: number; readonly length: number }
  | { readonly kind: 'snapshot' | 'apply' | 'delete'; readonly name: string }
  | { readonly kind: 'resize'; readonly size: number }
  | { readonly kind: 'flush' | 'reopen' };

export type GuestStep = Extract<Step, { offset: number }>;

/** What one engine does to one image before the images are compared; on the twin the other engine does the same. */
export interface Turn {
  readonly by: Engine;
  /** All requests at once, as far as this engine is concerned. */
  readonly atOnce: boolean;
  readonly steps: readonly Step[];
}

export interface ImagePlan {
  readonly createdBy: Engine;
  readonly size: number;
  readonly clusterSize: number;
  readonly compat: '0.10' | '1.1';
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly compressionType: 'zlib' | 'zstd';
  /** The disk is full of compressed clusters to begin with. */
  readonly compressed: boolean;
  readonly backing: BackingPlan | undefined;
  readonly dataFile: 'none' | 'plain' | 'raw';
}

/** Another image below, or plain bytes; of any length. */
export interface BackingPlan {
  readonly format: 'raw' | 'qcow2';
  readonly size: number;
  readonly clusterSize: number;
}

export interface Plan {
  readonly seed: number;
  readonly image: ImagePlan;
  readonly turns: readonly Turn[];
}

const SECTOR = 512;
const MIB = 1 << 20;
const CLUSTER_SIZES = [512, 512, 1024, 2048, 4096, 4096, 8192, 16384, 32768, 65536, 65536, 65536, 262144, 2 * MIB];
/** Compressed clusters share host clusters, and so do snapshots: narrower refcounts overflow, which QEMU refuses. */
const COMPRESSED_REFCOUNT_BITS = 16;
const SNAPSHOT_REFCOUNT_BITS = 4;
const SNAPSHOT_NAMES = ['one', 'two', 'three'];

export function drawPlan(seed: number, random: Random, can: Capabilities): Plan {
  const image = drawImage(random, can);
  const turns = Array.from({ length: random.between(2, 6) }, (_, index) => drawTurn(random, image, can, index));
  return { seed, image, turns };
}

function drawImage(random: Random, can: Capabilities): ImagePlan {
  const extendedL2 = can.extendedL2 && random.chance(0.25);
  const clusterSize = extendedL2 ? 2 ** random.between(14, 18) : random.pick(CLUSTER_SIZES);
  const compat = extendedL2 || random.chance(0.75) ? '1.1' : '0.10';
  const dataFile =
    can.dataFile && compat === '1.1' && random.chance(0.2) ? random.pick(['plain', 'raw'] as const) : 'none';
  const refcountBits = compat === '0.10' || random.chance(0.6) ? 16 : 2 ** random.below(7);
  const compressed =
    can.copyOnWrite && dataFile === 'none' && refcountBits >= COMPRESSED_REFCOUNT_BITS && random.chance(0.25);
  const mayBeBacked = can.backing && dataFile !== 'raw' && !compressed;
  const size = drawSize(random, clusterSize);
  return {
    createdBy: extendedL2 || dataFile !== 'none' ? 'qemu' : random.pick(['corral', 'qemu']),
    size,
    clusterSize,
    compat,
    refcountBits,
    lazyRefcounts: compat === '1.1' && random.chance(0.15),
    extendedL2,
    compressionType: compat === '1.1' && random.chance(0.5) ? 'zstd' : 'zlib',
    compressed,
    backing: mayBeBacked && random.chance(0.4) ? drawBacking(random, size) : undefined,
    dataFile,
  };
}

/** Some L2 tables' worth of small clusters, a few large ones; seldom a whole number of clusters. */
function drawSize(random: Random, clusterSize: number): number {
  const most = Math.min(12 * MIB, Math.max(clusterSize * 160, 256 * 1024));
  const least = Math.min(most, clusterSize * 3);
  return random.between(Math.ceil(least / SECTOR), Math.floor(most / SECTOR)) * SECTOR;
}

function drawBacking(random: Random, size: number): BackingPlan {
  const format = random.pick(['raw', 'qcow2'] as const);
  const length = Math.max(SECTOR, Math.floor(random.pick([size, size / 2, size * 1.5, random.between(1, size)])));
  // Raw files end anywhere; the last part of a sector counts as a whole one.
  const odd = format === 'raw' && random.chance(0.4);
  return {
    format,
    size: odd ? length : Math.ceil(length / SECTOR) * SECTOR,
    clusterSize: random.pick(CLUSTER_SIZES),
  };
}

function drawTurn(random: Random, image: ImagePlan, can: Capabilities, index: number): Turn {
  const steps = Array.from({ length: random.between(1, 30) }, () => drawStep(random, image, can));
  return { by: index % 2 === 0 ? 'corral' : 'qemu', atOnce: random.chance(0.5), steps };
}

function drawStep(random: Random, image: ImagePlan, can: Capabilities): Step {
  const weight = random.below(100);
  if (weight < 40) return { kind: 'write', ...drawRange(random, image), value: random.between(1, 255) };
  if (weight < 52) return { kind: 'zero', ...drawRange(random, image) };
  if (weight < 62) return { kind: 'unmap', ...drawRange(random, image) };
  if (weight < 77) return { kind: 'discard', ...drawRange(random, image) };
  if (weight < 81) return { kind: 'flush' };
  if (weight < 85) return { kind: 'reopen' };
  if (weight < 89 && mayBeCompressed(image, can)) {
    return { kind: 'compressed', ...drawClusters(random, image), value: random.between(1, 255) };
  }
  if (weight < 95 && can.copyOnWrite && image.refcountBits >= SNAPSHOT_REFCOUNT_BITS && image.dataFile === 'none') {
    return {
      kind: random.pick(['snapshot', 'snapshot', 'apply', 'delete'] as const),
      name: random.pick(SNAPSHOT_NAMES),
    };
  }
  if (weight < 97) return { kind: 'resize', size: drawSize(random, image.clusterSize) };
  return { kind: 'write', ...drawRange(random, image), value: random.between(1, 255) };
}

function mayBeCompressed({ dataFile, extendedL2, refcountBits }: ImagePlan, can: Capabilities): boolean {
  return can.copyOnWrite && dataFile === 'none' && !extendedL2 && refcountBits >= COMPRESSED_REFCOUNT_BITS;
}

/** Whole clusters: all that can be written compressed. */
function drawClusters(random: Random, { size, clusterSize }: ImagePlan): { offset: number; length: number } {
  const offset = random.below(Math.floor(size / clusterSize)) * clusterSize;
  return { offset, length: clusterSize };
}

function drawRange(random: Random, { size, clusterSize, extendedL2 }: ImagePlan): { offset: number; length: number } {
  const unit = random.pick([1, SECTOR, SECTOR, clusterSize, clusterSize, extendedL2 ? clusterSize / 32 : 4096]);
  const places = Math.max(1, Math.floor(size / unit));
  const offset = random.below(places) * unit;
  const longest = random.chance(0.1) ? size : Math.min(size, 12 * clusterSize, MIB);
  const length = random.between(1, Math.max(1, Math.floor(longest / unit))) * unit;
  return { offset, length: Math.min(length, size - offset) };
}
