/** Codecs that run everywhere: fflate for zlib, fzstd for zstd. On the calling thread. Loaded when they are needed. */

import { type Codec, type CompressionType, expectSize } from './codec.js';
import { cutFrame } from './zstd-frame.js';

export const portableCodec: Codec = {
  async decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array> {
    if (type === 'zstd') {
      const { decompress } = await import('fzstd');
      return expectSize(decompress(cutFrame(source, size)), size);
    }
    const { inflateSync } = await import('fflate');
    // With a buffer of its own size the decoder cannot be made to take more.
    return expectSize(inflateSync(source, { out: new Uint8Array(size) }), size);
  },
};
