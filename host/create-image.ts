/** What a new image will be, and how the core is told. */

import { CREATE_NAMES_OFFSET, CreateFlag, CreateOptionsView, RequestKind } from './abi.js';
import type { BlockFile } from './block-file.js';
import type { CoreInstance } from './core-instance.js';
import type { EngineRequest } from './engine.js';
import { CorralError } from './errors.js';
import { fillFile, type Preallocation, preallocateNew } from './preallocate.js';

/** Bytes of the longest name that a header may hold. */
const MAXIMUM_NAME_LENGTH = 1023;

export interface CreateImageOptions {
  core: WebAssembly.Module;
  /** Bytes, rounded up to 512. */
  virtualSize: number | bigint;
  /** Bytes, a power of two from 512 to 2 MiB; default 65536. */
  clusterSize?: number;
  /** '0.10' is version 2, '1.1' version 3, the default. */
  compat?: '0.10' | '1.1';
  lazyRefcounts?: boolean;
  /** 1, 2, 4, 8, 16 (default), 32 or 64. */
  refcountBits?: number;
  /** Subclusters; clusters of at least 16 KiB. */
  extendedL2?: boolean;
  compressionType?: 'zlib' | 'zstd';
  /** Name of the file that the disk continues from, as it is stored; nothing is opened here. */
  backingFile?: string;
  backingFormat?: string;
  /** Name of the file that holds the guest's data, as it is stored; making it is the caller's. */
  dataFile?: string;
  /** The data file is a raw image at any time. */
  dataFileRaw?: boolean;
  /** Default: off. Over a backing file only with `extendedL2`. */
  preallocation?: Preallocation;
  /** The data file itself, empty and opened by the caller, whose it stays: preallocation needs it. */
  data?: BlockFile;
  signal?: AbortSignal;
}

/** The request that makes it. Throws ERR_INVALID_ARGUMENT for what cannot be told; the core refuses the rest. */
export function createRequest(options: CreateImageOptions): EngineRequest<void> {
  const clusterBits = powerOfTwo(options.clusterSize ?? 65536, 'cluster size');
  const refcountOrder = powerOfTwo(options.refcountBits ?? 16, 'refcount width');
  const names = [options.backingFile, options.backingFormat, options.dataFile].map(encodeName);
  return {
    kind: RequestKind.Create,
    signal: options.signal,
    prepare(core) {
      const view = new CreateOptionsView(core.memory, core.layout.page);
      view.virtualSizeBig = (BigInt(options.virtualSize) + 511n) & ~511n;
      view.version = options.compat === '0.10' ? 2 : 3;
      view.clusterBits = clusterBits;
      view.refcountOrder = refcountOrder;
      view.flags =
        (options.lazyRefcounts ? CreateFlag.LazyRefcounts : 0) |
        (options.extendedL2 ? CreateFlag.ExtendedL2 : 0) |
        (options.dataFile === undefined ? 0 : CreateFlag.DataFile) |
        (options.dataFileRaw ? CreateFlag.DataFileRaw : 0);
      view.compressionType = options.compressionType === 'zstd' ? 1 : 0;
      [view.backingFileLength, view.backingFormatLength, view.dataFileLength] = writeNames(core, names);
    },
  };
}

/** Refuses combinations of preallocation that make no sense, before anything is written. */
export function checkPreallocation(options: CreateImageOptions): void {
  const { preallocation = 'off', backingFile, extendedL2, dataFile, data } = options;
  if (preallocation === 'off') return;
  if (backingFile !== undefined && !extendedL2) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: 'Backing file and preallocation can only be used at the same time if extended_l2 is on',
    });
  }
  if (dataFile !== undefined && data === undefined) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'Preallocation needs the data file itself' });
  }
}

/** What `preallocation` asks for, in the image that has just been made in `file`. */
export async function preallocateCreated(file: BlockFile, options: CreateImageOptions): Promise<void> {
  const { core, preallocation = 'off', data, dataFileRaw, signal } = options;
  if (preallocation === 'off') return;
  const length = Number((BigInt(options.virtualSize) + 511n) & ~511n);
  const range = { mode: preallocation, offset: 0, length, signal };
  if (!dataFileRaw || data === undefined) await preallocateNew({ core, file, data }, range);
  // A raw data file is mapped from the beginning: what is left is space in it.
  else await fillFile(data, range);
}

/** A name as the bytes that a header holds. Throws ERR_INVALID_ARGUMENT when it is too long. */
export function encodeName(name: string | undefined): Uint8Array {
  const bytes = new TextEncoder().encode(name ?? '');
  if (bytes.length <= MAXIMUM_NAME_LENGTH) return bytes;
  throw new CorralError('ERR_INVALID_ARGUMENT', {
    reason: `A name of ${bytes.length} bytes is too long for a header: at most ${MAXIMUM_NAME_LENGTH}`,
  });
}

/** Puts names where the core looks for them, one behind the other; returns their lengths. */
function writeNames(core: CoreInstance, names: readonly Uint8Array[]): [number, number, number] {
  let offset = core.layout.page + CREATE_NAMES_OFFSET;
  for (const name of names) {
    core.bytes(offset, name.length).set(name);
    offset += name.length;
  }
  return names.map(({ length }) => length) as [number, number, number];
}

/** log2 of a size that must be a power of two. */
export function powerOfTwo(value: number, what: string): number {
  const bits = Math.log2(value);
  if (!Number.isInteger(bits) || bits < 0) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `The ${what} must be a power of two, not ${value}` });
  }
  return bits;
}
