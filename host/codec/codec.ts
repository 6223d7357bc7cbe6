/** Decompressing clusters: what the engine asks of a host's libraries. */

/** Compression types of the specification's header field. */
export type CompressionType = 'zlib' | 'zstd';

export interface Codec {
  /**
   * Decompresses one cluster: exactly `size` bytes. `source` may go on behind the end of the compressed data. Rejects
   * when the data are damaged, or decompress to another size; never takes more memory than a few times `size`.
   */
  decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array>;
}

/** Throws unless a decompressed cluster has the size of a cluster. */
export function expectSize(cluster: Uint8Array, size: number): Uint8Array {
  if (cluster.length !== size) throw new RangeError(`the cluster decompresses to ${cluster.length} bytes, not ${size}`);
  return cluster;
}
