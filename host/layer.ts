/** One disk of a backing chain. */

import type { BlockFile } from './block-file.js';
import type { Backing } from './engine-options.js';
import type { MapExtent } from './map-extent.js';

/** A disk behind an image. Numbers are bytes. */
export interface Layer extends Backing {
  readonly format: 'raw' | 'qcow2';
  /** Bytes of the layer's disk. */
  readonly length: number;
  /** Where its file is, as far as that is known. */
  readonly location: string | undefined;
  /** Of its file. */
  readonly identity: string | undefined;
  /** What lies behind this layer. */
  readonly backing: Layer | undefined;
  /** Where the bytes lie that `map` tells of as data; undefined when they are not there as they are. */
  readonly file: BlockFile | undefined;
  /** What this layer alone says of a part of its disk. */
  map(options: { offset: number; length: number; signal?: AbortSignal }): AsyncIterable<MapExtent>;
  /** Closes its file and all layers behind it. */
  close(): Promise<void>;
}
