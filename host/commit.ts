/** Writing what layers of a chain hold into a layer behind them, and emptying an image whose disk is in there. */

import { mapChain } from './chain-map.js';
import { CorralError, cancelled } from './errors.js';
import type { Image } from './image.js';
import { RateLimit } from './rate-limit.js';
import { uncoverRequests } from './uncover.js';

const PIECE_LENGTH = 2 * 1024 * 1024;
/** The disk that is written. Numbers are bytes. */
export interface CommitTarget {
  readonly size: number;
  write(offset: number, source: Uint8Array): Promise<void>;
  /** With `unmap` what lies there gives its space back. */
  writeZeroes(offset: number, length: number, options: { unmap: boolean }): Promise<void>;
  /** Makes the disk longer; what is new reads as zeros. */
  resize(size: number): Promise<unknown>;
  flush(): Promise<void>;
}

export interface CommitOptions {
  /** How many layers behind the image the target is; 1: its backing file. */
  depth: number;
  /** Bytes that are written in a second at most; 0, the default: as many as can be. */
  bytesPerSecond?: number | undefined;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/**
 * Writes what the image, and the layers between it and the target, have of the disk into the target, which becomes as long
 * as the image if it is shorter. Reads no byte that the target would give. All of it is durable when the promise ends; cut
 * off in the middle, the image still holds the disk.
 */
export async function commitLayers(image: Image, target: CommitTarget, options: CommitOptions): Promise<void> {
  const { depth: targetDepth, onProgress, signal } = options;
  const targetLength = target.size;
  if (image.size > targetLength) await target.resize(image.size);
  const limit = new RateLimit(options.bytesPerSecond);
  const buffer = new Uint8Array(PIECE_LENGTH);
  // The target changes meanwhile: what the image's own chain has read of its tables is not to be asked.
  const stretches = mapChain(image, { offset: 0, length: image.size, layers: targetDepth, signal });
  for await (const { offset, length, kind, depth } of stretches) {
    const end = offset + length;
    if (depth >= targetDepth) {
      // The target's own, or further behind.
    } else if (kind === 'unallocated') {
      // A layer in between is too short: there are zeros, whatever the target holds.
      const zeroes = depth === targetDepth - 1 ? 0 : Math.min(end, targetLength) - offset;
      if (zeroes > 0) await target.writeZeroes(offset, zeroes, { unmap: true });
    } else if (kind === 'zero') {
      await target.writeZeroes(offset, length, { unmap: true });
    } else {
      for (let at = offset; at < end; at += PIECE_LENGTH) {
        if (signal?.aborted) throw cancelled(signal);
        const piece = buffer.subarray(0, Math.min(PIECE_LENGTH, end - at));
        await image.read(at, piece);
        await target.write(at, piece);
        await limit.passed(piece.length, signal);
      }
    }
    if (signal?.aborted) throw cancelled(signal);
    onProgress?.(end, image.size);
  }
  await target.flush();
}

/** Whether `makeEmpty` works with the image. */
export function canBeEmptied(image: Image): boolean {
  return image.backing !== undefined && !image.info.hasDataFile;
}

/**
 * Nothing of the disk is the image's own any more: everything shows what lies behind it, which must hold the same by then,
 * durably. A power cut in the middle leaves clusters of both kinds, and so the same disk. Snapshots stay; enabled bitmaps
 * note all of it. Durable when the promise ends. Rejects with ERR_UNSUPPORTED for what `canBeEmptied` says no to.
 */
export async function makeEmpty(image: Image, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
  if (!canBeEmptied(image)) {
    const reason = 'An image with an external data file or without backing file is not emptied';
    throw new CorralError('ERR_UNSUPPORTED', { reason });
  }
  for (const { guestOffset, length } of uncoverRequests(image.size)) {
    await image.discard(guestOffset, length, { uncover: true, signal });
  }
  await image.flush({ signal });
}
