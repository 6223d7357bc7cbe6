/** An open qcow2 image: the library's main class. */

import { RequestFlag, RequestKind } from './abi.js';
import { type AmendImageOptions, amendRequests } from './amend.js';
import { Bitmaps } from './bitmaps.js';
import type { BlockFile } from './block-file.js';
import { isWriteThrough } from './cache-mode.js';
import { cacheSizeOf } from './cache-size.js';
import { type Layer, openBacking } from './chain.js';
import { type CheckReport, readCheckReport, watchProgress } from './check-report.js';
import { type CreateImageOptions, checkPreallocation, createRequest, preallocateCreated } from './create-image.js';
import { Engine, type EngineRequest } from './engine.js';
import { CorralError } from './errors.js';
import type { ImageFacts } from './image-facts.js';
import { type ImageStatistics, readStatistics } from './image-statistics.js';
import { joinExtents, type MapExtent, readExtents } from './map-extent.js';
import { layerOptions, type OpenOptions } from './open-options.js';
import { allEnded, inPieces } from './pieces.js';
import { isDirtyImage, repairDirty } from './repair.js';
import { type ResizeImageOptions, resizeDisk } from './resize.js';
import { SerialQueue } from './serial-queue.js';
import { Snapshots } from './snapshots.js';
import { startImage } from './start-image.js';
import { uncoverRequests } from './uncover.js';

/** Where an image is in a chain. */
interface Place {
  /** The files above it. */
  readonly above: readonly string[];
  /** Layers above a backing file of its own. */
  readonly depth: number;
}

interface CallOptions {
  signal?: AbortSignal;
}

const TOP: Place = { above: [], depth: 1 };

export class Image {
  private facts: ImageFacts;
  readonly readOnly: boolean;
  /** Persistent dirty bitmaps. */
  readonly bitmaps: Bitmaps;
  /** Control requests share the page: one at a time. */
  private readonly control = new SerialQueue();
  private closed = false;
  /** The backing file, or the data file, is no longer the one that is open. */
  private outdated = false;
  /** The internal snapshots. */
  readonly snapshots: Snapshots;

  private constructor(
    private readonly engine: Engine,
    private readonly files: readonly BlockFile[],
    info: ImageFacts,
    write: boolean,
    private behind: Layer | undefined,
    /** Every change is durable before it is answered. */
    private readonly writesThrough: boolean,
    /** With which it was opened. */
    private readonly request: EngineRequest<ImageFacts>,
    private readonly openBehind: () => Promise<Layer>,
  ) {
    this.facts = info;
    this.readOnly = !write;
    this.snapshots = new Snapshots({
      engine,
      control: async (work) => {
        this.refuseClosed();
        return this.control.run(work);
      },
      resized: (size) => {
        this.facts = { ...this.facts, virtualSize: size };
      },
    });
    this.bitmaps = new Bitmaps({
      runControl: (request) => {
        this.refuseClosed();
        return this.control.run(() => this.engine.run(request));
      },
      clusterSize: info.clusterSize,
      size: () => this.size,
    });
  }

  /**
   * Opens the image in `file`. On success the files belong to the image and are closed with it; on failure they stay the
   * caller's. With `write` an image that was not closed cleanly is repaired first. Rejects with ERR_NOT_QCOW2,
   * ERR_UNSUPPORTED, ERR_IMAGE_CORRUPT, ERR_IO or ERR_READ_ONLY.
   */
  static async open(file: BlockFile, options: OpenOptions): Promise<Image> {
    const { snapshot } = options;
    if (typeof snapshot === 'string') return openNamed(file, snapshot, options);
    return Image.openLayer(file, options, TOP);
  }

  /**
   * Opens what lies behind an image that the caller serves by an engine of its own. Of the options, those of writing and of
   * the chain matter. Rejects as `openBacking` does.
   *
   * @param place as for a layer; left out for the image on top
   */
  static openBehind(
    file: Pick<BlockFile, 'identity' | 'location'>,
    facts: ImageFacts,
    options: OpenOptions,
    place: Place = TOP,
  ): Promise<Layer> {
    return openBacking(facts, {
      options,
      file,
      write: options.write ?? false,
      ...place,
      openImage: (lower, above, depth) => Image.openLayer(lower, layerOptions(options), { above, depth }),
    });
  }

