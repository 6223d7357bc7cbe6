/**
 * Asks for the L2 tables of a disk before the engine does, which needs them one after the other: their reads overlap then,
 * and the engine finds them in the file's cache.
 */

import type { BlockFile } from '../../../host/block-file.js';
import type { ImageFacts } from '../../../host/image-facts.js';
import { entryOffset } from './host-entries.js';

/** Bytes of tables that are asked for; the cache holds more. */
const MOST_BYTES = 6 * 2 ** 20;
/** For files that tables are asked for of. */
export const CACHE_SIZE = 8 * 2 ** 20;
const LONGEST_L1 = 2 ** 16;

/** Does not wait, and does not mind what fails: the engine meets the same error. */
export function readTablesAhead(file: Pick<BlockFile, 'read'>, facts: ImageFacts): void {
  readAhead(file, facts).catch(() => {});
}

async function readAhead(file: Pick<BlockFile, 'read'>, facts: ImageFacts): Promise<void> {
  const { l1TableOffset, l1Size, clusterSize, fileLength } = facts;
  const l1 = new Uint8Array(Math.min(l1Size * 8, LONGEST_L1));
  await file.read(l1TableOffset, l1);
  const view = new DataView(l1.buffer);
  const reads: Promise<void>[] = [];
  for (let at = 0; at + 8 <= l1.length && reads.length * clusterSize < MOST_BYTES; at += 8) {
    const offset = entryOffset(view, at);
    if (offset > 0 && offset < fileLength) reads.push(file.read(offset, new Uint8Array(clusterSize)));
  }
  await Promise.all(reads);
}
