/** Where the blocks of a file lie: by extents (ext4), or by direct and indirect block numbers. */

import { viewOf } from '../reader.js';
import { type BoundedReader, damaged } from '../source.js';
import type { Inode } from './inode.js';
import type { Superblock } from './superblock.js';

/** Blocks of a file that lie behind each other, or that read as zeros. */
export interface Run {
  /** Number of the first block on the disk; undefined: zeros. */
  readonly block: number | undefined;
  readonly count: number;
}

const EXTENT_MAGIC = 0xf30a;
const DEEPEST = 5;
/** A longer extent is as much longer shorter, and was never written. */
const LONGEST_EXTENT = 32768;
const DIRECT_BLOCKS = 12;
/** Blocks of a file have numbers of 32 bits. */
const BLOCK_LIMIT = 2 ** 32;

/** The blocks of the file from `index` on, as far as they continue each other: at least one. */
export async function findRun(
  reader: BoundedReader,
  superblock: Superblock,
  inode: Inode,
  index: number,
): Promise<Run> {
  if (index >= BLOCK_LIMIT) return { block: undefined, count: 2 ** 20 };
  return inode.hasExtents
    ? findExtent(reader, superblock, inode, index)
    : findNumber(reader, superblock, inode.map, index);
}

async function findExtent(reader: BoundedReader, superblock: Superblock, inode: Inode, index: number): Promise<Run> {
  let node = viewOf(inode.map);
  let end = BLOCK_LIMIT;
  let expected: number | undefined;
  while (true) {
    const entries = node.getUint16(2, true);
    const depth = node.getUint16(6, true);
    const isNode = node.getUint16(0, true) === EXTENT_MAGIC && 12 + entries * 12 <= node.byteLength;
    if (!isNode || depth > DEEPEST || (expected !== undefined && depth !== expected)) {
      throw damaged(`a node of the extents of inode ${inode.number}`);
    }
    let chosen: number | undefined;
    for (let entry = 0; entry < entries; entry++) {
      const start = node.getUint32(12 + entry * 12, true);
      if (start > index) {
        end = Math.min(end, start);
        break;
      }
      chosen = 12 + entry * 12;
    }
    if (chosen === undefined) return { block: undefined, count: end - index };
    if (depth === 0) return extentAt(superblock, node, chosen, { index, end });
    const block = node.getUint32(chosen + 4, true) + node.getUint16(chosen + 8, true) * 2 ** 32;
    node = await reader.view(superblock.blockOffset(block), superblock.blockSize);
    expected = depth - 1;
  }
}

/** The part of an extent that begins at a block of the file; what lies between it and the next one is zeros. */
function extentAt(
  superblock: Superblock,
  node: DataView,
  at: number,
  { index, end }: { index: number; end: number },
): Run {
  const first = node.getUint32(at, true);
  const stored = node.getUint16(at + 4, true);
  const length = stored > LONGEST_EXTENT ? stored - LONGEST_EXTENT : stored;
  const skipped = index - first;
  if (skipped >= length) return { block: undefined, count: end - index };
  // Neighbours may overlap in a damaged tree: each only counts up to the next one.
  const count = Math.min(length - skipped, end - index);
  if (stored > LONGEST_EXTENT) return { block: undefined, count };
  const block = node.getUint32(at + 8, true) + node.getUint16(at + 6, true) * 2 ** 32 + skipped;
  superblock.blockOffset(block, count);
  return { block, count };
}

/** Twelve numbers in the inode, then tables of numbers, tables of tables, and tables of those. */
async function findNumber(reader: BoundedReader, superblock: Superblock, map: Uint8Array, index: number): Promise<Run> {
  const perBlock = superblock.blockSize / 4;
  if (index < DIRECT_BLOCKS) return runOf(superblock, viewOf(map), index, DIRECT_BLOCKS);
  let left = index - DIRECT_BLOCKS;
  for (let level = 1, span = perBlock; level <= 3; level++, span *= perBlock) {
    if (left >= span) {
      left -= span;
      continue;
    }
    let block = viewOf(map).getUint32((DIRECT_BLOCKS + level - 1) * 4, true);
    for (let below = span; ; ) {
      if (block === 0) return { block: undefined, count: below - left };
      const table = await reader.view(superblock.blockOffset(block), superblock.blockSize);
      below /= perBlock;
      if (below === 1) return runOf(superblock, table, left, perBlock);
      block = table.getUint32(Math.floor(left / below) * 4, true);
      left %= below;
    }
  }
  throw damaged('a file is longer than its block numbers reach');
}

/** Numbers of one table that continue each other. */
function runOf(superblock: Superblock, table: DataView, index: number, end: number): Run {
  const first = table.getUint32(index * 4, true);
  let count = 1;
  for (; index + count < end; count++) {
    const next = table.getUint32((index + count) * 4, true);
    if (next !== (first === 0 ? 0 : first + count)) break;
  }
  if (first === 0) return { block: undefined, count };
  superblock.blockOffset(first, count);
  return { block: first, count };
}
