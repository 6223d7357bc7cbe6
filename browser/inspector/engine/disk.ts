/** What the inspector reads guest bytes from: an image in one of its states, or a raw file. */

import type { BlockFile } from '../../../host/block-file.js';
import { type ChainExtent, mapChain } from '../../../host/chain-map.js';
import type { Image } from '../../../host/image.js';
import { inPieces } from '../../../host/pieces.js';

export interface GuestDisk {
  /** Bytes. */
  readonly size: number;
  /** Cells of a picture are whole numbers of these. */
  readonly unit: number;
  /** Fills the target; the range lies on the disk. */
  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Stretches in order, without gaps. */
  extents(from: number, to: number, signal?: AbortSignal): AsyncIterable<ChainExtent>;
}

export function imageDisk(image: Image): GuestDisk {
  return {
    size: image.size,
    unit: image.info.extendedL2 ? image.info.clusterSize / 32 : image.info.clusterSize,
    read: (offset, target, signal) => image.read(offset, target, { signal }),
    extents: (from, to, signal) => mapChain(image, { offset: from, length: to - from, signal }),
  };
}

export function rawDisk(file: BlockFile, length: number): GuestDisk {
  return {
    size: length,
    unit: 65536,
    read: (offset, target) => inPieces(offset, target, (at, piece) => file.read(at, piece)),
    async *extents(from, to) {
      if (from < to) {
        const place = { depth: 0, layer: undefined, allocated: true, hostOffset: from };
        yield { offset: from, length: to - from, kind: 'data', ...place };
      }
    },
  };
}
