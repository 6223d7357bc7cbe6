/** Where the lists of an image lie: header extensions, the snapshot table, the bitmap directory. Nothing is trusted. */

import type { BlockFile } from '../../../host/block-file.js';
import type { ImageFacts } from '../../../host/image-facts.js';
import { wideNumber } from './host-entries.js';

type Readable = Pick<BlockFile, 'read'>;

export interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/** The bitmap directory. */
export interface BitmapPlace extends Stretch {
  readonly count: number;
}

export interface HeaderExtension extends Stretch {
  readonly type: number;
}

export interface SnapshotTable extends Stretch {
  readonly entries: readonly { readonly l1Offset: number; readonly l1Size: number }[];
}

const EXTENSION_BITMAPS = 0x2385_2875;
const EXTENSION_ENCRYPTION = 0x0537_be77;
const VERSION_2_LENGTH = 72;
const HEADER_LENGTH_FIELD = 100;
const SNAPSHOT_FIELDS = 60;
const SNAPSHOT_ENTRY = 40;
const BITMAP_ENTRY = 24;
/** What the format's readers take at most. */
const MOST_SNAPSHOTS = 65536;
const LONGEST_LIST = 64 * 2 ** 20;
const MOST_EXTENSIONS = 256;

/** The extensions of a header, and what they point to. */
export async function readExtensions(
  file: Readable,
  facts: ImageFacts,
): Promise<{ all: HeaderExtension[]; bitmaps: BitmapPlace | undefined; encryption: Stretch[] }> {
  const header = await readView(file, 0, Math.min(facts.clusterSize, facts.fileLength));
  const all: HeaderExtension[] = [];
  let bitmaps: BitmapPlace | undefined;
  const encryption: Stretch[] = [];
  let at = facts.version === 2 ? VERSION_2_LENGTH : header.getUint32(HEADER_LENGTH_FIELD);
  while (at + 8 <= header.byteLength && all.length < MOST_EXTENSIONS) {
    const type = header.getUint32(at);
    const length = header.getUint32(at + 4);
    if (type === 0 || length > header.byteLength - at - 8) break;
    all.push({ type, offset: at, length: 8 + length });
    if (type === EXTENSION_BITMAPS && length >= 24) {
      const place = { offset: wideNumber(header, at + 24), length: wideNumber(header, at + 16) };
      bitmaps = { ...place, count: header.getUint32(at + 8) };
    } else if (type === EXTENSION_ENCRYPTION && length >= 16) {
      encryption.push({ offset: wideNumber(header, at + 8), length: wideNumber(header, at + 16) });
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return { all, bitmaps, encryption };
}

/** The entries of the snapshot table up to the first one that makes no sense. */
export async function readSnapshotTable(file: Readable, facts: ImageFacts): Promise<SnapshotTable> {
  const header = await readView(file, SNAPSHOT_FIELDS, 12);
  const count = Math.min(header.getUint32(0), MOST_SNAPSHOTS);
  const offset = wideNumber(header, 4);
  const entries: { l1Offset: number; l1Size: number }[] = [];
  let at = offset;
  while (entries.length < count && at + SNAPSHOT_ENTRY <= facts.fileLength && at - offset < LONGEST_LIST) {
    const entry = await readView(file, at, SNAPSHOT_ENTRY);
    entries.push({ l1Offset: wideNumber(entry, 0), l1Size: entry.getUint32(8) });
    const names = entry.getUint16(12) + entry.getUint16(14);
    at += Math.ceil((SNAPSHOT_ENTRY + entry.getUint32(36) + names) / 8) * 8;
  }
  return { offset, length: at - offset, entries };
}

/** Where the tables of the bitmaps lie. */
export async function readBitmapPlaces(file: Readable, directory: BitmapPlace, fileLength: number): Promise<Stretch[]> {
  const places: Stretch[] = [];
  const end = Math.min(directory.offset + Math.min(directory.length, LONGEST_LIST), fileLength);
  for (let at = directory.offset; at + BITMAP_ENTRY <= end && places.length < directory.count; ) {
    const entry = await readView(file, at, BITMAP_ENTRY);
    const length = entry.getUint32(8) * 8;
    const offset = wideNumber(entry, 0);
    if (offset + length <= fileLength) places.push({ offset, length });
    at += Math.ceil((BITMAP_ENTRY + entry.getUint16(18) + entry.getUint32(20)) / 8) * 8;
  }
  return places;
}

async function readView(file: Readable, offset: number, length: number): Promise<DataView> {
  const bytes = new Uint8Array(length);
  await file.read(offset, bytes);
  return new DataView(bytes.buffer);
}
