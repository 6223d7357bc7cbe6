/** Inside of a thread that decompresses and compresses clusters: nothing of an image is known here but their bytes. */

import type { CompressionType } from '../host/codec/codec.js';
import { CorralError } from '../host/errors.js';
import { browserCodec } from './browser-codec.js';
import { answerCalls, type Handlers, type MessageEndpoint, Transfer } from './calls.js';

/** Name of a worker that is to do so. */
export const CODEC_WORKER_NAME = 'corral-codec';

export interface DecompressCall {
  readonly type: CompressionType;
  readonly source: Uint8Array;
  /** Bytes of the whole cluster. */
  readonly size: number;
  /** Shared memory where bytes of the cluster go, from `skipped` on; without it they are the answer. */
  readonly target?: Uint8Array;
  readonly skipped?: number;
}

export interface CompressCall {
  readonly type: CompressionType;
  readonly source: Uint8Array;
  readonly level: number | undefined;
}

const handlers: Handlers = {
  start: async () => undefined,
  decompress: async ({ type, source, size, target, skipped = 0 }: DecompressCall) => {
    const cluster = await browserCodec.decompress(type, source, size).catch((error: Error) => {
      throw new CorralError('ERR_IMAGE_CORRUPT', { reason: error.message });
    });
    if (target === undefined) return given(cluster);
    target.set(cluster.subarray(skipped, skipped + target.length));
    return undefined;
  },
  compress: async ({ type, source, level }: CompressCall) => given(await browserCodec.compress(type, source, level)),
};

export function serveCodec(endpoint: MessageEndpoint): void {
  answerCalls(endpoint, handlers);
}

function given(bytes: Uint8Array): Transfer {
  const own = bytes.length === bytes.buffer.byteLength ? bytes : bytes.slice();
  return new Transfer(own, [own.buffer as ArrayBuffer]);
}
