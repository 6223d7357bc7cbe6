/** One instance of the core: its memory, its records and its exports. Knows nothing of files. */

import { type ASUtil, instantiateSync } from '@assemblyscript/loader';
import {
  ABI_HASH,
  ConfigurationFlag,
  ConfigurationView,
  FailureView,
  ImageInfoView,
  LayoutView,
  OperationView,
  RequestView,
  StatisticsView,
  type Status,
} from './abi.js';
import { CorralError } from './errors.js';
import { errorFromFailure } from './failure-text.js';
import { overlapBits } from './overlap-check.js';

const OPERATION_SIZE = 64;
const REQUEST_SIZE = 64;
const LARGEST_SIZE = 2 ** 32 - 1;

/**
 * What the core asks for. Called from inside of `submit` and `complete`, as plain functions without `this`: a handler
 * takes notes and returns; it must not call the instance.
 */
export interface CoreHandlers {
  /** Carry out operation record `operation`; answer with `complete`, later. */
  submit(operation: number): void;
  /** Zero `length` bytes at `bufferOffset` of the buffer of request `request`, before anything that comes later. */
  fill(request: number, bufferOffset: number, length: number): void;
  /** Request `request` is done. The failure record belongs to it until the handler returns. */
  finish(request: number, status: Status): void;
}

/**
 * Which clusters that become free are discarded in the file, so that it gets their space back: all, unless said otherwise.
 * A discard goes ahead of the refcount's change, and costs one operation for many clusters that become free together.
 */
export interface PassDiscard {
  /** What the guest discards, or unmaps when it writes zeros. */
  request?: boolean;
  /** What becomes free with a snapshot. */
  snapshot?: boolean;
  /** Everything else: clusters that were copied, tables that moved. */
  other?: boolean;
}

/** Sizes are bytes. */
export interface CoreConfiguration {
  /** Requests at once, 1 to 16385. */
  requestCapacity: number;
  /** Metadata cache; raised to what `requestCapacity` needs. */
  cacheSize: number;
  /** Memory for counting references in a check; 0 when the instance will not check. */
  checkSize: number;
  /** Bytes of the image file now. */
  fileLength: number;
  /** What lies beyond the end of the file reads as zeros once it grows. */
  zeroBeyondEnd: boolean;
  /** The host carries out Decompress operations; else compressed clusters are refused by name. */
  decompresses?: boolean;
  /** The host carries out Compress operations; else compressed writes are refused by name. */
  compresses?: boolean;
  /** The host has scratch buffers; else parts of shared, compressed and backed clusters cannot be written. */
  scratch?: boolean;
  /** The host carries out ReadBacking operations; else images with a backing file are refused by name. */
  backing?: boolean;
  /** Bytes of the image's external data file now, which the host has opened. */
  dataFileLength?: number;
  /** Lazy refcounts, or none, whatever the image's header says. */
  lazyRefcounts?: boolean;
  /** Discarded clusters keep their host clusters, in version 3. */
  keepDiscarded?: boolean | undefined;
  /** When the file is told that clusters became free. */
  passDiscard?: PassDiscard | undefined;
  /** OverlapCheck bits; default: as QEMU's "cached". */
  overlapChecks?: number;
}

interface CoreExports extends Record<string, unknown> {
  memory: WebAssembly.Memory;
  abiHash(): number;
  configuration(): number;
  configure(): number;
  submit(slot: number): Status;
  complete(operation: number, status: Status): Status;
  cancel(slot: number): Status;
  statistics(): void;
}

/** Memory that instances in several threads share; whoever calls one of them has to see to it that nobody else does. */
export interface SharedMemory {
  readonly memory: WebAssembly.Memory;
  /** Of an instance that has been configured. */
  readonly layoutAddress?: number | undefined;
}

/** Addresses and counts of the shared records. */
export interface CoreLayout {
  readonly requests: number;
  readonly requestCapacity: number;
  readonly operations: number;
  readonly operationCapacity: number;
  readonly failure: number;
  readonly info: number;
  readonly page: number;
  readonly statistics: number;
}

export class CoreInstance {
  /** The module's memory. It does not grow after the constructor, so views of it stay valid. */
  readonly memory: ArrayBuffer;
  readonly layout: CoreLayout;
  /** For other instances on the same memory. */
  readonly layoutAddress: number;
  readonly failure: FailureView;
  readonly info: ImageInfoView;
  readonly submit: (slot: number) => Status;
  readonly complete: (operation: number, status: Status) => Status;
  readonly cancel: (slot: number) => Status;
  private readonly requestView: RequestView;
  private readonly operationView: OperationView;
  private readonly exports: CoreExports;

