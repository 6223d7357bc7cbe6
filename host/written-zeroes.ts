/** Zero clusters become zeros that are written: version 2 has no other way to hide what a backing file holds. */

import { CorralError } from './errors.js';
import type { ImageFacts } from './image-facts.js';
import type { MapExtent } from './map-extent.js';

/** Bytes of one write. */
const PIECE = 1 << 20;

/** What an image does for it. */
interface Disk {
  map(options: { signal?: AbortSignal | undefined }): AsyncIterable<MapExtent>;
  write(offset: number, source: Uint8Array, options: { signal?: AbortSignal | undefined }): Promise<void>;
}

/** Whether a downgrade was refused for zero clusters only, and those are the disk's own: no snapshot shares them. */
export function wantsWrittenZeroes(error: unknown, { snapshotCount }: ImageFacts): boolean {
  const isRefusal = error instanceof CorralError && error.code === 'ERR_UNSUPPORTED';
  return isRefusal && error.details.field === 'zeroes over backing' && snapshotCount === 0;
}

/** The disk reads the same at any moment of it. Rejects as `write` does. */
export async function writeOutZeroes(disk: Disk, signal?: AbortSignal): Promise<void> {
  const zeros = new Uint8Array(PIECE);
  for await (const { kind, offset, length } of disk.map({ signal })) {
    if (kind !== 'zero') continue;
    for (let done = 0; done < length; done += PIECE) {
      await disk.write(offset + done, zeros.subarray(0, Math.min(PIECE, length - done)), { signal });
    }
  }
}
