/** Clusters ahead of any write: of a new image, or of the part by which a disk has become longer. */

import { PreallocateMode, PreallocateOptionsView, RequestFlag, RequestKind } from './abi.js';
import { appendZeroes, type BlockFile } from './block-file.js';
import type { CopyRange } from './copy-range.js';
import { Engine, type EngineRequest } from './engine.js';

/**
 * What is there before anything is written, as QEMU's modes: nothing; clusters for every part of the disk (the file may
 * be sparse); these with space allocated in the file; these with zeros really written.
 */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** The guest range, and how it is told. All numbers are bytes. */
export interface PreallocateRange {
  readonly mode: Exclude<Preallocation, 'off'>;
  readonly offset: number;
  readonly length: number;
  readonly signal?: AbortSignal | undefined;
}

const MODES = {
  metadata: PreallocateMode.Metadata,
  falloc: PreallocateMode.Allocated,
  full: PreallocateMode.Written,
};

/** The request that maps every cluster of the range. Fails with ERR_UNSUPPORTED where a backing file would be hidden. */
export function preallocateRequest({ mode, offset, length, signal }: PreallocateRange): EngineRequest<void> {
  return {
    kind: RequestKind.Preallocate,
    guestOffset: offset,
    length,
    signal,
    prepare(core) {
      const view = new PreallocateOptionsView(core.memory, core.layout.page);
      view.mode = MODES[mode];
      view.reserved = 0;
    },
  };
}

/** A new image in its files, which stay the caller's. */
export interface NewFiles {
  readonly core: WebAssembly.Module;
  readonly file: BlockFile;
  /** The external data file of an image that has one; nobody has written to it yet. */
  readonly data: BlockFile | undefined;
}

const CACHE_SIZE = 1 << 20;
/** Bytes that are filled between two looks at the signal. */
const BATCH = 1 << 24;

/** Preallocates the whole disk of a new image. Rejects as requests do; the image is whole and partly preallocated then. */
export async function preallocateNew(files: NewFiles, range: PreallocateRange): Promise<void> {
  await withNew(files, (engine) => engine.run(preallocateRequest(range)));
}

/** Maps clusters for those ranges of a new image that are not zeros; the file has holes there. Rejects as requests do. */
export async function mapNew(files: NewFiles, ranges: AsyncIterable<CopyRange>, signal?: AbortSignal): Promise<void> {
  await withNew(files, async (engine) => {
    for await (const { offset, length, zero } of ranges) {
      if (!zero) await engine.run(preallocateRequest({ mode: 'metadata', offset, length, signal }));
    }
  });
}

async function withNew({ core, file, data }: NewFiles, work: (engine: Engine) => Promise<void>): Promise<void> {
  const engine = await Engine.start(file, {
    core,
    dataFile: data,
    requestCapacity: 1,
    cacheSize: CACHE_SIZE,
    checkSize: 0,
    // Nothing of what lies behind is looked at.
    backing: { read: () => Promise.reject(new Error('Nothing is read from behind a new image')) },
  });
  await engine.run({ kind: RequestKind.Open, flags: RequestFlag.Writable });
  await work(engine);
  await engine.run({ kind: RequestKind.Close });
}

/** Space for `length` bytes of a file that are zeros and behind which there is nothing: allocated, or written. */
export async function fillFile(file: BlockFile, { mode, offset, length, signal }: PreallocateRange): Promise<void> {
  if (mode === 'metadata') return;
  for (let done = 0; done < length; done += BATCH) {
    signal?.throwIfAborted();
    const count = Math.min(BATCH, length - done);
    if (mode === 'falloc') await file.writeZeroes(offset + done, count);
    else {
      const zeroes: Uint8Array[] = [];
      appendZeroes(zeroes, count);
      await file.write(offset + done, zeroes);
    }
  }
  await file.flush();
}