  /**
   * Throws ERR_TOO_LARGE when the memory cannot be had, ERR_INTERNAL when the module belongs to another version.
   *
   * @param shared of a module whose memory several threads share: the memory, and where the layout lies once the first
   * instance of it has been configured: the others take that one's
   */
  constructor(
    module: WebAssembly.Module,
    configuration: CoreConfiguration,
    handlers: CoreHandlers,
    shared?: SharedMemory,
  ) {
    const { submit, fill, finish } = handlers;
    const unsignedFill = (request: number, bufferOffset: number, length: number) =>
      fill(request, bufferOffset >>> 0, length >>> 0);
    // The two hot ones are handed over as they are: a wrapper would cost as much as the call.
    const instance = instantiateSync<CoreExports & ASUtil>(module, {
      block: { submit, fill: unsignedFill, finish },
      ...(shared && { env: { memory: shared.memory } }),
    });
    const exports = instance.exports as CoreExports;
    if (exports.abiHash() >>> 0 !== ABI_HASH) {
      throw new CorralError('ERR_INTERNAL', {
        reason: 'The core and the host were built from different sources: build again',
      });
    }
    this.exports = exports;
    this.layoutAddress = shared?.layoutAddress ?? configure(exports, configuration);
    const { layoutAddress } = this;
    this.memory = exports.memory.buffer as ArrayBuffer;
    this.layout = readLayout(this.memory, layoutAddress);
    this.failure = new FailureView(this.memory, this.layout.failure);
    this.info = new ImageInfoView(this.memory, this.layout.info);
    this.requestView = new RequestView(this.memory, this.layout.requests);
    this.operationView = new OperationView(this.memory, this.layout.operations);
    this.submit = exports.submit;
    this.complete = exports.complete;
    this.cancel = exports.cancel;
  }

  /** The record of request `slot`; one view for all slots: use it at once. */
  request(slot: number): RequestView {
    return this.requestView.at(this.layout.requests + slot * REQUEST_SIZE);
  }

  /** The record of operation `index`; one view for all: use it at once. */
  operation(index: number): OperationView {
    return this.operationView.at(this.layout.operations + index * OPERATION_SIZE);
  }

  /** Bytes of the module's memory; a view, not a copy. */
  bytes(address: number, length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory, address, length);
  }

  /** The error behind a status that `finish` was called with. Only inside that call. */
  failureError(status: Status, cause?: unknown): CorralError {
    return errorFromFailure(status, this.failure, decodeName(this.failureName()), cause);
  }

  /** The name in the failure record. Only inside of `finish`. */
  failureName(): Uint8Array {
    return this.bytes(this.failure.nameAddress, this.failure.nameLength);
  }

  /** Counters since open. */
  statistics(): StatisticsView {
    this.exports.statistics();
    return new StatisticsView(this.memory, this.layout.statistics);
  }

  /** The files have become this long since the instance was made. Only before it opens the image. */
  setFileLengths({ fileLength, dataFileLength }: { fileLength: number; dataFileLength?: number | undefined }): void {
    const view = new ConfigurationView(this.memory, this.exports.configuration());
    view.fileLength = fileLength;
    view.dataFileLength = dataFileLength ?? 0;
  }
}

/** A name from the image as text; bytes that are not UTF-8 become U+FFFD. */
export function decodeName(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes.slice());
}

/** Returns the address of the layout. */
function configure(exports: CoreExports, configuration: CoreConfiguration): number {
  // The record has 32 bits for them.
  for (const size of [configuration.cacheSize, configuration.checkSize]) {
    if (size > LARGEST_SIZE) throw tooLarge(configuration);
  }
  const view = new ConfigurationView(exports.memory.buffer, exports.configuration());
  view.requestCapacity = configuration.requestCapacity;
  view.cacheSize = configuration.cacheSize;
  view.checkSize = configuration.checkSize;
  view.flags =
    (configuration.zeroBeyondEnd ? ConfigurationFlag.ZeroBeyondEnd : 0) |
    (configuration.decompresses ? ConfigurationFlag.Decompresses : 0) |
    (configuration.compresses ? ConfigurationFlag.Compresses : 0) |
    (configuration.scratch ? ConfigurationFlag.Scratch : 0) |
    (configuration.backing ? ConfigurationFlag.Backing : 0) |
    (configuration.dataFileLength !== undefined ? ConfigurationFlag.DataFile : 0) |
    (configuration.keepDiscarded ? ConfigurationFlag.KeepDiscarded : 0) |
    discardFlags(configuration.passDiscard) |
    refcountFlag(configuration.lazyRefcounts);
  view.overlapChecks = configuration.overlapChecks ?? overlapBits('cached');
  view.fileLength = configuration.fileLength;
  view.dataFileLength = configuration.dataFileLength ?? 0;
  const layoutAddress = exports.configure();
  if (layoutAddress !== 0) return layoutAddress;
  throw tooLarge(configuration);
}

function tooLarge(configuration: CoreConfiguration): CorralError {
  const reason = 'Not enough memory for this many requests and this cache size';
  return new CorralError('ERR_TOO_LARGE', { ...configuration, reason });
}

function discardFlags({ request = true, snapshot = true, other = true }: PassDiscard = {}): number {
  return (
    (request ? ConfigurationFlag.DiscardRequest : 0) |
    (snapshot ? ConfigurationFlag.DiscardSnapshot : 0) |
    (other ? ConfigurationFlag.DiscardOther : 0)
  );
}

function refcountFlag(lazy: boolean | undefined): number {
  if (lazy === undefined) return 0;
  return lazy ? ConfigurationFlag.LazyRefcounts : ConfigurationFlag.EagerRefcounts;
}

function readLayout(memory: ArrayBuffer, address: number): CoreLayout {
  const view = new LayoutView(memory, address);
  return {
    requests: view.requests,
    requestCapacity: view.requestCapacity,
    operations: view.operations,
    operationCapacity: view.operationCapacity,
    failure: view.failure,
    info: view.info,
    page: view.page,
    statistics: view.statistics,
  };
}
