/** Damage to the snapshot table that a repair puts right: more extra data than readers take. */

import { ImageReader } from './image-reader.js';
import type { CutResult } from './power-cut.js';
import type { Random } from './random.js';

const HEADER_SIZE = 40;
const LENGTHS_OFFSET = 12;
const EXTRA_LENGTH_OFFSET = 36;
const LONGEST = 1024;

/** The last entry gets too much extra data, when it still ends in the same cluster then. */
export function lengthenLastSnapshot(random: Random, file: CutResult): void {
  const { header } = new ImageReader(file);
  if (header.snapshotCount === 0) return;
  let start = header.snapshotsOffset;
  let end = start;
  let extra = 0;
  let names = 0;
  for (let index = 0; index < header.snapshotCount; index++) {
    start = Math.ceil(end / 8) * 8;
    const bytes = new Uint8Array(HEADER_SIZE);
    file.bytes.read(start, bytes);
    const view = new DataView(bytes.buffer);
    extra = view.getUint32(EXTRA_LENGTH_OFFSET);
    names = view.getUint16(LENGTHS_OFFSET) + view.getUint16(LENGTHS_OFFSET + 2);
    end = start + HEADER_SIZE + extra + names;
  }
  const longer = LONGEST + 1 + random.below(1000);
  const clusterSize = 2 ** header.clusterBits;
  const clusterEnd = Math.min(Math.ceil(end / clusterSize) * clusterSize, file.length);
  if (extra > LONGEST || start + HEADER_SIZE + longer + names > clusterEnd) return;
  const moved = new Uint8Array(names);
  file.bytes.read(start + HEADER_SIZE + extra, moved);
  const added = new Uint8Array(longer - extra + names).fill(0x78);
  added.set(moved, longer - extra);
  file.bytes.write(start + HEADER_SIZE + extra, added);
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, longer);
  file.bytes.write(start + EXTRA_LENGTH_OFFSET, new Uint8Array(length.buffer));
}
