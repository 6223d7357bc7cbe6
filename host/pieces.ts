/** Work in several parts: long buffers piece by piece, and the end of all of several promises. */

import { CorralError } from './errors.js';

/** Largest piece that one request carries. */
const MAXIMUM_PIECE = 1 << 30;

/** Runs `run` for one piece of the buffer after the other, the first at byte `offset`. Rejects with ERR_INVALID_ARGUMENT. */
export async function inPieces(
  offset: number | bigint,
  buffer: Uint8Array,
  run: (offset: number, piece: Uint8Array) => Promise<void>,
): Promise<void> {
  const start = Number(offset);
  if (!Number.isSafeInteger(start) || start < 0) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `Offset ${offset} is not a whole number of bytes` });
  }
  for (let done = 0; done < buffer.length; done += MAXIMUM_PIECE) {
    await run(start + done, buffer.subarray(done, done + MAXIMUM_PIECE));
  }
}

/** Waits for the end of all, and rejects with what the first of the failed ones says. */
export async function allEnded(work: readonly Promise<void>[]): Promise<void> {
  for (const ending of await Promise.allSettled(work)) if (ending.status === 'rejected') throw ending.reason;
}
