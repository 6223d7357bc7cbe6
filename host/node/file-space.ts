/** Space of a file through the addon: holes, and zeros that cost no writing. Where that cannot be had, nothing happens. */

import type { FileExtent } from '../block-file.js';
import { systemErrorCode } from '../errors.js';
import { findAddon } from './addon.js';

/** Bytes of one call: it blocks the thread as long as the file system takes. */
const PIECE = 1 << 26;
/** Blocks of the file system: parts of them are left to plain writes. */
const BLOCK = 4096;
/** What says that a file system or device has no such thing. */
const UNSUPPORTED = ['EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'ENODEV', 'ESPIPE'];

/** A part [start, end) of a file. */
export interface FileRange {
  readonly start: number;
  readonly end: number;
}

/** The stretch that `offset` is in; undefined where the file system does not say, and behind the end of the file. */
export function findExtent(descriptor: number, offset: number): FileExtent | undefined {
  try {
    const found = findAddon()?.findExtent(descriptor, offset) ?? 0;
    return found === 0 ? undefined : { end: Math.abs(found), hole: found > 0 };
  } catch (error) {
    if (UNSUPPORTED.includes(systemErrorCode(error) ?? '')) return undefined;
    throw error;
  }
}

/** The whole blocks in `length` bytes from `offset` on; empty when there are none. */
export function wholeBlocks(offset: number, length: number): FileRange {
  const start = Math.ceil(offset / BLOCK) * BLOCK;
  return { start, end: Math.max(start, Math.floor((offset + length) / BLOCK) * BLOCK) };
}

/** Gives the space back; the range reads as zeros. False when that is not possible, and nothing may have happened. */
export function punchHole(descriptor: number, range: FileRange): boolean {
  const addon = findAddon();
  return addon !== undefined && inPieces(range, (offset, length) => addon.punchHole(descriptor, offset, length));
}

/** The range reads as zeros, its space allocated; the file grows as needed. False when that is not possible. */
export function zeroRange(descriptor: number, range: FileRange): boolean {
  const addon = findAddon();
  return addon !== undefined && inPieces(range, (offset, length) => addon.zeroRange(descriptor, offset, length));
}

/** Throws the system's error when it is about something else than the ability. */
function inPieces({ start, end }: FileRange, call: (offset: number, length: number) => void): boolean {
  try {
    for (let offset = start; offset < end; offset += PIECE) call(offset, Math.min(PIECE, end - offset));
    return true;
  } catch (error) {
    if (UNSUPPORTED.includes(systemErrorCode(error) ?? '')) return false;
    throw error;
  }
}
