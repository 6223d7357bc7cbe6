/** Codecs for mutants: the portable ones, and compression that costs next to nothing. */

import { deflateRawSync } from 'node:zlib';
import type { Codec, CompressionType } from '../../host/codec/codec.js';
import { portableCodec } from '../../host/codec/portable-codec.js';

const ZSTD_MAGIC = 0xfd2fb528;
/** The last block of a frame, which says one byte and how often. */
const LAST_RUN = 3;

export const mutantCodec: Codec = {
  decompress: portableCodec.decompress,
  async compress(type: CompressionType, source: Uint8Array): Promise<Uint8Array> {
    return type === 'zstd' ? zstdRun(source) : deflateRawSync(source, { level: 1, windowBits: 12, memLevel: 4 });
  },
};

/** A frame of one run when all bytes are alike; what else there is does not become smaller. */
function zstdRun(source: Uint8Array): Uint8Array {
  const first = source[0] ?? 0;
  if (source.some((byte) => byte !== first)) return source.slice();
  // One segment, with its length in 4 bytes; blocks of at most 128 KiB.
  const blocks = Math.ceil(source.length / 131072);
  const frame = new DataView(new ArrayBuffer(9 + blocks * 4));
  frame.setUint32(0, ZSTD_MAGIC, true);
  frame.setUint8(4, 0xa0);
  frame.setUint32(5, source.length, true);
  for (let block = 0; block < blocks; block++) {
    const length = Math.min(131072, source.length - block * 131072);
    const at = 9 + block * 4;
    const header = (length << 3) | (block === blocks - 1 ? LAST_RUN : 2);
    frame.setUint16(at, header & 0xffff, true);
    frame.setUint8(at + 2, header >> 16);
    frame.setUint8(at + 3, first);
  }
  return new Uint8Array(frame.buffer);
}
