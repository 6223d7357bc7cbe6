/** The valid images that mutations start from: of every kind, small, some by this engine and some by QEMU. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CreateImageOptions } from '../../host/create-image.js';
import { Image } from '../../host/image.js';
import { MemoryFile } from '../../host/memory-file.js';
import { listGate } from '../../host/open-gate.js';
import type { Random } from '../simulator/random.js';
import { mutantCodec } from './codec.js';
import { findLayout, type Layout, type Spot, type SpotKind } from './layout.js';
import { BY_QEMU, OWN, type OwnImage, type QemuImage } from './recipes.js';

export interface Original {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly layout: Layout;
  /** Its external data file, if it has one. */
  readonly data: Uint8Array | undefined;
  /** What it continues from, under the name `BACKING_NAME`; undefined when it names nothing. */
  readonly backing: Uint8Array | undefined;
}

/** What overlays call the file behind them. */
export const BACKING_NAME = 'below';
const DATA_NAME = 'data';
/** Bytes from which on an image costs more than it is worth: those are tried more seldom. */
const LARGE = 1 << 20;
const SELDOM = 0.04;

/** Makes those that this engine makes itself. */
export async function makeOwnOriginals(core: WebAssembly.Module): Promise<Original[]> {
  const originals: Original[] = [];
  for (const image of OWN) originals.push(await makeOwn(core, image));
  return originals;
}

/** Makes them all, with `qemu-img` and `qemu-io`. */
export async function makeOriginals(core: WebAssembly.Module): Promise<Original[]> {
  const originals = await makeOwnOriginals(core);
  const folder = mkdtempSync(join(tmpdir(), 'corral-mutate-'));
  try {
    for (const image of BY_QEMU) originals.push(makeByQemu(folder, image));
  } finally {
    rmSync(folder, { recursive: true });
  }
  return originals;
}

/** One of them; large ones are drawn seldom. */
export function drawOriginal(random: Random, originals: readonly Original[]): Original {
  const drawn = random.pick(originals);
  if (drawn.bytes.length < LARGE || random.chance(SELDOM)) return drawn;
  return random.pick(originals.filter(({ bytes }) => bytes.length < LARGE));
}

async function makeOwn(core: WebAssembly.Module, own: OwnImage): Promise<Original> {
  const { backing = false, data = false, snapshots = false, bitmaps = false, compress = false, ...create } = own;
  const file = new MemoryFile();
  const dataFile = data ? new MemoryFile(new Uint8Array(create.virtualSize)) : undefined;
  const below = backing
    ? new Uint8Array(Math.ceil(create.virtualSize * 0.7)).map((_, index) => index % 241)
    : undefined;
  const names: Partial<CreateImageOptions> = {
    ...(backing ? { backingFile: BACKING_NAME, backingFormat: 'raw' } : {}),
    ...(data ? { dataFile: DATA_NAME } : {}),
  };
  await Image.create(file, { core, ...create, ...names });
  const gate = listGate({ [BACKING_NAME]: async () => new MemoryFile(below) });
  const image = await Image.open(file, { core, write: true, requestCapacity: 4, dataFile, gate, codec: mutantCodec });
  const { clusterSize } = image.info;
  if (bitmaps) await image.bitmaps.add('changes', { granularity: 512 });
  await writeSome(image);
  if (snapshots) await image.snapshots.create({ name: 'one' });
  if (snapshots) await image.write(clusterSize, new Uint8Array(3 * clusterSize).fill(5));
  if (bitmaps) await image.bitmaps.add('others', { granularity: clusterSize, disabled: true });
  if (compress) {
    const source = new Uint8Array(4 * clusterSize).map((_, index) => Math.floor(index / 300) % 7);
    await image.writeCompressed(10 * clusterSize, source);
    await image.writeCompressed(15 * clusterSize, new Uint8Array(clusterSize).fill(8));
  }
  await image.close();
  const bytes = file.contents();
  return {
    name: JSON.stringify(own),
    bytes,
    layout: findLayout(bytes),
    data: dataFile?.contents(),
    backing: below,
  };
}

async function writeSome(image: Image): Promise<void> {
  const { size } = image;
  const { clusterSize } = image.info;
  const pattern = new Uint8Array(9 * clusterSize).map((_, index) => index % 251);
  await image.write(0, pattern);
  await image.write(size - 700, pattern.subarray(0, 700));
  await image.write(Math.floor(size / 2), pattern.subarray(0, 2 * clusterSize));
  await image.writeZeroes(2 * clusterSize, 2 * clusterSize);
  await image.writeZeroes(5 * clusterSize, clusterSize, { unmap: true });
  await image.discard(7 * clusterSize, clusterSize);
}

function makeByQemu(folder: string, image: QemuImage): Original {
  const { name, size, options, steps = [], backing, compress = false, edits = [] } = image;
  const path = join(folder, 'image.qcow2');
  const below = join(folder, BACKING_NAME);
  const data = join(folder, DATA_NAME);
  for (const old of [path, below, data]) rmSync(old, { force: true });
  if (backing === 'raw') writeFileSync(below, new Uint8Array(60_300).fill(7));
  if (backing === 'qcow2') {
    run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', below, '70k']);
    run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 3k 50k', '-c', 'write -z 20k 8k', below]);
  }
  const behind = backing === undefined ? [] : ['-F', backing, '-b', BACKING_NAME];
  run('qemu-img', ['create', '-q', '-f', 'qcow2', ...behind, '-o', options.replace('DATA', data), path, size]);
  for (const step of steps) {
    const [program = '', ...words] = step.split(' ');
    if (program === 'qemu-img')
      run(
        program,
        words.map((word) => (word === 'IMAGE' ? path : word)),
      );
    else run('qemu-io', ['-f', 'qcow2', '-d', 'unmap', '-c', step, path]);
  }
  let made = path;
  if (compress) {
    made = join(folder, 'compressed.qcow2');
    run('qemu-img', ['convert', '-c', '-f', 'qcow2', '-O', 'qcow2', '-o', options, path, made]);
    run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 24k 1k', made]);
  }
  const bytes = new Uint8Array(readFileSync(made));
  for (const edit of edits) applyEdit(bytes, edit);
  return {
    name: `QEMU: ${name}`,
    bytes,
    layout: findLayout(bytes),
    data: existsSync(data) ? new Uint8Array(readFileSync(data)) : undefined,
    backing: backing === undefined ? undefined : new Uint8Array(readFileSync(below)),
  };
}

/** What no tool does, but a machine that runs. */
function applyEdit(bytes: Uint8Array, [kind, name, value]: readonly [SpotKind, string, bigint]): void {
  const found = findLayout(bytes)
    .spots.get(kind)
    ?.find((spot) => spot.name === name);
  const { offset, size } = found as Spot;
  for (let index = size - 1, left = value; index >= 0; index--, left >>= 8n)
    bytes[offset + index] = Number(left & 0xffn);
}

function run(program: string, args: readonly string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
