/** Before a disk continues from another backing file: what would look different is copied into the image. */

import { mapChain } from './chain-map.js';
import { type ComparedDisk, DiskWalk, differenceOf } from './compare.js';
import { isZero } from './convert.js';
import { cancelled } from './errors.js';
import type { Image } from './image.js';

/** Bytes that are looked at together: whole clusters, however large those are. */
const PIECE_LENGTH = 2 * 1024 * 1024;
const SUBCLUSTERS = 32;

export interface RebaseOptions {
  /** Whole clusters are written in compressed form. */
  compress?: boolean;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/**
 * Copies into the image what it reads from its backing file and could not read from `next`: undefined stands for no
 * backing file. All of it is durable when the promise ends; the name of the backing file is the caller's to change. An
 * interrupted copy changes nothing of what the disk holds.
 */
export async function copyDifferences(
  image: Image,
  next: ComparedDisk | undefined,
  options: RebaseOptions = {},
): Promise<void> {
  const walk = next === undefined ? undefined : new DiskWalk(next);
  const { clusterSize, extendedL2 } = image.info;
  const unit = extendedL2 ? clusterSize / SUBCLUSTERS : clusterSize;
  const buffer = new Uint8Array(PIECE_LENGTH);
  for await (const extent of mapChain(image, { offset: 0, length: image.size, signal: options.signal })) {
    const end = extent.offset + extent.length;
    const isOwn = extent.depth === 0 && extent.kind !== 'unallocated';
    for (let offset = extent.offset; offset < end && !isOwn; ) {
      if (options.signal?.aborted) throw cancelled(options.signal);
      const there = await walk?.at(offset);
      const wasZero = extent.kind === 'zero' || extent.kind === 'unallocated';
      const length = Math.min(end - offset, (there?.end ?? end) - offset, PIECE_LENGTH - (offset % PIECE_LENGTH));
      if (!wasZero || !(there?.zero ?? true)) {
        const old = buffer.subarray(0, length);
        if (wasZero) old.fill(0);
        else await image.read(offset, old);
        const would = await walk?.bytes(offset, length, there?.zero ?? true);
        await copyUnits(image, { offset, old, would, unit }, options.compress === true);
      }
      offset += length;
    }
    options.onProgress?.(end, image.size);
  }
  await image.flush();
}

interface Stretch {
  readonly offset: number;
  /** What the disk holds. */
  readonly old: Uint8Array;
  /** What it would hold; undefined: zeros. */
  readonly would: Uint8Array | undefined;
  readonly unit: number;
}

/** Writes the units of the image in which something differs, neighbours together. */
async function copyUnits(image: Image, { offset, old, would, unit }: Stretch, compress: boolean): Promise<void> {
  let run: { start: number; end: number } | undefined;
  for (let start = 0; start < old.length; ) {
    const end = Math.min(start + unit - ((offset + start) % unit), old.length);
    const mine = old.subarray(start, end);
    const isSame = would === undefined ? isZero(mine) : differenceOf(mine, would.subarray(start, end)) === undefined;
    if (!isSame) run = { start: run?.start ?? start, end };
    if (run !== undefined && (isSame || end === old.length)) {
      await writeRun(image, offset + run.start, old.subarray(run.start, run.end), compress);
      run = undefined;
    }
    start = end;
  }
}

async function writeRun(image: Image, offset: number, bytes: Uint8Array, compress: boolean): Promise<void> {
  const { clusterSize } = image.info;
  const isWhole =
    offset % clusterSize === 0 && (bytes.length % clusterSize === 0 || offset + bytes.length === image.size);
  if (isZero(bytes) && image.info.version > 2) await image.writeZeroes(offset, bytes.length, { unmap: true });
  else if (compress && isWhole) await image.writeCompressed(offset, bytes);
  else await image.write(offset, bytes);
}
