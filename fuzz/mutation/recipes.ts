/** How the images are made that mutations start from. */

import type { CreateImageOptions } from '../../host/create-image.js';
import type { SpotKind } from './layout.js';

/** An image that this engine makes. */
export interface OwnImage extends Omit<CreateImageOptions, 'core' | 'backingFile' | 'dataFile' | 'data'> {
  readonly virtualSize: number;
  /** Something lies behind it. */
  readonly backing?: boolean;
  /** Guest data lies in a file of its own. */
  readonly data?: boolean;
  readonly snapshots?: boolean;
  readonly bitmaps?: boolean;
  /** Some clusters are compressed. */
  readonly compress?: boolean;
}

/** An image that QEMU makes. */
export interface QemuImage {
  readonly name: string;
  readonly size: string;
  /** `DATA` stands for the path of the data file. */
  readonly options: string;
  /** Commands of qemu-io, or those of qemu-img with `IMAGE` in the place of the path. */
  readonly steps?: readonly string[];
  /** What lies behind it. */
  readonly backing?: 'raw' | 'qcow2';
  /** Compress the whole of it in the end. */
  readonly compress?: boolean;
  /** Fields that are changed then: the kind and name of their spots. */
  readonly edits?: readonly (readonly [SpotKind, string, bigint])[];
}

const MIB = 1 << 20;

export const OWN: readonly OwnImage[] = [
  { virtualSize: 100_000, clusterSize: 512 },
  { virtualSize: 100_000, clusterSize: 512, compat: '0.10', snapshots: true },
  { virtualSize: 100_000, clusterSize: 512, refcountBits: 1 },
  { virtualSize: 60_000, clusterSize: 1024, refcountBits: 2 },
  { virtualSize: 60_000, clusterSize: 512, refcountBits: 4, snapshots: true },
  { virtualSize: 60_000, clusterSize: 1024, refcountBits: 8, compress: true, snapshots: true },
  { virtualSize: 60_000, clusterSize: 512, refcountBits: 32, bitmaps: true },
  { virtualSize: 200_000, clusterSize: 512, refcountBits: 64, bitmaps: true, snapshots: true },
  { virtualSize: 3_000_000, clusterSize: 4096, lazyRefcounts: true },
  { virtualSize: 40_000_000, clusterSize: 4096, compat: '0.10' },
  { virtualSize: 100_000, clusterSize: 2048, compressionType: 'zstd', compress: true },
  { virtualSize: 100_000, clusterSize: 1024, backing: true },
  { virtualSize: 100_000, clusterSize: 1024, backing: true, compat: '0.10', compress: true },
  { virtualSize: 1_000_000, clusterSize: 16384, extendedL2: true, backing: true, snapshots: true, bitmaps: true },
  { virtualSize: 100_000, clusterSize: 1024, data: true, bitmaps: true },
  { virtualSize: 100_000, clusterSize: 2048, data: true, dataFileRaw: true },
  { virtualSize: 600_000, clusterSize: 16384, extendedL2: true, data: true },
  { virtualSize: 2_000_000, clusterSize: 65536 },
  { virtualSize: 64 * MIB, clusterSize: 2 * MIB },
];

const WRITES = ['write -P 1 0 9k', 'write -z 12k 4k', 'write -P 2 20k 1k', 'write -P 3 90k 3k'] as const;
const FIRST_SNAPSHOT = ['qemu-img snapshot -c first IMAGE', 'write -P 4 4k 6k'] as const;
const SNAPSHOTS = [
  ...FIRST_SNAPSHOT,
  'qemu-img resize IMAGE 200k',
  'qemu-img snapshot -c second IMAGE',
  'write -P 5 150k 2k',
] as const;
const BITMAPS = [
  'qemu-img bitmap --add -g 512 IMAGE fine',
  'qemu-img bitmap --add -g 64k IMAGE coarse',
  'write -P 6 30k 5k',
  'qemu-img bitmap --disable IMAGE coarse',
] as const;
/** Not closed in order: refcounts may be anything. */
const DIRTY = ['header', 'incompatible_features', 1n] as const;
const CORRUPT = ['header', 'incompatible_features', 2n] as const;

