/** Reads the bitmaps of an image on its own, from the specification: the extension, the directory, tables and bits. */

import type { CutResult } from './power-cut.js';
import { SimulationFailure } from './trace.js';

const EXTENSION = 0x23852875;
const AUTOCLEAR_OFFSET = 95;
const IN_USE = 1;
const AUTO = 2;

/** A stretch of the file that a bitmap refers to. */
export interface BitmapPart {
  readonly offset: number;
  readonly length: number;
  readonly kind: string;
}

export interface DiskBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly enabled: boolean;
  readonly inUse: boolean;
  /** Numbers of the bits that are set; of a bitmap in use they count for nothing. */
  readonly bits: ReadonlySet<number>;
}

export interface DiskBitmaps {
  readonly bitmaps: readonly DiskBitmap[];
  /** Everything that they refer to. */
  readonly parts: readonly BitmapPart[];
}

/** The bitmaps of an image; none when a writer may have ignored them, nor in version 2. */
export function readBitmaps(file: CutResult, clusterSize: number, virtualSize: number): DiskBitmaps {
  const header = read(file, 0, clusterSize);
  if (header.getUint32(4) < 3) return { bitmaps: [], parts: [] };
  const place = findExtension(header);
  if (place === undefined || (header.getUint8(AUTOCLEAR_OFFSET) & 1) === 0) return { bitmaps: [], parts: [] };
  const count = header.getUint32(place);
  const length = Number(header.getBigUint64(place + 8));
  const offset = Number(header.getBigUint64(place + 16));
  const parts: BitmapPart[] = [{ offset, length, kind: 'bitmap directory' }];
  const directory = read(file, offset, length);
  const bitmaps: DiskBitmap[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (at + 24 > length) throw new SimulationFailure('the bitmap directory is cut short');
    const nameLength = directory.getUint16(at + 18);
    const bytes = new Uint8Array(directory.buffer, at + 24, nameLength);
    const flags = directory.getUint32(at + 12);
    const tableOffset = Number(directory.getBigUint64(at));
    const tableSize = directory.getUint32(at + 8);
    const granularity = 2 ** directory.getUint8(at + 17);
    const wanted = Math.ceil(Math.ceil(virtualSize / granularity) / 8 / clusterSize);
    // That of a bitmap in use may be for the size that the disk had, or is getting.
    const sized = tableSize === wanted || (flags & IN_USE) !== 0;
    if (directory.getUint8(at + 16) !== 1 || directory.getUint32(at + 20) !== 0 || !sized) {
      throw new SimulationFailure(`entry ${index} of the bitmap directory is wrong`);
    }
    bitmaps.push({
      name: new TextDecoder().decode(bytes),
      granularity,
      enabled: (flags & AUTO) !== 0,
      inUse: (flags & IN_USE) !== 0,
      bits: readBits(file, clusterSize, { tableOffset, tableSize, count: Math.ceil(virtualSize / granularity) }, parts),
    });
    at += Math.ceil((24 + nameLength) / 8) * 8;
  }
  if (at !== length) throw new SimulationFailure(`the bitmap directory has ${length} bytes, its entries ${at}`);
  return { bitmaps, parts };
}

function findExtension(header: DataView): number | undefined {
  let at = header.getUint32(100);
  const nameOffset = Number(header.getBigUint64(8));
  const end = nameOffset === 0 ? header.byteLength : nameOffset;
  while (at + 8 <= end) {
    const type = header.getUint32(at);
    const length = header.getUint32(at + 4);
    if (type === 0) return undefined;
    if (type === EXTENSION) return at + 8;
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

function readBits(
  file: CutResult,
  clusterSize: number,
  { tableOffset, tableSize, count }: { tableOffset: number; tableSize: number; count: number },
  parts: BitmapPart[],
): Set<number> {
  const bits = new Set<number>();
  parts.push({ offset: tableOffset, length: tableSize * 8, kind: 'bitmap table' });
  const table = read(file, tableOffset, tableSize * 8);
  for (let index = 0; index < tableSize; index++) {
    const entry = table.getBigUint64(index * 8);
    const first = index * clusterSize * 8;
    if (entry === 0n) continue;
    if (entry === 1n) {
      for (let bit = first; bit < Math.min(count, first + clusterSize * 8); bit++) bits.add(bit);
      continue;
    }
    const offset = Number(entry);
    if (offset % clusterSize !== 0) throw new SimulationFailure(`bitmap table entry 0x${entry.toString(16)} is wrong`);
    parts.push({ offset, length: clusterSize, kind: 'bits' });
    const bytes = read(file, offset, clusterSize);
    for (let byte = 0; byte < clusterSize; byte++) {
      const value = bytes.getUint8(byte);
      for (let bit = 0; value >> bit !== 0; bit++) if (((value >> bit) & 1) === 1) bits.add(first + byte * 8 + bit);
    }
  }
  return bits;
}

function read(file: CutResult, offset: number, length: number): DataView {
  const bytes = new Uint8Array(length);
  file.bytes.read(offset, bytes);
  return new DataView(bytes.buffer);
}
