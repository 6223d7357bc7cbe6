/** The valid images that mutations start from: of every kind, small, some by this engine and some by QEMU. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CreateImageOptions } from '../../host/create-image.js';
import { Image } from '../../host/image.js';
import { MemoryFile } from '../../host/memory-file.js';
import { findLayout, type Layout } from './layout.js';

export interface Original {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly layout: Layout;
}

type OwnImage = Omit<CreateImageOptions, 'core'>;

const OWN: readonly OwnImage[] = [
  { virtualSize: 100_000, clusterSize: 512 },
  { virtualSize: 100_000, clusterSize: 512, compat: '0.10' },
  { virtualSize: 100_000, clusterSize: 512, refcountBits: 1 },
  { virtualSize: 60_000, clusterSize: 1024, refcountBits: 2 },
  { virtualSize: 60_000, clusterSize: 512, refcountBits: 4 },
  { virtualSize: 60_000, clusterSize: 1024, refcountBits: 8 },
  { virtualSize: 60_000, clusterSize: 512, refcountBits: 32 },
  { virtualSize: 200_000, clusterSize: 512, refcountBits: 64 },
  { virtualSize: 3_000_000, clusterSize: 4096, lazyRefcounts: true },
  { virtualSize: 40_000_000, clusterSize: 4096, compat: '0.10' },
];

interface QemuImage {
  readonly name: string;
  readonly size: string;
  readonly options: string;
  /** Commands of qemu-io, or those of qemu-img with `IMAGE` in the place of the path. */
  readonly steps?: readonly string[];
  /** Compress the whole of it in the end. */
  readonly compress?: boolean;
}

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

const BY_QEMU: readonly QemuImage[] = [
  { name: 'snapshots', size: '100k', options: 'cluster_size=512', steps: [...WRITES, ...SNAPSHOTS] },
  {
    name: 'snapshots, version 2',
    size: '100k',
    options: 'cluster_size=1k,compat=0.10',
    steps: [...WRITES, ...FIRST_SNAPSHOT],
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
  { name: 'compressed, then written', size: '100k', options: 'cluster_size=4k', steps: WRITES, compress: true },
  { name: 'extended L2', size: '1M', options: 'cluster_size=16k,extended_l2=on', steps: WRITES },
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
];

/** Makes those that this engine makes itself. */
export async function makeOwnOriginals(core: WebAssembly.Module): Promise<Original[]> {
  const originals: Original[] = [];
  for (const options of OWN) {
    const bytes = await makeOwn(core, options);
    originals.push({ name: JSON.stringify(options), bytes, layout: findLayout(bytes) });
  }
  return originals;
}

/** Makes them all, with `qemu-img` and `qemu-io`. */
export async function makeOriginals(core: WebAssembly.Module): Promise<Original[]> {
  const originals = await makeOwnOriginals(core);
  const folder = mkdtempSync(join(tmpdir(), 'corral-mutate-'));
  try {
    for (const image of BY_QEMU) {
      const bytes = makeByQemu(folder, image);
      originals.push({ name: `QEMU: ${image.name}`, bytes, layout: findLayout(bytes) });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return originals;
}

async function makeOwn(core: WebAssembly.Module, options: OwnImage): Promise<Uint8Array> {
  const file = new MemoryFile();
  await Image.create(file, { core, ...options });
  const image = await Image.open(file, { core, write: true, requestCapacity: 4 });
  const { size } = image;
  const { clusterSize } = image.info;
  const pattern = new Uint8Array(9 * clusterSize).map((_, index) => index % 251);
  await image.write(0, pattern);
  await image.write(size - 700, pattern.subarray(0, 700));
  await image.write(Math.floor(size / 2), pattern.subarray(0, 2 * clusterSize));
  await image.writeZeroes(2 * clusterSize, 2 * clusterSize);
  await image.writeZeroes(5 * clusterSize, clusterSize, { unmap: true });
  await image.discard(7 * clusterSize, clusterSize);
  await image.close();
  return file.contents();
}

function makeByQemu(folder: string, { size, options, steps = [], compress = false }: QemuImage): Uint8Array {
  const path = join(folder, 'image.qcow2');
  rmSync(path, { force: true });
  run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, path, size]);
  for (const step of steps) {
    const [program = '', ...words] = step.split(' ');
    if (program === 'qemu-img')
      run(
        program,
        words.map((word) => (word === 'IMAGE' ? path : word)),
      );
    else run('qemu-io', ['-f', 'qcow2', '-d', 'unmap', '-c', step, path]);
  }
  if (!compress) return new Uint8Array(readFileSync(path));
  const compressed = join(folder, 'compressed.qcow2');
  run('qemu-img', ['convert', '-c', '-f', 'qcow2', '-O', 'qcow2', '-o', options, path, compressed]);
  run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 24k 1k', compressed]);
  return new Uint8Array(readFileSync(compressed));
}

function run(program: string, args: readonly string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
