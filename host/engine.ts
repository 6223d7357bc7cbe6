/**
 * Runs one core instance on one `BlockFile`: feeds it requests, carries out its operations, hands the answers back.
 *
 * The core's imports only take notes here; the work is done by `pump`, from outside of the core, so that the core is
 * never entered twice.
 */

import {
  BufferSpace,
  OperationFile,
  OperationKind,
  RequestFlag,
  RequestKind,
  type RequestView,
  Status,
} from './abi.js';
import { appendZeroes, type BlockFile } from './block-file.js';
import type { Codec, CompressionType } from './codec/codec.js';
import { CoreInstance } from './core-instance.js';
import { type Backing, coreConfiguration, type EngineOptions, type FileLengths } from './engine-options.js';
import { CorralError, cancelled, isNoSpace, systemErrorCode } from './errors.js';

/** A request for the core, without its buffer's bytes. Numbers are bytes. */
export interface EngineRequest<T> {
  kind: number;
  flags?: number;
  guestOffset?: number;
  length?: number;
  /** Guest bytes of a read or write; stays the caller's, who must leave it alone until the promise ends. */
  buffer?: Uint8Array;
  signal?: AbortSignal;
  /** Called before the request is submitted: fills the page. */
  prepare?(core: CoreInstance): void;
  /** Called when the request has succeeded, while the page and `record` still belong to it. */
  collect?(core: CoreInstance, record: RequestView): T;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  request: EngineRequest<unknown>;
  onAbort: (() => void) | undefined;
}

/** What whoever is alone with an image can do. */
export interface AloneEngine {
  /** As `Engine.run`. */
  run<T>(request: EngineRequest<T>): Promise<T>;
  /**
   * Closes the image and opens it again with a metadata cache of so many bytes. What the core has counted begins anew. When it
   * fails, the image is open as it was, unless not even that is possible.
   *
   * @param open the request with which the image was opened
   */
  changeCache<T>(cacheSize: number, open: EngineRequest<T>): Promise<T>;
  /** What lies behind the image is read from there from now on. Only for an image that has something there. */
  setBacking(backing: Backing): void;
}

const SECTOR = 512;

export class Engine {
  private instance: CoreInstance;
  private readonly file: BlockFile;
  private readonly dataFile: BlockFile | undefined;
  private readonly codec: Codec | undefined;
  private readonly compressionLevel: number | undefined;
  private readonly ignoresFlushes: boolean;
  private backing: Backing | undefined;
  /** Scratch buffers by number; each is made when it is used first. */
  private readonly scratches: Uint8Array[] = [];
  private readonly pending: (Pending | undefined)[];
  private readonly freeSlots: number[] = [];
  /** Calls that wait for a slot, in the order in which they were made. */
  private readonly queue: Pending[] = [];
  /** Those of whoever is alone with the image: they go first, and `queue` waits. */
  private aloneQueue: Pending[] | undefined;
  /** The image could not be opened again: nothing can be done with it any more. */
  private lost: unknown;
  private readonly idleWaiters: (() => void)[] = [];
  private readonly handedOut: number[] = [];
  /** Operations that were begun and have not ended. */
  private underWay = 0;
  /** The error with which each operation ended last: the `cause` of what the core reports. */
  private readonly causes: unknown[];
  private pumping = false;

  /** Sizes the instance for the file as it is now. */
  static async start(file: BlockFile, options: EngineOptions): Promise<Engine> {
    return new Engine(file, options, await lengthsOf(file, options));
  }

  private constructor(
    file: BlockFile,
    private options: EngineOptions,
    lengths: FileLengths,
  ) {
    this.file = file;
    this.dataFile = options.dataFile;
    this.codec = options.codec;
    this.compressionLevel = options.compressionLevel;
    this.backing = options.backing;
    this.ignoresFlushes = options.ignoresFlushes ?? false;
    const { requestCapacity } = options;
    this.instance = this.makeCore(options, lengths);
    this.pending = new Array(requestCapacity).fill(undefined);
    this.causes = new Array(this.core.layout.operationCapacity).fill(undefined);
    for (let slot = requestCapacity - 1; slot >= 0; slot--) this.freeSlots.push(slot);
  }

