/** What may be said when an image is opened, and what becomes of it: an engine, a request, limits. */

import { RequestFlag, RequestKind } from './abi.js';
import type { BlockFile } from './block-file.js';
import type { CacheMode } from './cache-mode.js';
import { type CacheSizeOptions, cacheSizeOf, checkEntrySize } from './cache-size.js';
import type { ChainOptions } from './chain.js';
import { type Codec, checkLevel } from './codec/codec.js';
import { portableCodec } from './codec/portable-codec.js';
import type { CoreInstance, PassDiscard } from './core-instance.js';
import type { EngineRequest } from './engine.js';
import type { EngineOptions } from './engine-options.js';
import { CorralError } from './errors.js';
import { type ImageFacts, readFacts } from './image-facts.js';
import { type OverlapCheckOption, overlapBits } from './overlap-check.js';
import { type SnapshotSelection, writeSelection } from './snapshot-record.js';

const DEFAULT_REQUESTS = 64;
/** Layers behind an image get less, as there may be many. */
const LAYER_CACHE_SIZE = 1024 * 1024;
const LAYER_REQUESTS = 16;
/** What many images have behind them gets more. */
const SHARED_CACHE_SIZE = 4 * 1024 * 1024;

export interface OpenOptions extends ChainOptions, CacheSizeOptions {
  /** The compiled core: `loadCore()` on Node, `WebAssembly.compileStreaming` elsewhere. */
  core: WebAssembly.Module;
  /** Open for writing. Default: reading. */
  write?: boolean;
  /** Only the header: `info` works, whatever features the image has; nothing else does. */
  inspect?: boolean;
  /**
   * Only tables will be read or changed (`check`, `map`, `amend`, bitmaps, lists): a missing backing or data file does not
   * matter, nor does encryption, for which no key is needed. Calls about guest data are refused.
   */
  tablesOnly?: boolean;
  /** Read this internal snapshot instead of the disk as it is; not with `write`. A text is an id, or else a name. */
  snapshot?: string | SnapshotSelection;
  /** When writes are durable. Default: writeback. Past the page cache is only who has opened the file so: `openImage`. */
  cache?: CacheMode;
  /** Bytes for counting references in `check`; 0, the default, when it will not be called. */
  checkSize?: number;
  /** Decompresses clusters. Default: fflate and fzstd, on the calling thread. */
  codec?: Codec;
  /** Level of compressed writes: zlib 1 to 9, zstd 1 to 19. Default: that of the library. */
  compressionLevel?: number;
  /**
   * The external data file, opened by the caller, instead of the one that the image names. Default: the gate opens that.
   */
  dataFile?: BlockFile;
  /** Requests at once, 1 to 4096, default 64; more calls than that wait. */
  requestCapacity?: number;
  /**
   * Whether flushes may leave refcounts behind, to be counted anew after a crash; default: what the image's header says.
   * Only of version 3.
   */
  lazyRefcounts?: boolean;
  /**
   * Discarded clusters, and zeros that may be unmapped, keep their host clusters as reserved ones: the image does not
   * fragment, and its file is not reused for something else. Only of version 3. Default: they become free.
   */
  discardNoUnref?: boolean;
  /** Which clusters that become free are discarded in the file; default: all. */
  passDiscard?: PassDiscard;
  /**
   * Which metadata every write is checked against: a level of QEMU's, or a level and structures that differ from it.
   * Default: cached. What the cache holds is checked always.
   */
  overlapCheck?: OverlapCheckOption;
  signal?: AbortSignal;
}

/** The engine that an image gets. */
export function engineOptionsOf(options: OpenOptions): EngineOptions {
  return {
    core: options.core,
    dataFile: options.dataFile,
    requestCapacity: options.requestCapacity ?? DEFAULT_REQUESTS,
    cacheSize: cacheSizeOf(options),
    checkSize: options.checkSize ?? 0,
    codec: options.codec ?? portableCodec,
    compressionLevel: options.compressionLevel,
    lazyRefcounts: options.lazyRefcounts,
    ignoresFlushes: options.cache === 'unsafe',
    keepDiscarded: options.discardNoUnref,
    passDiscard: options.passDiscard,
    overlapChecks: overlapBits(options.overlapCheck ?? 'cached'),
  };
}

/** The first request of an image. A snapshot that is named by a text is left out: whose name it is has to be tried. */
export function openRequest(options: OpenOptions, write: boolean): EngineRequest<ImageFacts> {
  const snapshot = typeof options.snapshot === 'string' ? undefined : options.snapshot;
  const flags =
    (write ? RequestFlag.Writable : 0) |
    (options.inspect ? RequestFlag.Inspect : 0) |
    (options.tablesOnly ? RequestFlag.TablesOnly : 0) |
    (snapshot === undefined ? 0 : RequestFlag.Snapshot);
  return {
    kind: RequestKind.Open,
    flags,
    signal: options.signal,
    prepare: (core: CoreInstance) => {
      if (snapshot !== undefined) writeSelection(core, snapshot);
    },
    collect: readFacts,
  };
}

/** The core refused an image because it has this, and the host has not opened it. */
export function isAbout(error: unknown, field: 'backing file' | 'external data file'): boolean {
  return error instanceof CorralError && error.code === 'ERR_UNSUPPORTED' && error.details.field === field;
}

/** How layers behind an image are opened: only to be read, and as they are now. */
export function layerOptions(options: OpenOptions): OpenOptions {
  const { core, codec, gate, chainDepth, signal, backing, layers } = options;
  const chain = { gate, chainDepth, layers, backing: backing === null ? undefined : backing?.backing };
  if (layers === undefined)
    return { core, codec, signal, ...chain, cacheSize: LAYER_CACHE_SIZE, requestCapacity: LAYER_REQUESTS };
  // Whoever waits for it, too, has not given up when the first one does.
  return { core, codec, ...chain, cacheSize: SHARED_CACHE_SIZE, requestCapacity: DEFAULT_REQUESTS };
}

/** What an image may not be for this host and these options. */
export function checkFacts(facts: ImageFacts, options: OpenOptions): void {
  const { version, clusterSize, virtualSize, hasDataFile, compressionType } = facts;
  checkEntrySize(options.l2CacheEntrySize, clusterSize);
  if (!options.inspect && !Number.isSafeInteger(virtualSize)) {
    throw new CorralError('ERR_TOO_LARGE', { reason: `A disk of ${virtualSize} bytes is too large for this host` });
  }
  if (options.dataFile !== undefined && !hasDataFile) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: "'data-file' can only be set for images with an external data file",
    });
  }
  if (options.lazyRefcounts && version < 3) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: 'Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level',
    });
  }
  if (options.discardNoUnref && version < 3) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: 'discard-no-unref is only supported since qcow2 version 3',
    });
  }
  checkLevel(compressionType, options.compressionLevel);
}
