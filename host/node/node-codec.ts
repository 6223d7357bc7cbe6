/** Codecs on Node: those of the addon, where it has them, else those of libraries, which are loaded when they are needed. */

import type { BlockFile } from '../block-file.js';
import type { Codec, CompressedCluster, CompressionType } from '../codec/codec.js';
import { CorralError } from '../errors.js';
import { type Addon, DAMAGED, findAddon } from './addon.js';
import { systemErrorOf } from './errno.js';
import { NodeFile } from './node-file.js';

export const nodeCodec: Codec = {
  async decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array> {
    return (await libraries()).decompress(type, source, size);
  },

  async compress(type: CompressionType, source: Uint8Array, level: number | undefined): Promise<Uint8Array> {
    return (await libraries()).compress(type, source, level);
  },

  decompressFrom(file: BlockFile, cluster: CompressedCluster, target: Uint8Array): Promise<void> | undefined {
    const addon = addonFor(cluster.type);
    if (addon === undefined || !(file instanceof NodeFile) || file.isDirect) return undefined;
    const { hostOffset, sourceLength, type, clusterSize, skipped } = cluster;
    const number = TYPE_NUMBERS[type];
    return new Promise((resolve, reject) => {
      const ended = (answer: number): void => {
        if (answer === 0) resolve();
        else if (answer === DAMAGED)
          reject(new CorralError('ERR_IMAGE_CORRUPT', { reason: 'the compressed data are damaged' }));
        else reject(systemErrorOf(-answer));
      };
      const { descriptor } = file;
      addon.decompressCluster(descriptor, hostOffset, sourceLength, number, clusterSize, skipped, target, ended);
    });
  },

  compressInto(
    type: CompressionType,
    source: Uint8Array,
    target: Uint8Array,
    level: number | undefined,
  ): Promise<number> | undefined {
    const addon = addonFor(type);
    if (addon === undefined) return undefined;
    return new Promise((resolve) => addon.compressCluster(TYPE_NUMBERS[type], level ?? 0, source, target, resolve));
  },
};

const TYPE_NUMBERS: Readonly<Record<CompressionType, number>> = { zlib: 0, zstd: 1 };

/** The addon, where it has this codec. */
function addonFor(type: CompressionType): Addon | undefined {
  const addon = findAddon();
  return addon?.codecAvailable(TYPE_NUMBERS[type]) ? addon : undefined;
}

async function libraries(): Promise<typeof import('./library-codec.js').libraryCodec> {
  return (await import('./library-codec.js')).libraryCodec;
}