  private makeCore(options: EngineOptions, lengths: FileLengths): CoreInstance {
    return new CoreInstance(options.core, coreConfiguration(options, this.file, lengths), {
      submit: (operation) => this.handedOut.push(operation),
      fill: (request, bufferOffset, length) => this.bufferOf(request).fill(0, bufferOffset, bufferOffset + length),
      finish: (request, status) => this.finish(request, status),
    });
  }

  /** The instance that has the image. */
  get core(): CoreInstance {
    return this.instance;
  }

  /**
   * Runs one request to its end. Rejects with a `CorralError`. Requests reach the core in the order of the calls, also
   * when they have to wait for a slot: overlapping ones rely on it.
   */
  run<T>(request: EngineRequest<T>): Promise<T> {
    return this.enqueue(this.queue, request);
  }

  private enqueue<T>(queue: Pending[], request: EngineRequest<T>): Promise<T> {
    return new Promise<unknown>((resolve, reject) => {
      queue.push({ resolve, reject, request, onAbort: undefined });
      this.pump();
    }) as Promise<T>;
  }

  /** Ends when no request is in the core or waits for it. */
  async idle(): Promise<void> {
    while (this.aloneQueue !== undefined || this.queue.length > 0 || this.isBusy) await this.nextEnd();
  }

  private get isBusy(): boolean {
    return this.freeSlots.length < this.pending.length;
  }

  private nextEnd(): Promise<void> {
    return new Promise((resolve) => this.idleWaiters.push(resolve));
  }

  /**
   * Runs work while nobody else has a request in the core: what was asked before has ended, and what is asked meanwhile
   * waits, in its order, until the work has ended. One at a time: the caller sees to that. Settles as the work does.
   */
  async alone<T>(work: (engine: AloneEngine) => Promise<T>): Promise<T> {
    const queue: Pending[] = [];
    const run: Engine['run'] = (request) => this.enqueue(queue, request);
    this.aloneQueue = queue;
    try {
      while (this.isBusy) await this.nextEnd();
      return await work({
        run,
        changeCache: (cacheSize, open) => this.changeCache(cacheSize, open, run),
        setBacking: (backing) => {
          this.backing = backing;
        },
      });
    } finally {
      this.aloneQueue = undefined;
      this.pump();
      this.tellIdle();
    }
  }

  private async changeCache<T>(cacheSize: number, open: EngineRequest<T>, run: Engine['run']): Promise<T> {
    const { options } = this;
    const changed = { ...options, cacheSize };
    // Ahead of everything else: so much memory may not be there.
    const lengths = await lengthsOf(this.file, options);
    const next = this.makeCore(changed, lengths);
    if (((open.flags ?? 0) & RequestFlag.Writable) !== 0) {
      // What must not be written any more would be forgotten. Such a request changes nothing else.
      await run({ kind: RequestKind.WriteZeroes });
      await run({ kind: RequestKind.Close });
    }
    try {
      const opened = await this.openIn(next, open, run);
      this.options = changed;
      return opened;
    } catch (error) {
      // A small cache has no room for as many bitmaps.
      await this.openIn(this.makeCore(options, lengths), open, run).catch((again: unknown) => {
        this.lost = again;
      });
      throw error;
    }
  }

  private async openIn<T>(core: CoreInstance, open: EngineRequest<T>, run: Engine['run']): Promise<T> {
    // A table may be on its way for a request that was given up.
    while (this.underWay > 0) await this.nextEnd();
    core.setFileLengths(await lengthsOf(this.file, this.options));
    this.instance = core;
    this.causes.fill(undefined);
    return run(open);
  }

  private submit(slot: number, pending: Pending): void {
    const { request } = pending;
    const record = this.core.request(slot);
    record.kind = request.kind;
    record.flags = request.flags ?? 0;
    record.guestOffset = request.guestOffset ?? 0;
    record.length = request.length ?? request.buffer?.length ?? 0;
    record.result = 0;
    record.progress = 0;
    record.progressTotal = 0;
    request.prepare?.(this.core);
    if (request.signal !== undefined) {
      pending.onAbort = () => void this.core.cancel(slot);
      request.signal.addEventListener('abort', pending.onAbort, { once: true });
    }
    this.pending[slot] = pending;
    const status = this.core.submit(slot);
    if (status !== Status.Ok) throw new CorralError('ERR_INTERNAL', { reason: `The core refused slot ${slot}` });
  }

