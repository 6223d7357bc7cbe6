/** The engine in a worker, so that a page stays smooth, and files of the private file system can be written. */

import { CorralError } from '../host/errors.js';
import type { InspectReport } from '../host/inspect/report.js';
import { answerCalls, Caller, type MessageEndpoint } from './calls.js';
import type { AllowBacking, NamedAddress } from './gates.js';
import {
  type CommitRequest,
  type ConvertRequest,
  type Opened,
  type RemoteCreateOptions,
  type RemoteInspectOptions,
  type RemoteOpenOptions,
  WORKER_NAME,
} from './protocol.js';
import { RemoteImage } from './remote-image.js';
import type { Source } from './source.js';

export interface EngineOptions {
  /**
   * The worker: a module that calls `serveEngine(self)`. Default: this very file, which does that as a worker with this
   * client's name. A page whose security policy must bind the worker gives one that it started from a `blob:` URL.
   */
  worker?: Worker | MessagePort;
  /** The compiled core. Default: the worker fetches `corral.wasm`, which lies beside its file. */
  core?: WebAssembly.Module;
}

interface UrlCallOptions {
  signal?: AbortSignal;
  /** Asked, in this thread, about each file that an image on a server names. Default: none is opened. */
  allowBacking?: AllowBacking;
}

interface LongCallOptions {
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

export class BrowserEngine {
  private constructor(
    private readonly worker: Worker | MessagePort,
    private readonly caller: Caller,
  ) {}

  /** Starts the worker. Rejects with ERR_IO when it, or the core, cannot be loaded. */
  static async start(options: EngineOptions = {}): Promise<BrowserEngine> {
    const worker = options.worker ?? new Worker(new URL(import.meta.url), { type: 'module', name: WORKER_NAME });
    const caller = new Caller(worker as MessageEndpoint);
    const engine = new BrowserEngine(worker, caller);
    if ('start' in worker) worker.start();
    else worker.addEventListener('error', ({ message }) => engine.stop(`The engine's worker has failed: ${message}`));
    await caller.call('start', { core: options.core });
    return engine;
  }

  /** Opens an image. Rejects as `Image.open` does, and as the files of each kind do. */
  async open(source: Source, options: RemoteOpenOptions & UrlCallOptions = {}): Promise<RemoteImage> {
    const { signal, allowBacking, ...rest } = options;
    const opened = await answering(allowBacking, (addresses, transfer) => {
      const args = { source: passing(source), options: { ...rest, addresses } };
      return this.caller.call<Opened>('open', args, { signal, transfer });
    });
    return new RemoteImage(this.caller, opened, !rest.write);
  }

  /** What a file from a stranger is, and whether to accept it. */
  inspect(source: Source, options: RemoteInspectOptions & { signal?: AbortSignal } = {}): Promise<InspectReport> {
    const { signal, ...rest } = options;
    return this.caller.call('inspect', { source: passing(source), options: rest }, { signal });
  }

  /** Makes a new image in an empty file of the private file system. */
  create(target: FileSystemFileHandle, options: RemoteCreateOptions & { signal?: AbortSignal }): Promise<void> {
    const { signal, ...rest } = options;
    return this.caller.call('create', { target, options: rest }, { signal });
  }

  /**
   * Copies a disk from one file into another, in the format that is wanted. What was in the target is lost. An image outside
   * of the private file system is made in there first.
   */
  convert(request: ConvertRequest, options: LongCallOptions & UrlCallOptions = {}): Promise<void> {
    const { allowBacking, ...rest } = options;
    return answering(allowBacking, (addresses, transfer) => {
      const args = { ...request, source: passing(request.source), open: { ...request.open, addresses } };
      return this.caller.call('convert', args, { ...rest, transfer });
    });
  }

  /** Writes what an image has of its disk into its backing file, and empties it; both in the private file system. */
  commit(request: CommitRequest, options: LongCallOptions = {}): Promise<void> {
    return this.caller.call('commit', request, options);
  }

  /** Ends the worker; images that are open for writing and were not closed lose what was not flushed. */
  close(): void {
    this.stop('The engine was closed');
  }

  private stop(reason: string): void {
    this.caller.end(new CorralError('ERR_CLOSED', { reason }));
    if ('terminate' in this.worker) this.worker.terminate();
    else this.worker.close();
  }
}

/** Does something, and meanwhile answers what its worker asks about addresses, over a port that goes there. */
async function answering<T>(
  allow: AllowBacking | undefined,
  work: (port: MessagePort | undefined, transfer: Transferable[]) => Promise<T>,
): Promise<T> {
  if (allow === undefined) return work(undefined, []);
  const { port1: own, port2: addresses } = new MessageChannel();
  answerCalls(own, {
    allow: async (named: NamedAddress) => {
      const allowed = await allow(named);
      // Relative ones begin where the image is, in the worker.
      return allowed === undefined ? undefined : String(allowed);
    },
  });
  own.start();
  try {
    return await work(addresses, [addresses]);
  } finally {
    own.close();
  }
}

/** A URL is no object that passes as a message; relative ones begin at the page, not at the worker. */
function passing(source: Source): Source {
  if (typeof source !== 'string' && !(source instanceof URL)) return source;
  try {
    return new URL(source, globalThis.location?.href).href;
  } catch {
    return String(source); // refused where it is opened
  }
}
