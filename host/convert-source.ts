/** What `convert` copies from: images with what lies behind them, files, parts of them, and several in a row. */

import { type BlockFile, stretchesOf } from './block-file.js';
import { mapChain } from './chain-map.js';
import type { CopyRange } from './copy-range.js';
import type { Image } from './image.js';
import { KnownPlaces } from './known-places.js';

export interface CopySource {
  /** Bytes of the disk. */
  readonly length: number;
  /** What the disk consists of, in order, without gaps. */
  ranges(signal?: AbortSignal): AsyncIterable<CopyRange>;
  read(offset: number, target: Uint8Array): Promise<void>;
}

/**
 * An open image as source, with what lies behind it; with `topOnly` only what it has itself, for a target that has the
 * same behind it. It stays the caller's, who does not write it meanwhile.
 */
export function imageSource(image: Image, options: { topOnly?: boolean } = {}): CopySource {
  const { topOnly = false } = options;
  const known = new KnownPlaces();
  return {
    length: image.size,
    async *ranges(signal) {
      for await (const extent of mapChain(image, { offset: 0, length: image.size, signal })) {
        const { offset, length, kind, depth, layer, hostOffset } = extent;
        const kept = topOnly && (depth > 0 || kind === 'unallocated');
        const file = layer === undefined ? image.guestFile : layer.file;
        const isPlain = kind === 'data' && !kept && file !== undefined && hostOffset !== undefined;
        const place = isPlain ? { file, offset: hostOffset } : undefined;
        if (place !== undefined) known.note({ offset, length, place });
        yield { offset, length, zero: kept || kind === 'zero' || kind === 'unallocated', kept, place };
      }
    },
    read: (offset, target) => known.read(offset, target, (at, part) => image.read(at, part)),
  };
}

/** Several disks, one behind the other. */
export function joinedSource(sources: readonly CopySource[]): CopySource {
  const starts: number[] = [];
  let length = 0;
  for (const source of sources) {
    starts.push(length);
    length += source.length;
  }
  return {
    length,
    async *ranges(signal) {
      for (const [index, source] of sources.entries()) {
        const start = starts[index] as number;
        for await (const range of source.ranges(signal)) yield { ...range, offset: range.offset + start };
      }
    },
    async read(offset, target) {
      for (const [index, source] of sources.entries()) {
        const start = starts[index] as number;
        const from = Math.max(offset, start);
        const to = Math.min(offset + target.length, start + source.length);
        if (from < to) await source.read(from - start, target.subarray(from - offset, to - offset));
      }
    },
  };
}

/** A part of a disk; what lies behind the end of the disk is not part of it. */
export function partOf(source: CopySource, offset: number, length: number): CopySource {
  return {
    length,
    async *ranges(signal) {
      for await (const range of source.ranges(signal)) {
        const from = Math.max(range.offset, offset);
        const to = Math.min(range.offset + range.length, offset + length);
        const place = range.place && { ...range.place, offset: range.place.offset + from - range.offset };
        if (from < to) yield { ...range, offset: from - offset, length: to - from, place };
      }
    },
    read: (at, target) => source.read(offset + at, target),
  };
}

/** A file as source, byte by byte; what lies between its end and `length` is zeros. It stays the caller's. */
export function fileSource(file: BlockFile, length: number): CopySource {
  return {
    length,
    async *ranges() {
      const fileLength = await file.size();
      for (const { offset, length: count, hole } of stretchesOf(file, { offset: 0, length, fileLength })) {
        yield { offset, length: count, zero: hole, place: hole ? undefined : { file, offset } };
      }
    },
    read: (offset, target) => file.read(offset, target),
  };
}
