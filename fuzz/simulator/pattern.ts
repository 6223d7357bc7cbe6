/**
 * What the simulated guest writes. Every 8 bytes name the write they come from and their place on the disk, so a byte
 * that is lost, stale or in the wrong place is seen as such. Write number 0 is what nobody wrote: zeros.
 *
 * Bytes are counted in cells: the smallest thing that the guest writes. A cell never crosses a sector, so nothing but
 * the guest's own requests can mix two writes within one.
 */

export const SECTOR = 512;

/** Write number of what lies behind the image, in its backing file. */
export const BACKING = 0x40000000;

/** The cell holds bytes of more than one write, or of none. */
export const MIXED = -1;

/** Memory whose byte `index` holds a guest byte whose offset is the same modulo 8. */
export interface PatternMemory {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}

/** @param length bytes; rounded up to a multiple of 8 */
export function makePatternMemory(length: number): PatternMemory {
  const buffer = new ArrayBuffer((length + 15) & ~7);
  return { bytes: new Uint8Array(buffer), words: new Int32Array(buffer) };
}

/** How the seed divides sectors into cells. */
export class Cells {
  /** @param starts where the cells of a sector begin, in bytes; the first is 0, and no two are closer than 16 */
  constructor(private readonly starts: readonly number[]) {}

  get perSector(): number {
    return this.starts.length;
  }

  /** Offset of the first byte of a cell. */
  offsetOf(cell: number): number {
    if (this.starts.length === 1) return cell * SECTOR;
    const sector = Math.floor(cell / this.starts.length);
    return sector * SECTOR + (this.starts[cell - sector * this.starts.length] as number);
  }
}

/** Fills the bytes that stand for guest bytes `offset` to `offset + length` with those of write `id`. */
export function fillPattern(memory: PatternMemory, at: number, offset: number, length: number, id: number): void {
  const { bytes, words } = memory;
  const end = at + length;
  let index = at;
  while (index < end && (index & 7) !== 0) index = putByte(bytes, index, offset + index - at, id);
  let word = wordNumber(offset + index - at);
  while (index + 8 <= end) {
    words[index >> 2] = id;
    words[(index >> 2) + 1] = placeOf(word, id);
    word = (word + 1) | 0;
    index += 8;
  }
  while (index < end) index = putByte(bytes, index, offset + index - at, id);
}

/** Number of the one write whose bytes these are; 0 for zeros, MIXED for anything else. */
export function identify(memory: PatternMemory, at: number, offset: number, length: number): number {
  const { bytes, words } = memory;
  const end = at + length;
  let index = (at + 7) & ~7;
  const id = words[index >> 2] as number;
  let word = wordNumber(offset + index - at);
  for (let byte = at; byte < index; byte++) if (bytes[byte] !== patternByte(offset + byte - at, id)) return MIXED;
  while (index + 8 <= end) {
    if (words[index >> 2] !== id || words[(index >> 2) + 1] !== placeOf(word, id)) return MIXED;
    word = (word + 1) | 0;
    index += 8;
  }
  for (; index < end; index++) if (bytes[index] !== patternByte(offset + index - at, id)) return MIXED;
  return id < 0 ? MIXED : id;
}

/** The upper half of a word: where it belongs. */
function placeOf(word: number, id: number): number {
  return id === 0 ? 0 : Math.imul(word + 1, 0x9e3779b1 | 0) | 1;
}

function wordNumber(offset: number): number {
  return Math.floor(offset / 8) | 0;
}

function patternByte(offset: number, id: number): number {
  const lane = offset & 7;
  const half = lane < 4 ? id : placeOf(wordNumber(offset), id);
  return (half >>> ((lane & 3) * 8)) & 0xff;
}

function putByte(bytes: Uint8Array, index: number, offset: number, id: number): number {
  bytes[index] = patternByte(offset, id);
  return index + 1;
}
