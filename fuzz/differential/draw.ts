/** Draws a plan from a seed, before anything runs. */

import type { Random } from '../simulator/random.js';
import { type AmendChange, type BackingPlan, type ImagePlan, NOISE, type Plan, type Step, type Turn } from './plan.js';

const SECTOR = 512;
const MIB = 1 << 20;
const CLUSTER_SIZES = [512, 512, 1024, 2048, 4096, 4096, 8192, 16384, 32768, 65536, 65536, 65536, 262144, 2 * MIB];
/** Compressed clusters share host clusters, and so do snapshots: narrower refcounts overflow, which both engines refuse. */
const COMPRESSED_REFCOUNT_BITS = 16;
const SNAPSHOT_REFCOUNT_BITS = 4;
const SNAPSHOT_NAMES = ['one', 'two', 'three'];
const BITMAP_NAMES = ['first', 'second', 'third'];

export function drawPlan(seed: number, random: Random): Plan {
  const image = drawImage(random);
  const turns = Array.from({ length: random.between(2, 6) }, (_, index) => drawTurn(random, image, index));
  return { seed, image, turns };
}

function drawImage(random: Random): ImagePlan {
  const extendedL2 = random.chance(0.25);
  const clusterSize = extendedL2 ? 2 ** random.between(14, 18) : random.pick(CLUSTER_SIZES);
  const compat = extendedL2 || random.chance(0.75) ? '1.1' : '0.10';
  const dataFile = compat === '1.1' && random.chance(0.2) ? random.pick(['plain', 'raw'] as const) : 'none';
  const refcountBits = compat === '0.10' || random.chance(0.6) ? 16 : 2 ** random.below(7);
  const compressed = dataFile === 'none' && refcountBits >= COMPRESSED_REFCOUNT_BITS && random.chance(0.25);
  const size = drawSize(random, clusterSize);
  const compressionType = compat === '1.1' && dataFile === 'none' && random.chance(0.5) ? 'zstd' : 'zlib';
  const mayBeBacked = dataFile !== 'raw' && !compressed;
  const backing = mayBeBacked && random.chance(0.4) ? drawBacking(random, size) : undefined;
  const mayBePreallocated = !compressed && (backing === undefined || extendedL2);
  return {
    createdBy: random.pick(['corral', 'qemu']),
    size,
    clusterSize,
    compat,
    refcountBits,
    lazyRefcounts: compat === '1.1' && random.chance(0.15),
    extendedL2,
    compressionType,
    compressed,
    backing,
    dataFile,
    preallocation:
      mayBePreallocated && random.chance(0.2) ? random.pick(['metadata', 'metadata', 'falloc', 'full']) : 'off',
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

function drawTurn(random: Random, image: ImagePlan, index: number): Turn {
  const steps = Array.from({ length: random.between(1, 30) }, () => drawStep(random, image));
  return { by: index % 2 === 0 ? 'corral' : 'qemu', atOnce: random.chance(0.5), steps };
}

function drawStep(random: Random, image: ImagePlan): Step {
  const weight = random.below(100);
  if (weight < 38) return { kind: 'write', ...drawRange(random, image), value: drawValue(random) };
  if (weight < 48) return { kind: 'zero', ...drawRange(random, image) };
  if (weight < 57) return { kind: 'unmap', ...drawRange(random, image) };
  if (weight < 70) return { kind: 'discard', ...drawRange(random, image) };
  if (weight < 73) return { kind: 'flush' };
  if (weight < 76) return { kind: 'reopen' };
  if (weight < 82 && mayBeCompressed(image)) {
    return { kind: 'compressed', ...drawClusters(random, image), value: drawValue(random) };
  }
  if (weight < 88 && image.refcountBits >= SNAPSHOT_REFCOUNT_BITS && image.dataFile === 'none') {
    return {
      kind: random.pick(['snapshot', 'snapshot', 'apply', 'delete'] as const),
      name: random.pick(SNAPSHOT_NAMES),
    };
  }
  if (weight < 93) return drawBitmapStep(random, image);
  if (weight < 96) return { kind: 'resize', size: drawSize(random, image.clusterSize) };
  if (weight < 98) return { kind: 'amend', change: drawAmend(random, image) };
  return { kind: 'write', ...drawRange(random, image), value: drawValue(random) };
}

function drawValue(random: Random): number {
  return random.chance(0.2) ? NOISE : random.between(1, 255);
}

function drawBitmapStep(random: Random, { clusterSize }: ImagePlan): Step {
  const name = random.pick(BITMAP_NAMES);
  const verb = random.pick(['add', 'add', 'remove', 'enable', 'disable', 'clear', 'merge'] as const);
  if (verb === 'merge') return { kind: 'bitmap', verb, name, source: random.pick(BITMAP_NAMES) };
  // A small one has several clusters of bits when clusters are small.
  const granularity = random.chance(0.3) ? SECTOR : Math.max(SECTOR, clusterSize * 2 ** random.between(-3, 4));
  return verb === 'add' ? { kind: 'bitmap', verb, name, granularity } : { kind: 'bitmap', verb, name };
}

/** Refcounts that QEMU looks at, at most, where it changes their width: a dozen seconds. */
const MOST_AMENDED_REFCOUNTS = 2 ** 32;

/** What the sequence goes on to do must still be possible: refcounts stay wide enough. */
function drawAmend(random: Random, image: ImagePlan): AmendChange {
  const compressed = mayBeCompressed(image);
  switch (random.below(4)) {
    case 0:
      return { compat: '0.10' };
    case 1:
      return { compat: '1.1' };
    case 2: {
      // QEMU looks at as many refcounts as the blocks would have that a table of one cluster has room for, in each width
      // that the image comes to have: minutes for large clusters.
      const least = compressed ? 4 : image.dataFile === 'none' ? 2 : 0;
      const narrowest = Math.min(2 ** least, image.refcountBits);
      const blocks = image.clusterSize / 8;
      const refcounts = blocks * ((image.clusterSize * 8) / narrowest);
      if (refcounts > MOST_AMENDED_REFCOUNTS) return { lazyRefcounts: true };
      return { refcountBits: 2 ** random.between(least, 6) };
    }
    default:
      return { lazyRefcounts: random.chance(0.5) };
  }
}

/** Where maps need not agree only when there are such clusters anyway. */
function mayBeCompressed({ dataFile, refcountBits, extendedL2, compressed, clusterSize }: ImagePlan): boolean {
  const strict = !extendedL2 && clusterSize > SECTOR;
  return dataFile === 'none' && refcountBits >= COMPRESSED_REFCOUNT_BITS && (compressed || strict);
}

/** Whole clusters, of which the last may be cut short by the end of the disk: all that can be written compressed. */
function drawClusters(random: Random, { size, clusterSize }: ImagePlan): { offset: number; length: number } {
  const offset = random.below(Math.ceil(size / clusterSize)) * clusterSize;
  const length = random.chance(0.6) ? clusterSize : random.between(1, 6) * clusterSize;
  return { offset, length: Math.min(length, size - offset) };
}

function drawRange(random: Random, { size, clusterSize, extendedL2 }: ImagePlan): { offset: number; length: number } {
  const unit = random.pick([1, SECTOR, SECTOR, clusterSize, clusterSize, extendedL2 ? clusterSize / 32 : 4096]);
  const places = Math.max(1, Math.floor(size / unit));
  const offset = random.below(places) * unit;
  const longest = random.chance(0.1) ? size : Math.min(size, 12 * clusterSize, MIB);
  const length = random.between(1, Math.max(1, Math.floor(longest / unit))) * unit;
  return { offset, length: Math.min(length, size - offset) };
}