  private static async openLayer(file: BlockFile, options: OpenOptions, place: Place): Promise<Image> {
    const write = options.write ?? false;
    if (write && file.readOnly) throw new CorralError('ERR_READ_ONLY', { reason: 'The file is open read-only' });
    if (write && options.dataFile?.readOnly) {
      throw new CorralError('ERR_READ_ONLY', { reason: 'The data file is open read-only' });
    }
    try {
      return await Image.start(file, options, write, place);
    } catch (error) {
      if (!isDirtyImage(error)) throw error;
      await repairDirty(file, { core: options.core, signal: options.signal });
      return Image.start(file, options, write, place);
    }
  }

  private static async start(file: BlockFile, options: OpenOptions, write: boolean, place: Place): Promise<Image> {
    const openBacking = (facts: ImageFacts): Promise<Layer> => Image.openBehind(file, facts, options, place);
    const around = { write, above: place.above, openBacking };
    const { engine, info, backing, dataFile, request } = await startImage(file, options, around);
    const files = dataFile === undefined ? [file] : [dataFile, file];
    const again = (): Promise<Layer> => openBacking(info);
    return new Image(engine, files, info, write, backing, isWriteThrough(options.cache), request, again);
  }

  /**
   * Makes a new image in `file`, which must be empty and stays the caller's. The header is written last: a file that was
   * cut off is no image. Preallocation comes after that. Rejects with ERR_INVALID_ARGUMENT, ERR_IO or ERR_NO_SPACE.
   */
  static async create(file: BlockFile, options: CreateImageOptions): Promise<void> {
    if ((await file.size()) !== 0)
      throw new CorralError('ERR_EXISTS', { reason: 'The file for a new image must be empty' });
    const request = createRequest(options);
    checkPreallocation(options);
    const engine = await Engine.start(file, { core: options.core, requestCapacity: 1, cacheSize: 0, checkSize: 0 });
    await engine.run(request);
    await preallocateCreated(file, options);
  }

  /** Facts of the header when the image was opened, and what the calls of this image have changed of them. */
  get info(): ImageFacts {
    return this.facts;
  }

  /** What lies behind the image. */
  get backing(): Layer | undefined {
    return this.behind;
  }

  /** Bytes of the virtual disk. */
  get size(): number {
    return this.facts.virtualSize;
  }

  /** Where the bytes lie that `map` tells of as data; undefined when they are encrypted. It stays the image's. */
  get guestFile(): BlockFile | undefined {
    return this.facts.encryption === 'none' ? this.files[0] : undefined;
  }

  /** Fills the whole target from guest byte `offset` on. The target must be left alone until the promise ends. */
  async read(offset: number | bigint, target: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.refuseClosed();
    await inPieces(offset, target, (guestOffset, buffer) =>
      this.engine.run({ kind: RequestKind.Read, guestOffset, buffer, signal: options.signal }),
    );
  }

  /**
   * Writes the whole source at guest byte `offset`; it must be left alone until the promise ends. Without `durable` the
   * bytes survive a power cut only after a `flush` that began later.
   */
  async write(
    offset: number | bigint,
    source: Uint8Array,
    options: CallOptions & { durable?: boolean } = {},
  ): Promise<void> {
    this.refuseClosed();
    const flags = options.durable || this.writesThrough ? RequestFlag.Durable : 0;
    await inPieces(offset, source, (guestOffset, buffer) =>
      this.engine.run({ kind: RequestKind.Write, flags, guestOffset, buffer, signal: options.signal }),
    );
  }

  /**
   * As `write`, in compressed form where that is smaller: whole clusters, of which the last may be cut short by the end of
   * the disk. Whoever changes them later gets plain ones. Rejects with ERR_UNSUPPORTED without a codec that compresses,
   * and for images with an external data file.
   */
  async writeCompressed(offset: number, source: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.refuseClosed();
    const { clusterSize } = this.info;
    const writes: Promise<void>[] = [];
    for (let start = 0; start < source.length; start += clusterSize) {
      const buffer = source.subarray(start, start + clusterSize);
      const guestOffset = offset + start;
      const flags = RequestFlag.Compressed | (this.writesThrough ? RequestFlag.Durable : 0);
      writes.push(this.engine.run({ kind: RequestKind.Write, flags, guestOffset, buffer, signal: options.signal }));
    }
    await allEnded(writes);
  }

  /**
   * Makes `length` bytes from guest byte `offset` on read as zeros. Whole clusters only change their table entries; with
   * `unmap` they lose their host clusters, else those stay reserved.
   */
  async writeZeroes(
    offset: number,
    length: number,
    options: CallOptions & { unmap?: boolean; durable?: boolean } = {},
  ): Promise<void> {
    this.refuseClosed();
    const flags =
      (options.unmap ? RequestFlag.Unmap : 0) | (options.durable || this.writesThrough ? RequestFlag.Durable : 0);
    const { signal } = options;
    await this.engine.run({ kind: RequestKind.WriteZeroes, flags, guestOffset: offset, length, signal });
  }