  /** Called by the core; takes the answer while the records belong to the request. */
  private finish(slot: number, status: Status): void {
    const pending = this.pending[slot] as Pending;
    this.pending[slot] = undefined;
    this.freeSlots.push(slot);
    if (pending.onAbort !== undefined) pending.request.signal?.removeEventListener('abort', pending.onAbort);
    if (status === Status.Ok) {
      this.collect(slot, pending);
    } else {
      const operation = this.core.failure.operation;
      pending.reject(this.core.failureError(status, this.causes[operation]));
    }
    this.tellIdle();
  }

  private tellIdle(): void {
    for (const resolve of this.idleWaiters.splice(0)) resolve();
  }

  /** Nothing may be thrown into the core. */
  private collect(slot: number, { request, resolve, reject }: Pending): void {
    try {
      resolve(request.collect?.(this.core, this.core.request(slot)));
    } catch (error) {
      reject(new CorralError('ERR_INTERNAL', { cause: error, reason: (error as Error).message }));
    }
  }

  /** Starts everything that the core has handed out, and every request that there is a slot for. */
  private pump(): void {
    if (this.pumping) return;
    this.pumping = true;
    while (true) {
      const operation = this.handedOut.shift();
      if (operation !== undefined) this.start(operation);
      else if (!this.startRequest()) break;
    }
    this.pumping = false;
  }

  /** False when nobody waits for a slot, or there is none. */
  private startRequest(): boolean {
    if (this.freeSlots.length === 0) return false;
    const pending = (this.aloneQueue ?? this.queue).shift();
    if (pending === undefined) return false;
    if (pending.request.signal?.aborted) pending.reject(cancelled(pending.request.signal));
    else if (this.lost !== undefined) pending.reject(lostError(this.lost));
    else this.submit(this.freeSlots.pop() as number, pending);
    return true;
  }

  private start(operation: number): void {
    this.underWay++;
    this.carryOut(operation).then(
      () => this.answer(operation, Status.Ok, undefined),
      (error: unknown) => {
        this.answer(operation, statusOf(error), error);
      },
    );
  }

  private answer(operation: number, status: Status, cause: unknown): void {
    this.causes[operation] = cause;
    this.underWay--;
    this.core.complete(operation, status);
    this.pump();
    if (this.underWay === 0) this.tellIdle();
  }

  /** Numbers that this host cannot represent are the image's: they end like any other error. */
  private async carryOut(index: number): Promise<void> {
    const operation = this.core.operation(index);
    const { kind, hostOffset, length } = operation;
    const file = this.fileOf(operation.file);
    switch (kind) {
      case OperationKind.Read:
        return file.read(hostOffset, this.spaceOf(index));
      case OperationKind.Write:
        return file.write(hostOffset, this.piecesOf(index));
      case OperationKind.ReadBacking:
        return this.readBacking(index);
      case OperationKind.Decompress:
        return this.decompress(index);
      case OperationKind.Compress:
        return this.compress(index);
      case OperationKind.WriteZeroes:
        return file.writeZeroes(hostOffset, length);
      case OperationKind.Discard:
        return file.discard(hostOffset, length);
      case OperationKind.Flush:
        return this.flush();
      case OperationKind.Truncate:
        return file.truncate(hostOffset);
      default:
        throw new CorralError('ERR_INTERNAL', { reason: `The core asked for operation kind ${kind}` });
    }
  }

  /** What a write consists of: the buffer's bytes, and zeros or bytes of a scratch buffer around them. */
  private piecesOf(index: number): Uint8Array[] {
    const { zeroBefore, zeroAfter, edges, sourceOffset } = this.core.operation(index);
    const middle = this.spaceOf(index);
    if (edges !== 0) {
      const scratch = this.scratch(edges - 1);
      const head = scratch.subarray(sourceOffset, sourceOffset + zeroBefore);
      return [head, middle, scratch.subarray(scratch.length - zeroAfter)];
    }
    const pieces: Uint8Array[] = [];
    appendZeroes(pieces, zeroBefore);
    pieces.push(middle);
    appendZeroes(pieces, zeroAfter);
    return pieces;
  }

  private async readBacking(index: number): Promise<void> {
    const { space, request, hostOffset, bufferOffset, length, zeroAfter } = this.core.operation(index);
    const target = this.bytesOf(space, request, bufferOffset, length + zeroAfter);
    target.fill(0, length);
    if (length > 0) await (this.backing as Backing).read(hostOffset, target.subarray(0, length));
  }

