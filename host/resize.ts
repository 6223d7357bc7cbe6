/** Making the disk of an open image longer or shorter. */

import { RequestFlag, RequestKind, ResizeFlag, ResizeOptionsView } from './abi.js';
import type { EngineRequest } from './engine.js';
import { CorralError } from './errors.js';
import type { ImageFacts } from './image-facts.js';

export interface ResizeImageOptions {
  /** The disk may become smaller; what lies behind its new end is lost. Refused without. */
  shrink?: boolean;
  signal?: AbortSignal;
}

const SECTOR = 512;

/** The request for a disk of `size` bytes, a multiple of 512. Throws ERR_INVALID_ARGUMENT. */
export function resizeRequest(
  info: ImageFacts,
  size: number | bigint,
  options: ResizeImageOptions,
): EngineRequest<number> {
  const bytes = Number(size);
  if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes % SECTOR !== 0) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `The new size must be a multiple of 512, not ${size}` });
  }
  if (bytes < info.virtualSize && !options.shrink) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'The disk would become smaller, which was not asked for' });
  }
  return {
    kind: RequestKind.Resize,
    // The new part needs no clusters to be zeros.
    flags: RequestFlag.Unmap,
    signal: options.signal,
    prepare(core) {
      const view = new ResizeOptionsView(core.memory, core.layout.page);
      view.virtualSize = bytes;
      view.flags = (options.shrink ? ResizeFlag.Shrink : 0) | (info.backingFile === undefined ? 0 : ResizeFlag.ZeroNew);
      view.reserved = 0;
    },
    collect: () => bytes,
  };
}