  /**
   * `length` bytes from guest byte `offset` on are not needed any more: whole clusters are freed and read as zeros. With
   * `uncover` they show what lies behind the image instead; ERR_UNSUPPORTED where there is an external data file.
   */
  async discard(offset: number, length: number, options: CallOptions & { uncover?: boolean } = {}): Promise<void> {
    this.refuseClosed();
    const flags = options.uncover ? RequestFlag.Unmap : 0;
    await this.engine.run({ kind: RequestKind.Discard, flags, guestOffset: offset, length, signal: options.signal });
    if (this.writesThrough) await this.engine.run({ kind: RequestKind.Flush, signal: options.signal });
  }

  /**
   * Fills the whole target with the machine's saved state from its byte `offset` on: the one of the snapshot that the image was
   * opened with, else the one that lies behind the disk now. `Snapshot.vmStateSize` says how long that of a snapshot is;
   * what was never saved reads as zeros. Rejects with ERR_UNSUPPORTED for images with an external data file.
   */
  async readVmState(offset: number | bigint, target: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.refuseClosed();
    await inPieces(offset, target, (guestOffset, buffer) =>
      this.engine.run({
        kind: RequestKind.Read,
        flags: RequestFlag.VmState,
        guestOffset,
        buffer,
        signal: options.signal,
      }),
    );
  }

  /** As `write`, of the machine's saved state that lies behind the disk; the tables grow as it needs. */
  async writeVmState(offset: number | bigint, source: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.refuseClosed();
    const { signal } = options;
    const flags = RequestFlag.VmState | (this.writesThrough ? RequestFlag.Durable : 0);
    await inPieces(offset, source, async (guestOffset, buffer) => {
      const length = guestOffset + buffer.length;
      await this.control.run(() => this.engine.run({ kind: RequestKind.VmStateRoom, length, signal }));
      await this.engine.run({ kind: RequestKind.Write, flags, guestOffset, buffer, signal });
    });
  }

  /** Everything whose `write` ended before this call survives a power cut once the promise ends. */
  async flush(options: CallOptions = {}): Promise<void> {
    this.refuseClosed();
    await this.engine.run({ kind: RequestKind.Flush, signal: options.signal });
  }

  /** What the disk consists of, from `offset` on, in order and without gaps; neighbours that continue each other are one. */
  async *map(options: CallOptions & { offset?: number; length?: number } = {}): AsyncGenerator<MapExtent> {
    this.refuseClosed();
    let position = options.offset ?? 0;
    const end = Math.min(this.size, options.length === undefined ? this.size : position + options.length);
    let held: MapExtent | undefined;
    while (position < end) {
      const request = { kind: RequestKind.Map, guestOffset: position, length: end - position, signal: options.signal };
      const extents = await this.control.run(() => this.engine.run({ ...request, collect: readExtents }));
      for (const extent of extents) {
        const joined: MapExtent | undefined = held === undefined ? undefined : joinExtents(held, extent);
        if (held !== undefined && joined === undefined) yield held;
        held = joined ?? extent;
        position = extent.offset + extent.length;
      }
    }
    if (held !== undefined) yield held;
  }

  /**
   * Counts every reference and compares with the refcounts; changes nothing. Needs `checkSize`. To put right what is
   * wrong see `repairImage`.
   */
  async check(
    options: CallOptions & { onProgress?: (done: number, total: number) => void } = {},
  ): Promise<CheckReport> {
    this.refuseClosed();
    const request = { kind: RequestKind.Check, signal: options.signal, collect: readCheckReport };
    return this.control.run(() => watchProgress(this.engine.core, options.onProgress, () => this.engine.run(request)));
  }

  /**
   * Makes the disk `size` bytes long, a multiple of 512; new bytes are zeros. Waits until it is alone with the image.
   * Durable when the promise ends. Snapshots keep their sizes. Rejects with ERR_INVALID_ARGUMENT for a smaller disk
   * without `shrink`, ERR_TOO_LARGE beyond what the format can hold. When preallocation fails the disk has its old size.
   */
  async resize(size: number | bigint, options: ResizeImageOptions = {}): Promise<void> {
    this.refuseClosed();
    await this.control.run(async () => {
      const dataFile = this.files.length > 1 ? this.files[0] : undefined;
      try {
        await resizeDisk({ engine: this.engine, dataFile }, this.facts, size, options);
      } finally {
        // What comes after the change of the size may fail.
        this.facts = { ...this.facts, virtualSize: this.engine.core.info.virtualSize };
      }
    });
  }