  /** Guest data first: nothing in the image may be durable that speaks of bytes which are not. */
  private async flush(): Promise<void> {
    if (this.ignoresFlushes) return;
    await this.dataFile?.flush();
    await this.file.flush();
  }

  private fileOf(file: number): BlockFile {
    return file === OperationFile.Data ? (this.dataFile as BlockFile) : this.file;
  }

  private async decompress(index: number): Promise<void> {
    const { hostOffset, sourceOffset, sourceLength, length } = this.core.operation(index);
    const target = this.spaceOf(index);
    const { clusterBits, compressionType } = this.core.info;
    const type = compressionType === 1 ? 'zstd' : 'zlib';
    const codec = this.codec as Codec;
    const clusterSize = 2 ** clusterBits;
    const place = { type, hostOffset, sourceLength, clusterSize, skipped: sourceOffset } as const;
    const filled = codec.decompressFrom?.(this.file, place, target);
    if (filled !== undefined) return filled;
    const source = new Uint8Array(sourceLength);
    await this.file.read(hostOffset, source);
    const cluster = await codec.decompress(type, source, clusterSize).catch((error: unknown) => {
      throw new CorralError('ERR_IMAGE_CORRUPT', { cause: error, reason: (error as Error).message });
    });
    target.set(cluster.subarray(sourceOffset, sourceOffset + length));
  }

  private async compress(index: number): Promise<void> {
    const operation = this.core.operation(index);
    const { edges, length } = operation;
    const { clusterBits, compressionType } = this.core.info;
    const clusterSize = 2 ** clusterBits;
    let source = this.spaceOf(index);
    if (length < clusterSize) {
      const padded = new Uint8Array(clusterSize);
      padded.set(source);
      source = padded;
    }
    const compressed = await this.compressTo(this.scratch(edges - 1), source, compressionType === 1 ? 'zstd' : 'zlib');
    this.core.operation(index).sourceLength = compressed;
  }

  /** The compressed bytes, and zeros up to a whole sector. Returns how many they are; 0 when nothing would be saved. */
  private async compressTo(target: Uint8Array, source: Uint8Array, type: CompressionType): Promise<number> {
    const codec = this.codec as Required<Codec>;
    // Less than a cluster, in whole sectors.
    const room = target.subarray(0, source.length - SECTOR);
    const filled = await codec.compressInto?.(type, source, room, this.compressionLevel);
    let length = filled ?? 0;
    if (filled === undefined) {
      const result = await codec.compress(type, source, this.compressionLevel);
      if (result.length > room.length) return 0;
      target.set(result);
      length = result.length;
    }
    target.fill(0, length, roundUp(length, SECTOR));
    return length;
  }

  /** The bytes that an operation names. */
  private spaceOf(index: number): Uint8Array {
    const { space, bufferOffset, length, request } = this.core.operation(index);
    return this.bytesOf(space, request, bufferOffset, length);
  }

  private bytesOf(space: number, number: number, bufferOffset: number, length: number): Uint8Array {
    if (space === BufferSpace.Module) return this.core.bytes(bufferOffset, length);
    const buffer = space === BufferSpace.Scratch ? this.scratch(number) : this.bufferOf(number);
    return buffer.subarray(bufferOffset, bufferOffset + length);
  }

  private scratch(number: number): Uint8Array {
    this.scratches[number] ??= new Uint8Array(2 * 2 ** this.core.info.clusterBits);
    return this.scratches[number];
  }

  private bufferOf(slot: number): Uint8Array {
    return this.pending[slot]?.request.buffer ?? new Uint8Array(0);
  }
}

async function lengthsOf(file: BlockFile, { dataFile }: EngineOptions): Promise<FileLengths> {
  return { fileLength: await file.size(), dataFileLength: await dataFile?.size() };
}

function lostError(cause: unknown): CorralError {
  const reason = `The image could not be opened again: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new CorralError('ERR_CLOSED', { reason, cause });
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** What the core is told of a host's error. */
function statusOf(error: unknown): Status {
  if (isNoSpace(error)) return Status.NoSpace;
  return systemErrorCode(error) === 'ERR_IMAGE_CORRUPT' ? Status.Corrupt : Status.InputOutput;
}
