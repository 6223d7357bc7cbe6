/** Making the disk of an open image longer or shorter. */

import { RequestFlag, RequestKind, ResizeFlag, ResizeOptionsView } from './abi.js';
import type { Engine, EngineRequest } from './engine.js';
import { CorralError } from './errors.js';
import type { ImageFacts } from './image-facts.js';
import { type Preallocation, preallocateRequest } from './preallocate.js';

export interface ResizeImageOptions {
  /** The disk may become smaller; what lies behind its new end is lost. Refused without. */
  shrink?: boolean;
  /** What is new shows the backing file, where that is long enough. Default: it reads as zeros. */
  showBacking?: boolean;
  /** Of the part by which the disk becomes longer. Default: off. */
  preallocation?: Preallocation;
  signal?: AbortSignal;
}

const SECTOR = 512;

/** Makes the disk `size` bytes long and preallocates what is new. Resolves with the size. Rejects as `Image.resize`. */
export async function resizeDisk(
  engine: Engine,
  info: ImageFacts,
  size: number | bigint,
  options: ResizeImageOptions,
): Promise<number> {
  const { preallocation = 'off', signal } = options;
  const before = info.virtualSize;
  if (preallocation !== 'off' && Number(size) <= before) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'Preallocation can only be used for growing images' });
  }
  const virtualSize = await engine.run(resizeRequest(info, size, options));
  if (preallocation === 'off') return virtualSize;
  try {
    await engine.run(preallocateRequest({ mode: preallocation, offset: before, length: virtualSize - before, signal }));
  } catch (error) {
    // Nobody knows of the new part yet. If it does not work, so be it: the disk is longer then, and whole.
    await engine.run(resizeRequest({ ...info, virtualSize }, before, { shrink: true })).catch(() => {});
    throw error;
  }
  return virtualSize;
}

/** The request for a disk of `size` bytes, a multiple of 512. Throws ERR_INVALID_ARGUMENT. */
function resizeRequest(info: ImageFacts, size: number | bigint, options: ResizeImageOptions): EngineRequest<number> {
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
      const zeroNew = info.backingFile !== undefined && !options.showBacking;
      view.flags = (options.shrink ? ResizeFlag.Shrink : 0) | (zeroNew ? ResizeFlag.ZeroNew : 0);
      view.reserved = 0;
    },
    collect: () => bytes,
  };
}
