/**
 * Threads that decompress and compress clusters for the engine's, as many as there is work for. One cluster alone is done
 * where it is wanted: a message there and back would take longer.
 */

import type { BlockFile } from '../host/block-file.js';
import type { Codec, CompressedCluster, CompressionType } from '../host/codec/codec.js';
import { CorralError } from '../host/errors.js';
import { browserCodec } from './browser-codec.js';
import { Caller, type MessageEndpoint } from './calls.js';
import type { CompressCall, DecompressCall } from './codec-worker.js';

export interface CodecPoolOptions {
  /** Starts a worker that calls `serveCodec(self)`. */
  start(): Worker;
  /** Workers at most. Default: as many as there are processors, up to 6. */
  mostWorkers?: number;
}

/** One thread reads and writes no more than so many others decompress. */
const MOST_WORKERS = 6;
/** Jobs that a worker has to have before another one is started. */
const BUSY = 2;
/** Milliseconds after which workers without work end. */
const IDLE_TIME = 10_000;
/** Milliseconds in which a worker has to start. */
const START_TIME = 10_000;

/** Safe whatever happens to the workers: what they do not do is done in the caller's thread, with the same result. */
export class CodecPool implements Codec {
  private readonly workers: CodecWorker[] = [];
  private readonly mostWorkers: number;
  /** Jobs that somebody waits for. */
  private jobs = 0;
  private idle: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: CodecPoolOptions) {
    const processors = globalThis.navigator?.hardwareConcurrency ?? 1;
    const most = options.mostWorkers ?? Math.min(processors, MOST_WORKERS);
    this.mostWorkers = most < 2 ? 0 : most;
  }

  async decompress(type: CompressionType, source: Uint8Array, size: number): Promise<Uint8Array> {
    const call: DecompressCall = { type, source, size };
    return this.run(
      (worker) => worker.call('decompress', call),
      () => browserCodec.decompress(type, source, size),
    );
  }

  async compress(type: CompressionType, source: Uint8Array, level: number | undefined): Promise<Uint8Array> {
    // A message would take all of the memory along that this is a part of, unless that is shared.
    const call = (): CompressCall => ({ type, source: isShared(source) ? source : source.slice(), level });
    return this.run(
      (worker) => worker.call('compress', call()),
      () => browserCodec.compress(type, source, level),
    );
  }

  /** Into shared memory a worker writes by itself. */
  decompressFrom(file: BlockFile, cluster: CompressedCluster, target: Uint8Array): Promise<void> | undefined {
    return isShared(target) ? this.decompressInto(file, cluster, target) : undefined;
  }

  /** Ends the workers; the next work starts others. */
  close(): void {
    clearTimeout(this.idle);
    for (const worker of this.workers.splice(0)) worker.end();
  }

  private async decompressInto(file: BlockFile, cluster: CompressedCluster, target: Uint8Array): Promise<void> {
    const { hostOffset, sourceLength, type, clusterSize: size, skipped } = cluster;
    const source = new Uint8Array(sourceLength);
    await file.read(hostOffset, source);
    const call: DecompressCall = { type, source, size, target, skipped };
    const here = async (): Promise<void> => {
      const bytes = await browserCodec.decompress(type, source, size);
      target.set(bytes.subarray(skipped, skipped + target.length));
    };
    const there = async (worker: CodecWorker): Promise<void> => {
      await worker.call('decompress', call).catch((error: unknown) => {
        // It may still write there, and somebody else may soon use that memory.
        if (worker.hasStarted && isClosed(error))
          throw new CorralError('ERR_IO', { reason: 'A codec worker has failed' });
        throw error;
      });
    };
    await this.run(there, here).catch((error: unknown) => {
      if (error instanceof CorralError) throw error;
      throw new CorralError('ERR_IMAGE_CORRUPT', { cause: error, reason: (error as Error).message });
    });
  }

  private async run<T>(there: (worker: CodecWorker) => Promise<T>, here: () => Promise<T>): Promise<T> {
    this.jobs++;
    clearTimeout(this.idle);
    try {
      // Others may come in the same moment.
      await undefined;
      const worker = this.jobs > 1 ? this.choose() : undefined;
      if (worker === undefined) return await here();
      try {
        return await there(worker);
      } catch (error) {
        if (!isClosed(error)) throw plain(error);
        return await here();
      }
    } finally {
      if (--this.jobs === 0) this.idle = setTimeout(() => this.close(), IDLE_TIME);
    }
  }

  /** The one with the least to do; undefined when there is none. */
  private choose(): CodecWorker | undefined {
    const [least] = this.workers.filter(({ hasEnded }) => !hasEnded).sort((one, other) => one.jobs - other.jobs);
    if (this.workers.length < this.mostWorkers && (least === undefined || least.jobs >= BUSY)) {
      const worker = new CodecWorker(this.options.start);
      this.workers.push(worker);
      return worker.hasEnded ? least : worker;
    }
    return least;
  }
}

/** One that has failed stays in the pool's list: it would fail again. */
class CodecWorker {
  jobs = 0;
  hasStarted = false;
  hasEnded = false;
  private readonly worker: Worker | undefined;
  private readonly caller: Caller | undefined;

  constructor(start: () => Worker) {
    try {
      this.worker = start();
    } catch {
      // A security policy that forbids workers.
      this.hasEnded = true;
      return;
    }
    this.caller = new Caller(this.worker as MessageEndpoint);
    this.worker.addEventListener('error', (event) => {
      event.preventDefault();
      this.end();
    });
    const late = setTimeout(() => this.end(), START_TIME);
    const started = this.caller.call('start', {}).then(() => {
      this.hasStarted = true;
    });
    started.catch(() => undefined).finally(() => clearTimeout(late));
  }

  async call<T>(name: string, args: DecompressCall | CompressCall): Promise<T> {
    this.jobs++;
    try {
      return await (this.caller as Caller).call<T>(name, args);
    } finally {
      this.jobs--;
    }
  }

  /** Whatever it was doing is done by somebody else. */
  end(): void {
    this.hasEnded = true;
    this.worker?.terminate();
    this.caller?.end(new CorralError('ERR_CLOSED', { reason: 'The worker has ended' }));
  }
}

function isShared({ buffer }: Uint8Array): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && buffer instanceof SharedArrayBuffer;
}

function isClosed(error: unknown): boolean {
  return error instanceof CorralError && error.code === 'ERR_CLOSED';
}

/** Damaged data are not the codec's to name: as `Codec` has it. */
function plain(error: unknown): unknown {
  return error instanceof CorralError && error.code === 'ERR_IMAGE_CORRUPT'
    ? new RangeError(String(error.details.reason))
    : error;
}