export const BY_QEMU: readonly QemuImage[] = [
  { name: 'snapshots', size: '100k', options: 'cluster_size=512', steps: [...WRITES, ...SNAPSHOTS] },
  {
    name: 'snapshots, version 2',
    size: '100k',
    options: 'cluster_size=1k,compat=0.10',
    steps: [...WRITES, ...FIRST_SNAPSHOT],
  },
  {
    name: 'a snapshot with the state of a machine, behind the end of its disk',
    size: '100k',
    options: 'cluster_size=512',
    steps: [...WRITES, 'qemu-img snapshot -c first IMAGE'],
    edits: [
      ['snapshot', 'virtual_disk_size', 65536n],
      ['snapshot', 'vm_state_size', 30_000n],
      ['snapshot', 'vm_state_size_large', 30_000n],
    ],
  },
  { name: 'bitmaps', size: '100k', options: 'cluster_size=512', steps: [...WRITES, ...BITMAPS] },
  {
    name: 'bitmaps and snapshots',
    size: '100k',
    options: 'cluster_size=1k',
    steps: [...WRITES, ...SNAPSHOTS, ...BITMAPS],
  },
  { name: 'zlib', size: '100k', options: 'cluster_size=4k', steps: WRITES, compress: true },
  { name: 'zlib, small clusters', size: '100k', options: 'cluster_size=512', steps: WRITES, compress: true },
  { name: 'zstd', size: '100k', options: 'cluster_size=4k,compression_type=zstd', steps: WRITES, compress: true },
  { name: 'extended L2', size: '1M', options: 'cluster_size=16k,extended_l2=on', steps: WRITES },
  {
    name: 'extended L2, compressed',
    size: '600k',
    options: 'cluster_size=16k,extended_l2=on',
    steps: WRITES,
    compress: true,
  },
  {
    name: 'extended L2 with snapshots',
    size: '1M',
    options: 'cluster_size=16k,extended_l2=on',
    steps: [...WRITES, ...FIRST_SNAPSHOT],
  },
  {
    name: 'preallocated',
    size: '100k',
    options: 'cluster_size=512,preallocation=metadata',
    steps: ['write -P 1 0 9k'],
  },
  { name: 'zeros kept', size: '100k', options: 'cluster_size=1k', steps: ['write -P 1 0 40k', 'write -z 10k 20k'] },
  {
    name: 'over raw',
    size: '100k',
    options: 'cluster_size=512',
    backing: 'raw',
    steps: [...WRITES, ...FIRST_SNAPSHOT],
  },
  { name: 'over qcow2', size: '100k', options: 'cluster_size=2k,compat=0.10', backing: 'qcow2', steps: WRITES },
  { name: 'data file', size: '100k', options: 'cluster_size=1k,data_file=DATA', steps: [...WRITES, ...BITMAPS] },
  { name: 'raw data file', size: '100k', options: 'cluster_size=4k,data_file=DATA,data_file_raw=on', steps: WRITES },
  { name: 'dirty', size: '100k', options: 'cluster_size=512,lazy_refcounts=on', steps: WRITES, edits: [DIRTY] },
  {
    name: 'dirty, with snapshots',
    size: '100k',
    options: 'cluster_size=1k,lazy_refcounts=on',
    steps: [...WRITES, ...SNAPSHOTS],
    edits: [DIRTY],
  },
  { name: 'corrupt', size: '100k', options: 'cluster_size=1k', steps: WRITES, edits: [CORRUPT] },
  { name: 'large clusters', size: '30M', options: 'cluster_size=2M', steps: [...WRITES, ...FIRST_SNAPSHOT] },
];
