/**
 * Holes of the host's files inside of what images call data: preallocated metadata maps every cluster of a disk, to a file
 * that has no space for them yet. As in QEMU, only images are looked into whose files are that sparse.
 */

import { fstatSync } from 'node:fs';
import { type BlockFile, stretchesOf } from '../block-file.js';
import type { ChainExtent } from '../chain-map.js';
import { NodeFile } from '../node/node-file.js';
import type { Disk } from './disk.js';

/** Bytes of a unit of `st_blocks`. */
const BLOCK = 512;
const MAGIC = 0x514649fb;
const HEADER_LENGTH = 104;
/** Refcounts of an image of version 2, and of one that says nothing better: 2 to this power bits each. */
const DEFAULT_ORDER = 4;

/** A stretch of a disk. */
export interface SparseExtent extends ChainExtent {
  /** Data of an image that lies in a hole of its file: zeros. */
  readonly hole: boolean;
}

/** The same stretches, in parts where those have holes. */
export async function* withHoles(disk: Disk, extents: AsyncIterable<ChainExtent>): AsyncGenerator<SparseExtent> {
  const sparse = new Map<number, { file: BlockFile; fileLength: number } | undefined>();
  for await (const extent of extents) {
    const { depth, layer, kind, hostOffset, offset, length } = extent;
    const file = layer === undefined ? disk.image?.guestFile : layer.file;
    const isLooked = kind === 'data' && hostOffset !== undefined && layer?.format !== 'raw' && file !== undefined;
    if (isLooked && !sparse.has(depth)) {
      const isSparse = await isMostlyHoles(layer === undefined ? disk.file : file);
      sparse.set(depth, isSparse ? { file, fileLength: await file.size() } : undefined);
    }
    const found = isLooked ? sparse.get(depth) : undefined;
    if (found === undefined || hostOffset === undefined) {
      yield { ...extent, hole: false };
      continue;
    }
    const range = { offset: hostOffset, length, fileLength: found.fileLength };
    for (const { offset: at, length: count, hole } of stretchesOf(found.file, range)) {
      yield { ...extent, offset: offset + at - hostOffset, length: count, hostOffset: at, hole };
    }
  }
}

/** The image has clearly more clusters in use than its file has space for. */
async function isMostlyHoles(file: BlockFile): Promise<boolean> {
  if (!(file instanceof NodeFile)) return false;
  const header = await viewOf(file, 0, HEADER_LENGTH);
  if (header.getUint32(0) !== MAGIC) return false;
  const clusterSize = 2 ** header.getUint32(20);
  const clusters = Math.floor((fstatSync(file.descriptor).blocks * BLOCK) / clusterSize);
  const enough = Math.max(Math.floor((clusters * 10) / 9), clusters + 2);
  const all = Math.ceil((await file.size()) / clusterSize);
  return all >= enough && (await hasInUse(file, header, { clusterSize, all, enough }));
}

/** Among the first `all` clusters, at least `enough` are in use. */
async function hasInUse(
  file: BlockFile,
  header: DataView,
  { clusterSize, all, enough }: { clusterSize: number; all: number; enough: number },
): Promise<boolean> {
  const tableOffset = Number(header.getBigUint64(48));
  const tableSize = header.getUint32(56) * (clusterSize / 8);
  const order = header.getUint32(4) >= 3 ? header.getUint32(96) : DEFAULT_ORDER;
  const perBlock = (clusterSize * 8) / 2 ** order;
  let [used, cluster] = [0, 0];
  for (let index = 0; index < tableSize && cluster < all && used < enough; index++) {
    const entry = (await viewOf(file, tableOffset + index * 8, 8)).getBigUint64(0);
    const count = Math.min(perBlock, all - cluster);
    if (entry !== 0n) used += countUsed(await viewOf(file, Number(entry), clusterSize), 2 ** order, count);
    cluster += count;
  }
  return used >= enough;
}

/** How many of the first `count` refcounts are not 0. */
function countUsed(block: DataView, bits: number, count: number): number {
  let used = 0;
  for (let index = 0; index < count; index++) used += refcount(block, bits, index) === 0 ? 0 : 1;
  return used;
}

/** 0 for 0, something else for anything else. */
function refcount(block: DataView, bits: number, index: number): number {
  if (bits === 64) return block.getUint32(index * 8) | block.getUint32(index * 8 + 4);
  if (bits === 32) return block.getUint32(index * 4);
  if (bits === 16) return block.getUint16(index * 2);
  const at = index * bits;
  return (block.getUint8(Math.floor(at / 8)) >> (at % 8)) & (2 ** bits - 1);
}

async function viewOf(file: BlockFile, offset: number, length: number): Promise<DataView> {
  const bytes = new Uint8Array(length);
  await file.read(offset, bytes);
  return new DataView(bytes.buffer);
}
