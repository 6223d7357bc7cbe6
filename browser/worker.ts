/** The engine behind a client: images that stay here, and the calls of `client.ts`. */

import { layersOf } from '../host/chain.js';
import { mapChain } from '../host/chain-map.js';
import type { Codec } from '../host/codec/codec.js';
import { CorralError } from '../host/errors.js';
import type { HttpFileOptions } from '../host/http-file.js';
import type { Image } from '../host/image.js';
import { inspect } from '../host/inspect/inspect.js';
import type { OpenGate } from '../host/open-gate.js';
import type { NewSnapshot } from '../host/snapshot-record.js';
import { browserCodec } from './browser-codec.js';
import { answerCalls, type CallContext, Caller, type Handlers, type MessageEndpoint, Transfer } from './calls.js';
import { CodecPool } from './codec-pool.js';
import { commitFile } from './commit-file.js';
import { exportRaw, openDisk, saveImage, saveRaw } from './convert-file.js';
import { loadCore } from './core.js';
import { directoryGate, filesGate, urlGate } from './gates.js';
import { type BrowserOpenOptions, createOpfs, openIn } from './open.js';
import type {
  CommitRequest,
  ConvertRequest,
  MapPart,
  Opened,
  RemoteCreateOptions,
  RemoteExtent,
  RemoteHttpOptions,
  RemoteInspectOptions,
  RemoteOpenOptions,
  Surroundings,
} from './protocol.js';
import { openSource, type Source } from './source.js';

/** Stretches in one answer. */
const EXTENTS_AT_ONCE = 4096;
/** Bytes for counting references, when an image is opened without saying so. */
const DEFAULT_CHECK_SIZE = 4 * 1024 * 1024;
/** Bytes of one read. */
const LONGEST_READ = 256 * 1024 * 1024;

/** A call about an open image. */
interface OfImage {
  readonly image: number;
}

export interface ServeOptions {
  /**
   * Starts a worker that calls `serveCodec(self)`: several of them decompress and compress for this thread then. Default:
   * this thread does it.
   */
  startCodecWorker?: () => Worker;
}

/** Answers a client that is at the other end. Needs no shared memory. */
export function serveEngine(endpoint: MessageEndpoint, options: ServeOptions = {}): void {
  answerCalls(endpoint, new Server(options).handlers);
}

class Server {
  private readonly images = new Map<number, Image>();
  private lastImage = 0;
  private given: WebAssembly.Module | undefined;
  private readonly codec: Codec;

  constructor({ startCodecWorker: start }: ServeOptions) {
    this.codec = start === undefined ? browserCodec : new CodecPool({ start });
  }

  readonly handlers: Handlers = {
    start: async ({ core }: { core?: WebAssembly.Module }) => {
      this.given = core;
      await this.core();
    },
    open: ({ source, options }: { source: Source; options: RemoteOpenOptions }, context) =>
      this.open(source, options, context),
    close: async ({ image }: OfImage) => {
      const closing = this.image(image);
      this.images.delete(image);
      await closing.close();
    },
    read: async ({ image, offset, length }: OfImage & { offset: number; length: number }, { signal }) => {
      if (length > LONGEST_READ) {
        throw new CorralError('ERR_TOO_LARGE', { reason: `At most ${LONGEST_READ} bytes are read at once` });
      }
      const bytes = new Uint8Array(length);
      await this.image(image).read(offset, bytes, { signal });
      return new Transfer(bytes, [bytes.buffer]);
    },
    write: ({ image, offset, bytes, durable }: OfImage & WriteArguments, { signal }) =>
      this.image(image).write(offset, bytes, { signal, durable }),
    writeZeroes: ({ image, offset, length, unmap }: OfImage & RangeArguments, { signal }) =>
      this.image(image).writeZeroes(offset, length, { signal, unmap }),
    discard: ({ image, offset, length }: OfImage & RangeArguments, { signal }) =>
      this.image(image).discard(offset, length, { signal }),
    flush: ({ image }: OfImage, { signal }) => this.image(image).flush({ signal }),
    resize: async ({ image, size, shrink }: OfImage & { size: number; shrink?: boolean }, { signal }) => {
      const resized = this.image(image);
      await resized.resize(size, { shrink, signal });
      return resized.info;
    },
    map: ({ image, offset, length }: OfImage & RangeArguments, { signal }) =>
      mapPart(this.image(image), { offset, length, signal }),
    check: ({ image }: OfImage, { signal, onProgress }) => this.image(image).check({ signal, onProgress }),
    listSnapshots: ({ image }: OfImage, { signal }) => this.image(image).snapshots.list({ signal }),
    createSnapshot: ({ image, snapshot }: OfImage & { snapshot: NewSnapshot }, { signal }) =>
      this.image(image).snapshots.create(snapshot, { signal }),
    deleteSnapshot: ({ image, snapshot }: OfImage & { snapshot: string }, { signal, onProgress }) =>
      this.image(image).snapshots.delete(snapshot, { signal, onProgress }),
    applySnapshot: async ({ image, snapshot }: OfImage & { snapshot: string }, { signal, onProgress }) => {
      const applied = this.image(image);
      await applied.snapshots.apply(snapshot, { signal, onProgress });
      return applied.info;
    },
    listBitmaps: ({ image }: OfImage) => this.image(image).bitmaps.list(),
    statistics: async ({ image }: OfImage) => this.image(image).statistics(),
    exportRaw: ({ image, target }: OfImage & { target: FileSystemFileHandle }, context) =>
      exportRaw(this.image(image), target, context),
    create: async ({ target, options }: { target: FileSystemFileHandle; options: RemoteCreateOptions }, { signal }) =>
      createOpfs(target, { ...options, core: await this.core(), signal }),
    inspect: ({ source, options }: { source: Source; options: RemoteInspectOptions }, { signal }) =>
      this.inspect(source, options, signal),
    convert: (request: ConvertRequest, context) => this.convert(request, context),
    commit: async ({ overlay, base, surroundings }: CommitRequest, context) =>
      commitFile(overlay, base, { ...context, core: await this.core(), gate: gateOf(surroundings ?? {}) }),
  };