  /**
   * Changes properties of the image, one after the other; each is durable when the next begins. Waits until it is alone
   * with the image. Rejects with ERR_INVALID_ARGUMENT or ERR_UNSUPPORTED, with ERR_TOO_LARGE when a refcount does not fit
   * the new width. After a change of the backing file or the data file only `close` is left: open the image anew.
   */
  async amend(options: AmendImageOptions): Promise<void> {
    this.refuseClosed();
    await this.control.run(async () => {
      for (const request of amendRequests(this.facts, options)) {
        const changed = await this.engine.run(request);
        this.facts = { ...this.facts, ...changed };
      }
    });
    if (options.backingFile !== undefined || options.dataFile !== undefined) this.outdated = true;
  }

  /**
   * Goes on with a metadata cache of so many bytes, raised to what the number of requests needs; `statistics` tells what it
   * really has, and counts from 0 again. The image is closed and opened again for that, so that everything is durable; calls
   * made meanwhile wait. Of layers behind it, nothing changes. Rejects with ERR_INVALID_ARGUMENT, ERR_TOO_LARGE when there is not so
   * much memory, or with what closing or opening rejects with; the image has its old cache then.
   */
  async setCacheSize(cacheSize: number): Promise<void> {
    this.refuseClosed();
    const size = cacheSizeOf({ cacheSize });
    await this.control.run(async () => {
      this.refuseClosed();
      this.facts = await this.engine.alone((engine) => engine.changeCache(size, this.request));
    });
  }

  /**
   * Runs work that writes into what lies behind the image, which is closed for that and opened anew afterwards, also when the work
   * fails. By then everything that was answered is durable in the image's file; calls made meanwhile wait, and no walk through the
   * chain may be under way. With `empties`, nothing of the disk is the image's own any more when the work has succeeded.
   * Rejects with ERR_UNSUPPORTED where nothing lies behind the image, or it cannot be emptied; with what the work rejects with;
   * or when what lies behind cannot be opened anew: then what is read from there rejects, too.
   */
  async changeBehind(work: (behind: Layer) => Promise<void>, { empties }: { empties: boolean }): Promise<void> {
    this.refuseClosed();
    await this.control.run(async () => {
      this.refuseClosed();
      const { behind, facts } = this;
      if (behind === undefined) {
        throw new CorralError('ERR_UNSUPPORTED', { reason: 'Image does not have a backing file' });
      }
      if (empties && facts.hasDataFile) {
        throw new CorralError('ERR_UNSUPPORTED', { reason: 'An image with an external data file is not emptied' });
      }
      await this.engine.alone(async ({ run, setBacking }) => {
        await run({ kind: RequestKind.Flush });
        await behind.close();
        try {
          await work(behind);
        } finally {
          this.behind = await this.openBehind().catch((error: unknown) => {
            setBacking({ read: () => Promise.reject(error) });
            throw error;
          });
          setBacking(this.behind);
        }
        if (!empties) return;
        for (const request of uncoverRequests(this.size)) await run(request);
        await run({ kind: RequestKind.Flush });
      });
    });
  }

  /** Counters since the image was opened, or its cache changed. */
  statistics(): ImageStatistics {
    return readStatistics(this.engine.core);
  }

  /**
   * Waits for the calls that are under way, flushes, then releases the files, also when the flush failed; rejects then.
   * Closing twice is no error.
   */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    // The number of a closed file may be another file's: nothing may be under way when it is released.
    await this.engine.idle();
    try {
      if (!this.readOnly) await this.engine.run({ kind: RequestKind.Close });
    } finally {
      const { backing, files } = this;
      await closeAll(backing === undefined ? files : [...files, backing]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private refuseClosed(): void {
    if (this.outdated)
      throw new CorralError('ERR_CLOSED', {
        reason: 'The backing file or the data file is another one now: open the image anew',
      });
    if (this.closed) throw new CorralError('ERR_CLOSED', { reason: 'The image is closed' });
  }
}

/** Closes every file, whatever happens to the others; rejects with what one of them says. */
async function closeAll(files: readonly { close(): Promise<void> }[]): Promise<void> {
  await allEnded(files.map((file) => file.close()));
}

/** An id goes before a name. */
async function openNamed(file: BlockFile, snapshot: string, options: OpenOptions): Promise<Image> {
  try {
    return await Image.open(file, { ...options, snapshot: { id: snapshot } });
  } catch (error) {
    if (!(error instanceof CorralError) || error.code !== 'ERR_NOT_FOUND') throw error;
  }
  return Image.open(file, { ...options, snapshot: { name: snapshot } });
}
