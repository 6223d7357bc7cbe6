/** What an engine is made from, and what becomes of it: the configuration of a core. */

import type { BlockFile } from './block-file.js';
import type { Codec } from './codec/codec.js';
import type { CoreConfiguration, PassDiscard } from './core-instance.js';

export interface EngineOptions {
  core: WebAssembly.Module;
  requestCapacity: number;
  cacheSize: number;
  checkSize: number;
  /** Decompresses clusters; without it they are refused by name. */
  codec?: Codec;
  /** For writes that compress; the library's default when undefined. */
  compressionLevel?: number;
  /** What lies behind the image; without it images with a backing file are refused by name. */
  backing?: Backing;
  /** The image's external data file; without it images that have one are refused by name. */
  dataFile?: BlockFile;
  /** Lazy refcounts, or none, whatever the image's header says. */
  lazyRefcounts?: boolean | undefined;
  /** Nothing is made durable: flushes of the core are answered at once. */
  ignoresFlushes?: boolean;
  /** Discarded clusters keep their host clusters. */
  keepDiscarded?: boolean | undefined;
  /** Which clusters that become free are discarded in the file. */
  passDiscard?: PassDiscard | undefined;
  /** OverlapCheck bits. */
  overlapChecks?: number | undefined;
}

/** The disk behind an image: what the image has not allocated is read from there. */
export interface Backing {
  /** Fills the target with guest bytes from `offset` on; zeros behind the end of the disk. */
  read(offset: number, target: Uint8Array): Promise<void>;
}

/** Bytes of the files of an image. */
export interface FileLengths {
  fileLength: number;
  dataFileLength: number | undefined;
}

/** Of a core for an image in such files. */
export function coreConfiguration(
  options: EngineOptions,
  { zeroBeyondEnd }: BlockFile,
  lengths: FileLengths,
): CoreConfiguration {
  const { requestCapacity, cacheSize, checkSize, codec, lazyRefcounts, keepDiscarded, passDiscard, overlapChecks } =
    options;
  const abilities = {
    decompresses: codec !== undefined,
    compresses: codec?.compress !== undefined,
    scratch: true,
    backing: options.backing !== undefined,
  };
  const treatment = { lazyRefcounts, keepDiscarded, passDiscard, overlapChecks };
  return { requestCapacity, cacheSize, checkSize, zeroBeyondEnd, ...lengths, ...abilities, ...treatment };
}
