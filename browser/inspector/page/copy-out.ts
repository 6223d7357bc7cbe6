/** Copies a disk into a sink: what is not zeros, in order, a piece being written while the next one is read. */

import type { State } from '../protocol.js';
import type { App } from './app.js';
import type { CallOptions } from './client.js';
import type { Sink } from './sink.js';

const PIECE_LENGTH = 4 * 2 ** 20;

export interface CopyJob {
  readonly state: State;
  /** Bytes of the disk. */
  readonly size: number;
  readonly sink: Sink;
}

/** Resolves with how much was written. The sink is finished, or abandoned when it rejects. */
export async function copyOut(
  { client }: App,
  { state, size, sink }: CopyJob,
  { signal, onProgress }: Required<CallOptions>,
): Promise<{ size: number; written: number }> {
  let written = 0;
  let writing: Promise<void> = Promise.resolve();
  try {
    for (let offset = 0; offset < size; ) {
      const stretch = await client.call('nextData', { state, offset }, { signal });
      if (stretch === undefined) break;
      const end = stretch.offset + stretch.length;
      for (let at = stretch.offset; at < end; at += PIECE_LENGTH) {
        const length = Math.min(PIECE_LENGTH, end - at);
        const bytes = await client.call('read', { space: 'guest', state, offset: at, length }, { signal });
        await writing;
        writing = sink.write(at, bytes);
        // A failure is met at the next await; until then it must not count as unhandled.
        writing.catch(() => {});
        written += bytes.length;
        onProgress?.({ done: at + length, total: size });
      }
      offset = end;
    }
    await writing;
    await sink.finish();
  } catch (error) {
    await writing.catch(() => {});
    await sink.abandon().catch(() => {});
    throw error;
  }
  return { size, written };
}
