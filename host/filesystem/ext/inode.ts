/** Inodes of ext2, ext3 and ext4: what a file is, apart from its names. */

import type { FileKind, FileStatus } from '../file-system.js';
import { viewOf } from '../reader.js';
import { damaged } from '../source.js';

const ENCRYPTED = 0x800;
const EXTENTS = 0x80000;
const INLINE_DATA = 0x10000000;

const KINDS: Readonly<Record<number, FileKind>> = { 4: 'directory', 8: 'file', 10: 'symlink' };

/** Bytes of the inode that every version has, and of the place for block numbers in it. */
const OLD_SIZE = 128;
const MAP_OFFSET = 0x28;
export const MAP_SIZE = 60;

/** Extended attributes in an inode. */
const ATTRIBUTES_MAGIC = 0xea020000;
/** "system." */
const SYSTEM = 7;

export interface Inode extends FileStatus {
  readonly number: number;
  /** Where the contents lie: extents, block numbers, or the contents themselves. */
  readonly map: Uint8Array;
  readonly hasExtents: boolean;
  readonly isEncrypted: boolean;
  /** Contents that stand in the inode, in their two pieces. */
  readonly inline: readonly Uint8Array[] | undefined;
}

/** Throws ERR_IMAGE_CORRUPT for an inode that nothing may lead to. */
export function parseInode(number: number, bytes: Uint8Array): Inode {
  const view = viewOf(bytes);
  const mode = view.getUint16(0, true);
  const flags = view.getUint32(0x20, true);
  if (mode === 0) throw damaged(`inode ${number} is not in use`);
  const kind = KINDS[mode >> 12] ?? 'other';
  const size = view.getUint32(0x4, true) + view.getUint32(0x6c, true) * 2 ** 32;
  if (!Number.isSafeInteger(size)) throw damaged(`inode ${number} is longer than a file can be`);
  const map = bytes.subarray(MAP_OFFSET, MAP_OFFSET + MAP_SIZE);
  const isInline = (flags & INLINE_DATA) !== 0;
  const hasExtents = (flags & EXTENTS) !== 0;
  const isShortLink = kind === 'symlink' && size < MAP_SIZE && !hasExtents && !isInline;
  return {
    number,
    id: number,
    kind,
    size,
    mode,
    modified: modifiedAt(view),
    uid: view.getUint16(0x2, true) + view.getUint16(0x78, true) * 65536,
    gid: view.getUint16(0x18, true) + view.getUint16(0x7a, true) * 65536,
    map,
    hasExtents,
    isEncrypted: (flags & ENCRYPTED) !== 0,
    inline: isInline ? [map, inlineRest(bytes)] : isShortLink ? [map] : undefined,
  };
}

/** Two more bits of the seconds, and nanoseconds, in newer inodes. */
function modifiedAt(view: DataView): number {
  const seconds = view.getInt32(0x10, true);
  const hasExtra = view.byteLength > OLD_SIZE && view.getUint16(0x80, true) >= 0x8c - OLD_SIZE;
  const extra = hasExtra ? view.getUint32(0x88, true) : 0;
  return (seconds + (extra & 3) * 2 ** 32) * 1000 + Math.floor((extra >>> 2) / 1e6);
}

/** The attribute `system.data`, which continues the contents. */
function inlineRest(bytes: Uint8Array): Uint8Array {
  const nothing = new Uint8Array(0);
  const view = viewOf(bytes);
  if (bytes.length < OLD_SIZE + 8) return nothing;
  const start = OLD_SIZE + view.getUint16(0x80, true);
  if (start + 4 > bytes.length || view.getUint32(start, true) !== ATTRIBUTES_MAGIC) return nothing;
  const first = start + 4;
  for (let at = first; at + 16 <= bytes.length && view.getUint32(at, true) !== 0; ) {
    const nameLength = view.getUint8(at);
    const name = String.fromCharCode(...bytes.subarray(at + 16, at + 16 + nameLength));
    const value = first + view.getUint16(at + 2, true);
    const length = view.getUint32(at + 8, true);
    if (view.getUint8(at + 1) === SYSTEM && name === 'data') {
      if (view.getUint32(at + 4, true) !== 0 || value + length > bytes.length) throw damaged('contents in an inode');
      return bytes.subarray(value, value + length);
    }
    at += 16 + Math.ceil(nameLength / 4) * 4;
  }
  return nothing;
}
