/**
 * Codecs of Node's libraries, where the addon has none: zlib on libuv's threads; zstd there too where Node has it (22.15), else
 * fzstd to decompress, and threads of our own to compress.
 */

import * as zlib from 'node:zlib';
import { type Codec, type CompressionType, expectSize } from '../codec/codec.js';
import { portableCodec } from '../codec/portable-codec.js';
import { cutFrame } from '../codec/zstd-frame.js';
import { compressInThread } from './zstd-threads.js';

type Callback = (error: Error | null, result: Uint8Array) => void;
type Transform<Options> = (source: Uint8Array, options: Options, callback: Callback) => void;

/** Missing on Node 20. */
const { zstdCompress, zstdDecompress, constants } = zlib as {
  zstdCompress?: Transform<{ params: Record<number, number> }>;
  zstdDecompress?: Transform<{ maxOutputLength: number; chunkSize: number }>;
  constants: { ZSTD_c_compressionLevel?: number };
};

/** Distances that every reader of qcow2 follows: 4 KiB. */
const WINDOW_BITS = 12;

/** What both libraries do by default. */
const DEFAULT_ZSTD_LEVEL = 3;

export const libraryCodec: Required<Pick<Codec, 'decompress' | 'compress'>> = {
  async decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array> {
    // One chunk of the whole size saves the joining of many; zlib wants at least 64 bytes.
    const options = { maxOutputLength: size, chunkSize: size };
    if (type === 'zlib') return expectSize(await run(zlib.inflateRaw, source, options), size);
    if (zstdDecompress === undefined) return portableCodec.decompress(type, source, size);
    return expectSize(await run(zstdDecompress, cutFrame(source, size), options), size);
  },

  compress(type: CompressionType, source: Uint8Array, level: number | undefined): Promise<Uint8Array> {
    if (type === 'zlib') {
      const options = { windowBits: WINDOW_BITS, memLevel: 9, chunkSize: source.length };
      return run(zlib.deflateRaw, source, level === undefined ? options : { ...options, level });
    }
    const zstdLevel = level ?? DEFAULT_ZSTD_LEVEL;
    if (zstdCompress === undefined) return compressInThread(source, zstdLevel);
    return run(zstdCompress, source, { params: { [constants.ZSTD_c_compressionLevel as number]: zstdLevel } });
  },
};

function run<Options>(transform: Transform<Options>, source: Uint8Array, options: Options): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    transform(source, options, (error, result) => (error === null ? resolve(result) : reject(error)));
  });
}
