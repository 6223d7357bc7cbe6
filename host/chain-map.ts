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
/** So many extents are passed over before it is quicker to ask anew. */
const MOST_PASSED = 16;

interface Disk {
  readonly backing: Layer | undefined;
  map(options: { offset: number; length: number; signal?: AbortSignal }): AsyncIterable<MapExtent>;
}

/**
 * The stretches from `offset` on, in order and without gaps. What no layer has is unallocated, at the depth of the last
 * layer that is long enough. Neighbours of one layer are not joined.
 */
export async function* mapChain(disk: Disk, options: MapChainOptions): AsyncGenerator<ChainExtent> {
  const { offset, length, signal, layers = Number.POSITIVE_INFINITY } = options;
  const end = offset + length;
  const walks: LayerWalk[] = [new LayerWalk(disk, end, signal)];
  for (let position = offset; position < end; ) {
    let layer: Layer | undefined;
    /** Where the stretch ends that begins at `position`. */
    let limit = end;
    for (let depth = 0; ; depth++) {
      walks[depth] ??= new LayerWalk(layer as Layer, end, signal);
      const walk = walks[depth] as LayerWalk;
      const extent = walk.has(position) ? walk.extent : await walk.find(position);
      if (extent === undefined) return;
      limit = Math.min(limit, extent.offset + extent.length);
      const backing: Layer | undefined = walk.disk.backing;
      if (extent.kind !== 'unallocated' || backing === undefined || position >= backing.length) {
        yield { ...clip(extent, position, limit), depth, layer };
        break;
      }
      limit = Math.min(limit, backing.length);
      if (depth + 1 >= layers) {
        yield { ...NOTHING, offset: position, length: limit - position, depth: depth + 1, layer: backing };
        break;
      }
      layer = backing;
    }
    position = limit;
  }
}

/** One layer's own map, from its first place that is asked for on: one walk over it is many times as fast as one for each. */
class LayerWalk {
  /** Where the walk has come to. */
  extent: MapExtent | undefined;
  private extents: AsyncIterator<MapExtent> | undefined;

  constructor(
    readonly disk: Disk,
    private readonly end: number,
    private readonly signal: AbortSignal | undefined,
  ) {}

  has(position: number): boolean {
    const { extent } = this;
    return extent !== undefined && extent.offset <= position && position < extent.offset + extent.length;
  }

  /** The extent that `position` is in; undefined when there is none. Positions come in order. */
  async find(position: number): Promise<MapExtent | undefined> {
    for (let passed = 0; !this.has(position); passed++) {
      if (this.extents === undefined || passed === MOST_PASSED) this.start(position);
      const { value, done } = await (this.extents as AsyncIterator<MapExtent>).next();
      if (done) return undefined;
      this.extent = value;
    }
    return this.extent;
  }

  private start(offset: number): void {
    const { disk, end, signal } = this;
    this.extents = disk.map({ offset, length: end - offset, signal })[Symbol.asyncIterator]();
  }
}

function clip(extent: MapExtent, start: number, end: number): MapExtent {
  const hostOffset = extent.hostOffset === undefined ? undefined : extent.hostOffset + start - extent.offset;
  return { ...extent, offset: start, length: end - start, hostOffset };
}
