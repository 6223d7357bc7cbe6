/** Compressed clusters in a browser: by its own streams where those are faster, else by libraries. In the caller's thread. */

import type { Codec, CompressionType } from '../host/codec/codec.js';
import { portableCodec } from '../host/codec/portable-codec.js';
import { CorralError } from '../host/errors.js';

/** Bytes of a cluster from which on the browser's stream is faster than fflate: see README.md. */
const LEAST_FOR_STREAM = 65536;
/** Bytes that a stream is given at a time: it makes at most a thousand times as many of them before it can be stopped. */
const FEED_LENGTH = 16384;
/** What readers of qcow2 may rely on. */
const WINDOW_BITS = 12;
const MEMORY_LEVEL = 9;

export const browserCodec = {
  async decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array> {
    const cluster = type === 'zlib' && size >= LEAST_FOR_STREAM ? await inflateByStream(source, size) : undefined;
    // Whatever the stream did not like, the library says what is wrong with it, or that nothing is.
    return cluster ?? portableCodec.decompress(type, source, size);
  },

  async compress(type: CompressionType, source: Uint8Array, level: number | undefined): Promise<Uint8Array> {
    refuseToCompress(type);
    const { deflateRaw } = await import('pako/browser/deflate');
    const options = { windowBits: WINDOW_BITS, memLevel: MEMORY_LEVEL, chunkSize: source.length };
    return deflateRaw(source, level === undefined ? options : { ...options, level });
  },
} satisfies Codec;

/** Throws ERR_UNSUPPORTED for what is only read here. */
export function refuseToCompress(type: CompressionType): void {
  if (type === 'zlib') return;
  throw new CorralError('ERR_UNSUPPORTED', {
    reason: `Nothing in the browser compresses with ${type}: use zlib, or corral convert on the command line`,
    field: 'compression',
  });
}

/**
 * The cluster, or undefined when something is odd. What follows the compressed data is an error to a stream, which comes
 * behind the bytes.
 */
async function inflateByStream(source: Uint8Array, size: number): Promise<Uint8Array | undefined> {
  const { readable, writable } = new DecompressionStream('deflate-raw');
  void feed(writable.getWriter(), source);
  const reader = readable.getReader();
  const cluster = new Uint8Array(size);
  try {
    for (let filled = 0; filled < size; ) {
      const { done, value } = await reader.read();
      if (done || value.length > size - filled) return undefined;
      cluster.set(value, filled);
      filled += value.length;
    }
    return cluster;
  } catch {
    return undefined;
  } finally {
    // It may have failed, or be at its end, already.
    reader.cancel().catch(() => undefined);
  }
}

async function feed(writer: WritableStreamDefaultWriter<BufferSource>, source: Uint8Array): Promise<void> {
  try {
    for (let start = 0; start < source.length; start += FEED_LENGTH) {
      await writer.write(source.subarray(start, start + FEED_LENGTH) as Uint8Array<ArrayBuffer>);
    }
    await writer.close();
  } catch {
    // The reader is told.
  }
}
