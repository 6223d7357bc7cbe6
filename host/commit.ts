/** Writing what layers of a chain hold into a layer behind them, and emptying an image whose disk is in there. */

import { mapChain } from './chain-map.js';
import { CorralError, cancelled } from './errors.js';
import type { Image } from './image.js';

const PIECE_LENGTH = 2 * 1024 * 1024;

/** The disk that is written. Numbers are bytes. */
export interface CommitTarget {
  readonly size: number;
  write(offset: number, source: Uint8Array): Promise<void>;
  writeZeroes(offset: number, length: number): Promise<void>;
}

export interface CommitOptions {
  /** How many layers behind the image the target is; 1: its backing file. */
  depth: number;
  /** Bytes of the target before it was made as long as the image: what is behind them is zeros. */
  targetLength: number;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/**
 * Writes what the image, and the layers between it and the target, have of the disk into the target, which is at least as
 * long as the image. Reads no byte that the target would give. Flushing is the caller's.
 */
export async function commitLayers(image: Image, target: CommitTarget, options: CommitOptions): Promise<void> {
  const { depth: targetDepth, targetLength, onProgress, signal } = options;
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
      if (zeroes > 0) await target.writeZeroes(offset, zeroes);
    } else if (kind === 'zero') {
      await target.writeZeroes(offset, length);
    } else {
      for (let at = offset; at < end; at += PIECE_LENGTH) {
        if (signal?.aborted) throw cancelled(signal);
        const piece = buffer.subarray(0, Math.min(PIECE_LENGTH, end - at));
        await image.read(at, piece);
        await target.write(at, piece);
      }
    }
    if (signal?.aborted) throw cancelled(signal);
    onProgress?.(end, image.size);
  }
}

/** Whether `makeEmpty` would lose nothing but the disk's own bytes. */
export async function canBeEmptied(image: Image): Promise<boolean> {
  if (image.backing === undefined || image.info.hasDataFile) return false;
  return !image.info.hasBitmaps || (await image.bitmaps.list()).length === 0;
}

/**
 * Nothing of the disk is the image's own any more: everything shows what lies behind it. Snapshots stay. A power cut in the
 * middle leaves a disk that is too short. Rejects with ERR_UNSUPPORTED for what `canBeEmptied` says no to.
 */
export async function makeEmpty(image: Image): Promise<void> {
  if (!(await canBeEmptied(image))) {
    throw new CorralError('ERR_UNSUPPORTED', {
      reason: 'An image with bitmaps or without backing file is not emptied',
    });
  }
  const { size } = image;
  await image.resize(0, { shrink: true });
  await image.resize(size, { showBacking: true });
}
