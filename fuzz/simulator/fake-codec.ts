/**
 * The codec of simulated images. A cluster that guests wrote is known by the numbers of its writes: compressed, it is the
 * list of them. Whoever reads it from the wrong place, or cuts it off, notices.
 *
 *   magic | number of the first sector on the disk | count | write number of each cell | sum of all of it
 */

import { type Cells, fillPattern, identify, MIXED, makePatternMemory, type PatternMemory, SECTOR } from './pattern.js';

const MAGIC = 0xc0dec;
const HEADER_WORDS = 3;

/** @param ids write numbers of the cells from guest byte `guestOffset` on */
export function compressCells(guestOffset: number, ids: readonly number[]): Uint8Array {
  const words = [MAGIC, guestOffset / SECTOR, ids.length, ...ids];
  const view = new DataView(new ArrayBuffer((words.length + 1) * 4));
  [...words, sumOf(words)].forEach((word, index) => {
    view.setUint32(index * 4, word);
  });
  return new Uint8Array(view.buffer);
}

/** One write in so many cannot be made smaller. */
const INCOMPRESSIBLE = 5;

/**
 * The guest's bytes at `at`, which stand for `length` bytes from guest byte `offset` on and zeros up to a whole cluster of
 * `size` bytes; undefined when they cannot be made smaller.
 */
export function compressGuest(
  memory: PatternMemory,
  at: number,
  offset: number,
  length: number,
  size: number,
  cells: Cells,
): Uint8Array | undefined {
  const firstCell = (offset / SECTOR) * cells.perSector;
  const count = (size / SECTOR) * cells.perSector;
  const ids: number[] = [];
  for (let cell = firstCell; cell < firstCell + count; cell++) {
    const start = cells.offsetOf(cell);
    const inside = start < offset + length;
    const id = inside ? identify(memory, at + start - offset, start, cells.offsetOf(cell + 1) - start) : 0;
    if (id === MIXED || (id !== 0 && id % INCOMPRESSIBLE === 0)) return undefined;
    ids.push(id);
  }
  const bytes = compressCells(offset, ids);
  return Math.ceil(bytes.length / SECTOR) * SECTOR < size ? bytes : undefined;
}

/** The cluster of `size` bytes; undefined when `source` does not begin with what `compressCells` makes. */
export function decompressCells(source: Uint8Array, size: number, cells: Cells): Uint8Array | undefined {
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  if (source.length < (HEADER_WORDS + 1) * 4 || view.getUint32(0) !== MAGIC) return undefined;
  const count = view.getUint32(8);
  const end = HEADER_WORDS + count;
  if (count !== (size / SECTOR) * cells.perSector || source.length < (end + 1) * 4) return undefined;
  const words = Array.from({ length: end }, (_, index) => view.getUint32(index * 4));
  if (view.getUint32(end * 4) !== sumOf(words)) return undefined;

  const guestOffset = (words[1] as number) * SECTOR;
  const firstCell = (guestOffset / SECTOR) * cells.perSector;
  const memory = makePatternMemory(size);
  for (let index = 0; index < count; index++) {
    const id = words[HEADER_WORDS + index] as number;
    const start = cells.offsetOf(firstCell + index);
    const length = cells.offsetOf(firstCell + index + 1) - start;
    if (id !== 0) fillPattern(memory, start - guestOffset, start, length, id);
  }
  return memory.bytes.subarray(0, size);
}

function sumOf(words: readonly number[]): number {
  return words.reduce((sum, word) => (Math.imul(sum, 31) + word) >>> 0, 7);
}
