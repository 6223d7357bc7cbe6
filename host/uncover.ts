/** Emptying an image: everything shows what lies behind it. */

import { RequestFlag, RequestKind } from './abi.js';

/** Bytes of the disk that are uncovered by one request: a multiple of every cluster size. */
const ROUND_LENGTH = 2 ** 36;

interface UncoverRequest {
  readonly kind: RequestKind;
  readonly flags: number;
  readonly guestOffset: number;
  readonly length: number;
}

/**
 * The requests, one after the other, that make nothing of a disk of `size` bytes the image's own. What lies behind must hold the
 * same by then, durably: a power cut in the middle leaves clusters of both kinds, and so the same disk.
 */
export function* uncoverRequests(size: number): Generator<UncoverRequest> {
  for (let guestOffset = 0; guestOffset < size; guestOffset += ROUND_LENGTH) {
    const length = Math.min(ROUND_LENGTH, size - guestOffset);
    yield { kind: RequestKind.Discard, flags: RequestFlag.Unmap, guestOffset, length };
  }
}
