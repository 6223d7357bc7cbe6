/** Decompressing and compressing clusters: what the engine asks of a host's libraries. */

import type { BlockFile } from '../block-file.js';
import { CorralError } from '../errors.js';

/** Compression types of the specification's header field. */
export type CompressionType = 'zlib' | 'zstd';

export interface Codec {
  /**
   * Decompresses one cluster: exactly `size` bytes. `source` may go on behind the end of the compressed data. Rejects
   * when the data are damaged, or decompress to another size; never takes more memory than a few times `size`.
   */
  decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array>;
  /**
   * Compresses one cluster so that every reader of qcow2 understands it: raw deflate with a window of 4 KiB, or one zstd
   * frame. The source stays the caller's and is left alone until the promise ends. Missing where no library can.
   *
   * @param level of the library; its own default when undefined
   */
  compress?(type: CompressionType, source: Uint8Array, level: number | undefined): Promise<Uint8Array>;
  /**
   * Reads compressed data and decompresses them in one go, into the target: as many bytes of the cluster as that has, from
   * `skipped` on. Undefined when this file or type is not for this way. Rejects with ERR_IMAGE_CORRUPT when the data are
   * damaged, or with the system's error.
   */
  decompressFrom?(file: BlockFile, cluster: CompressedCluster, target: Uint8Array): Promise<void> | undefined;
  /**
   * As `compress`, but into the target, which must be left alone as well: resolves with how many of its bytes are used, 0
   * when it is too small. Undefined when this type is not for this way.
   */
  compressInto?(
    type: CompressionType,
    source: Uint8Array,
    target: Uint8Array,
    level: number | undefined,
  ): Promise<number> | undefined;
}

/** Where the compressed data of a cluster lie. Numbers are bytes. */
export interface CompressedCluster {
  readonly type: CompressionType;
  readonly hostOffset: number;
  readonly sourceLength: number;
  readonly clusterSize: number;
  /** Of the cluster, ahead of what is wanted. */
  readonly skipped: number;
}

const HIGHEST_LEVEL: Readonly<Record<CompressionType, number>> = { zlib: 9, zstd: 19 };

/** Throws ERR_INVALID_ARGUMENT unless the libraries know the level. */
export function checkLevel(type: CompressionType, level: number | undefined): void {
  const highest = HIGHEST_LEVEL[type];
  if (level === undefined || (Number.isInteger(level) && level >= 1 && level <= highest)) return;
  throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `Levels of ${type} are 1 to ${highest}, not ${level}` });
}

/** Throws unless a decompressed cluster has the size of a cluster. */
export function expectSize(cluster: Uint8Array, size: number): Uint8Array {
  if (cluster.length !== size) throw new RangeError(`the cluster decompresses to ${cluster.length} bytes, not ${size}`);
  return cluster;
}
