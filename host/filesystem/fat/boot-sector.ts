/** The first sector of a FAT file system: where the tables, the root and the clusters are. Microsoft, FAT specification 1.03. */

import type { FileSystemType } from '../file-system.js';
import { type BoundedReader, damaged } from '../source.js';

/** Clusters beyond which the entries of the tables are 16 bits. */
const MOST_CLUSTERS_12 = 4084;
const MOST_CLUSTERS_16 = 65524;
const MOST_CLUSTERS_32 = 0x0ffffff5;

/** Bytes from the start of the file system, unless it says otherwise. */
export interface Geometry {
  readonly type: Extract<FileSystemType, `fat${string}`>;
  readonly bits: 12 | 16 | 32;
  readonly label: string;
  readonly size: number;
  readonly clusterSize: number;
  /** Clusters with contents; their numbers begin with 2. */
  readonly clusterCount: number;
  /** Where cluster 2 begins. */
  readonly dataOffset: number;
  readonly tableOffset: number;
  readonly tableLength: number;
  /** The root directory: a stretch of its own, or a chain of clusters. */
  readonly root: { readonly offset: number; readonly length: number } | { readonly cluster: number };
}

/** Undefined for what does not begin like one. Rejects with ERR_IMAGE_CORRUPT for one that makes no sense. */
export async function readGeometry(reader: BoundedReader): Promise<Geometry | undefined> {
  if (reader.size < 512) return undefined;
  const bytes = await reader.bytes(0, 512);
  const view = new DataView(bytes.buffer);
  const sectorSize = view.getUint16(11, true);
  const sectorsPerCluster = view.getUint8(13);
  const reserved = view.getUint16(14, true);
  const tables = view.getUint8(16);
  const looksRight =
    view.getUint16(510, true) === 0xaa55 &&
    isPower(sectorSize) &&
    sectorSize >= 512 &&
    sectorSize <= 4096 &&
    isPower(sectorsPerCluster) &&
    reserved > 0 &&
    (tables === 1 || tables === 2) &&
    view.getUint8(21) >= 0xf0;
  if (!looksRight) return undefined;
  const short = view.getUint16(22, true);
  const isLarge = short === 0;
  const tableSectors = isLarge ? view.getUint32(36, true) : short;
  const sectors = view.getUint16(19, true) || view.getUint32(32, true);
  const rootLength = view.getUint16(17, true) * 32;
  const rootSectors = Math.ceil(rootLength / sectorSize);
  const before = reserved + tables * tableSectors + rootSectors;
  const clusterCount = Math.floor((sectors - before) / sectorsPerCluster);
  const bits = isLarge ? 32 : clusterCount > MOST_CLUSTERS_12 ? 16 : 12;
  const most = bits === 32 ? MOST_CLUSTERS_32 : MOST_CLUSTERS_16;
  if (tableSectors === 0 || clusterCount < 1 || clusterCount > most) throw damaged('the number of its clusters', 32);
  const tableLength = tableSectors * sectorSize;
  if (tableLength * 8 < (clusterCount + 2) * bits) throw damaged('its table is shorter than its clusters need', 22);
  const flags = isLarge ? view.getUint16(40, true) : 0;
  const active = (flags & 0x80) !== 0 ? flags & 0xf : 0;
  if (active >= tables) throw damaged('the number of its table in use', 40);
  return {
    type: `fat${bits}`,
    bits,
    label: labelIn(bytes, isLarge ? 66 : 38),
    size: sectors * sectorSize,
    clusterSize: sectorsPerCluster * sectorSize,
    clusterCount,
    dataOffset: before * sectorSize,
    tableOffset: reserved * sectorSize + active * tableLength,
    tableLength,
    root: isLarge
      ? { cluster: view.getUint32(44, true) & 0x0fffffff }
      : { offset: (reserved + tables * tableSectors) * sectorSize, length: rootLength },
  };
}

function isPower(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

/** Behind the signature of an extended boot record. */
function labelIn(bytes: Uint8Array, signature: number): string {
  if (bytes[signature] !== 0x29) return '';
  const label = String.fromCharCode(...bytes.subarray(signature + 5, signature + 16)).trimEnd();
  return label === 'NO NAME' ? '' : label;
}