  private core(): Promise<WebAssembly.Module> | WebAssembly.Module {
    return this.given ?? loadCore();
  }

  private image(number: number): Image {
    const image = this.images.get(number);
    if (image === undefined) throw new CorralError('ERR_CLOSED', { reason: 'The image is closed' });
    return image;
  }

  private async open(source: Source, options: RemoteOpenOptions, { signal }: CallContext): Promise<Opened> {
    const warnings: string[] = [];
    const http = httpOptions(options.http, warnings);
    const file = await openSource(source, { write: options.write, location: options.location, http });
    const image = await openIn(file, await this.openOptions(options, warnings, signal));
    const number = ++this.lastImage;
    this.images.set(number, image);
    const layers = layersOf(image).map(({ format, length, location }) => ({ format, length, location }));
    return { image: number, info: image.info, layers, warnings };
  }

  private async openOptions(
    options: RemoteOpenOptions,
    warnings: string[],
    signal: AbortSignal,
  ): Promise<BrowserOpenOptions> {
    const { files: _, directory: __, location: ___, addresses: _____, noBacking, http: ____, ...rest } = options;
    const backing = noBacking ? null : undefined;
    const gate = gateOf(options, httpOptions(options.http, warnings));
    const own = { gate, core: await this.core(), codec: this.codec };
    return { checkSize: DEFAULT_CHECK_SIZE, ...rest, backing, ...own, signal };
  }

  private async inspect(source: Source, options: RemoteInspectOptions, signal: AbortSignal): Promise<unknown> {
    const { http, ...rest } = options;
    const file = await openSource(source, { http: httpOptions(http, []) });
    try {
      return await inspect(file, { ...rest, core: await this.core(), codec: this.codec, signal });
    } finally {
      await file.close();
    }
  }

  private async convert(request: ConvertRequest, context: CallContext): Promise<void> {
    const { source, sourceFormat, target, format, open = {}, create, compress, compressionLevel } = request;
    if (compress && format === 'raw') {
      throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'A raw file cannot be compressed' });
    }
    const core = await this.core();
    const file = await openSource(source, { location: open.location, http: httpOptions(open.http, []) });
    const opened = await openDisk(file, sourceFormat, await this.openOptions(open, [], context.signal));
    try {
      if (format === 'raw') await saveRaw(opened.disk, target, context);
      else {
        const made = { ...create, compress, compressionLevel, core, codec: this.codec };
        await saveImage(opened.disk, target, made, context);
      }
    } finally {
      await opened.close();
    }
  }
}

interface RangeArguments {
  readonly offset: number;
  readonly length: number;
  readonly unmap?: boolean;
}

interface WriteArguments {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly durable?: boolean;
}

function gateOf({ files, directory, addresses }: Surroundings, http: HttpFileOptions = {}): OpenGate | undefined {
  if (directory !== undefined) return directoryGate(directory);
  if (addresses !== undefined) {
    const client = new Caller(addresses);
    addresses.start();
    return urlGate((named) => client.call('allow', named), http);
  }
  return files === undefined ? undefined : filesGate(files);
}

function httpOptions(
  http: RemoteHttpOptions | undefined,
  warnings: string[],
): RemoteHttpOptions & { onWarning(text: string): void } {
  return { ...http, onWarning: (text) => warnings.push(text) };
}

/** So many stretches as go into one answer. */
async function mapPart(image: Image, options: RangeArguments & { signal: AbortSignal }): Promise<MapPart> {
  const extents: RemoteExtent[] = [];
  for await (const { layer: _, ...extent } of mapChain(image, options)) {
    if (extents.length === EXTENTS_AT_ONCE) return { extents, next: extent.offset };
    extents.push(extent);
  }
  return { extents, next: undefined };
}
