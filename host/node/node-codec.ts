/** Codecs on Node: zlib on libuv's threads; zstd there too where Node has it (22.15), else fzstd. */

import * as zlib from 'node:zlib';
import { type Codec, type CompressionType, expectSize } from '../codec/codec.js';
import { portableCodec } from '../codec/portable-codec.js';
import { cutFrame } from '../codec/zstd-frame.js';

type Callback = (error: Error | null, result: Uint8Array) => void;
type Decompress = (
  source: Uint8Array,
  options: { maxOutputLength: number; chunkSize: number },
  callback: Callback,
) => void;

/** Missing on Node 20. */
const zstdDecompress = (zlib as { zstdDecompress?: Decompress }).zstdDecompress;

export const nodeCodec: Codec = {
  async decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array> {
    if (type === 'zlib') return expectSize(await run(zlib.inflateRaw as Decompress, source, size), size);
    if (zstdDecompress === undefined) return portableCodec.decompress(type, source, size);
    return expectSize(await run(zstdDecompress, cutFrame(source, size), size), size);
  },
};

function run(decompress: Decompress, source: Uint8Array, size: number): Promise<Uint8Array> {
  // One chunk of the whole size saves the joining of many; zlib wants at least 64 bytes.
  const options = { maxOutputLength: size, chunkSize: size };
  return new Promise((resolve, reject) => {
    decompress(source, options, (error, result) => (error === null ? resolve(result) : reject(error)));
  });
}
