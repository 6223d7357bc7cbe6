/** Making the disk of an open image longer or shorter. */

import { RequestFlag, RequestKind, ResizeFlag, ResizeOptionsView } from './abi.js';
import type { BlockFile } from './block-file.js';
import type { Engine, EngineRequest } from './engine.js';
import { CorralError, isNoSpace, systemErrorCode } from './errors.js';
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

/** An open image, and its external data file when it has one. */
export interface ResizedImage {
  readonly engine: Engine;
  readonly dataFile: BlockFile | undefined;
}

/** Makes the disk `size` bytes long and preallocates what is new. Resolves with the size. Rejects as `Image.resize`. */
export async function resizeDisk(
  { engine, dataFile }: ResizedImage,
  info: ImageFacts,
  size: number | bigint,
  options: ResizeImageOptions,
): Promise<number> {
  const { signal } = options;
  const before = info.virtualSize;
  const grows = Number(size) > before;
  if ((options.preallocation ?? 'off') !== 'off' && !grows) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'Preallocation can only be used for growing images' });
  }
  // As QEMU: what a raw data file holds is what the guest reads, so all of it is mapped.
  const preallocation = options.preallocation ?? (grows && info.dataFileRaw ? 'metadata' : 'off');
  const request = resizeRequest(info, size, options);
  if (dataFile !== undefined && grows) {
    // What the data file has behind the disk's end stays when the core would refuse.
    await engine.run(resizeRequest(info, size, options, ResizeFlag.AskOnly));
    await inDataFile(clearDataFile(dataFile, before, Number(size)));
  }
  const virtualSize = await engine.run(request);
  if (dataFile !== undefined) await inDataFile(fitDataFile(dataFile, virtualSize));
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
export function resizeRequest(
  info: ImageFacts,
  size: number | bigint,
  options: ResizeImageOptions,
  more = 0,
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
      const zeroNew = info.backingFile !== undefined && !options.showBacking;
      view.flags = (options.shrink ? ResizeFlag.Shrink : 0) | (zeroNew ? ResizeFlag.ZeroNew : 0) | more;
      view.reserved = 0;
    },
    collect: () => bytes,
  };
}

/** The data file's errors, told as those of the image are. */
async function inDataFile(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (error instanceof CorralError) throw error;
    const code = isNoSpace(error) ? 'ERR_NO_SPACE' : 'ERR_IO';
    const system = systemErrorCode(error);
    throw new CorralError(code, { reason: `Data file: ${(error as Error).message}`, system, cause: error });
  }
}

/**
 * Before the disk gets longer: what the data file has behind the disk's end would come to light, in the file itself if not
 * on the disk.
 */
async function clearDataFile(file: BlockFile, before: number, after: number): Promise<void> {
  const length = await file.size();
  if (!file.zeroBeyondEnd) {
    if (length < after) throw new CorralError('ERR_NO_SPACE', { reason: `The data file cannot hold ${after} bytes` });
    await file.writeZeroes(before, after - before);
  } else if (length > before) {
    await file.truncate(before);
  }
  await file.flush();
}

/** After the disk has got another size: the data file has the same, as QEMU leaves it. */
async function fitDataFile(file: BlockFile, size: number): Promise<void> {
  if (!file.zeroBeyondEnd || (await file.size()) === size) return;
  await file.truncate(size);
  await file.flush();
}
