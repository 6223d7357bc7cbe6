/** What a disk consists of, through all layers behind the image. */

import type { Layer } from './chain.js';
import type { MapExtent } from './map-extent.js';

/** A stretch of the disk, and the layer that says what it is. */
export interface ChainExtent extends MapExtent {
  /** 0 for the image, 1 for its backing file, and so on. */
  readonly depth: number;
  /** The layer; undefined for the image itself. */
  readonly layer: Layer | undefined;
}

interface MapChainOptions {
  offset: number;
  length: number;
  /** So many layers are looked at, the image among them; what is further behind is unallocated. Default: all. */
  layers?: number;
  signal?: AbortSignal;
}

const NOTHING = { kind: 'unallocated', allocated: false, hostOffset: undefined } as const;

interface Disk {
  readonly backing: Layer | undefined;
  map(options: { offset: number; length: number; signal?: AbortSignal }): AsyncIterable<MapExtent>;
}

/**
 * The stretches from `offset` on, in order and without gaps. What no layer has is unallocated, at the depth of the last
 * layer that is long enough. Neighbours of one layer are not joined.
 */
export async function* mapChain(disk: Disk, options: MapChainOptions): AsyncGenerator<ChainExtent> {
  yield* mapFrom(disk, undefined, 0, options);
}

async function* mapFrom(
  disk: Disk,
  layer: Layer | undefined,
  depth: number,
  options: MapChainOptions,
): AsyncGenerator<ChainExtent> {
  const { offset, length, signal, layers = Number.POSITIVE_INFINITY } = options;
  for await (const whole of disk.map({ offset, length, signal })) {
    const extent = clip(whole, offset, offset + length);
    if (extent === undefined) continue;
    const { backing } = disk;
    if (extent.kind !== 'unallocated' || backing === undefined) {
      yield { ...extent, depth, layer };
      continue;
    }
    const inside = Math.max(0, Math.min(extent.length, backing.length - extent.offset));
    const next = { ...options, offset: extent.offset, length: inside };
    if (inside > 0 && depth + 1 < layers) yield* mapFrom(backing, backing, depth + 1, next);
    else if (inside > 0) yield { ...NOTHING, offset: extent.offset, length: inside, depth: depth + 1, layer: backing };
    if (inside === extent.length) continue;
    const rest = { ...extent, offset: extent.offset + inside, length: extent.length - inside };
    const hostOffset = extent.hostOffset === undefined ? undefined : extent.hostOffset + inside;
    yield { ...rest, hostOffset, depth, layer };
  }
}

function clip(extent: MapExtent, start: number, end: number): MapExtent | undefined {
  const from = Math.max(extent.offset, start);
  const to = Math.min(extent.offset + extent.length, end);
  if (from >= to) return undefined;
  const hostOffset = extent.hostOffset === undefined ? undefined : extent.hostOffset + from - extent.offset;
  return { ...extent, offset: from, length: to - from, hostOffset };
}
