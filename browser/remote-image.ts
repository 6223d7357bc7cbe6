/** An image that is open in the engine's worker. Numbers are bytes. */

import type { BitmapFacts } from '../host/bitmaps.js';
import type { CheckReport } from '../host/check-report.js';
import type { ImageFacts } from '../host/image-facts.js';
import type { ImageStatistics } from '../host/image-statistics.js';
import type { NewSnapshot, Snapshot } from '../host/snapshot-record.js';
import type { Caller } from './calls.js';
import type { MapPart, Opened, RemoteExtent, RemoteLayer } from './protocol.js';

interface CallOptions {
  signal?: AbortSignal;
}

interface LongCallOptions extends CallOptions {
  onProgress?: (done: number, total: number) => void;
}

interface StretchOptions extends CallOptions {
  /** Default: 0. */
  offset?: number;
  /** Default: up to the end of the disk. */
  length?: number;
}

/** Bytes of a piece of a stream. */
const PIECE_LENGTH = 4 * 1024 * 1024;
/** Pieces that are read before somebody has asked for them. */
const PIECES_AHEAD = 2;

/** Every method rejects as that of `Image` does. */
export class RemoteImage {
  private facts: ImageFacts;
  private readonly number: number;
  /** What lies behind the image, the nearest first. */
  readonly layers: readonly RemoteLayer[];
  /** What its server does not do as it should. */
  readonly warnings: readonly string[];
  /** Internal snapshots. */
  readonly snapshots: RemoteSnapshots;

  constructor(
    private readonly caller: Caller,
    { image, info, layers, warnings }: Opened,
    readonly readOnly: boolean,
  ) {
    this.number = image;
    this.facts = info;
    this.layers = layers;
    this.warnings = warnings;
    this.snapshots = new RemoteSnapshots(caller, image, (facts) => {
      this.facts = facts;
    });
  }

  get info(): ImageFacts {
    return this.facts;
  }

  /** Of the virtual disk. */
  get size(): number {
    return this.facts.virtualSize;
  }

  /** Reads into memory that is the caller's then: at most 256 MiB. */
  read(offset: number, length: number, options: CallOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    return this.call('read', { offset, length }, options);
  }

  /** The disk, or a part of it, as a stream: some pieces of 4 MiB are read ahead of its reader. */
  readable(options: StretchOptions = {}): ReadableStream<Uint8Array<ArrayBuffer>> {
    const { signal } = options;
    const offset = options.offset ?? 0;
    const end = Math.min(this.size, offset + (options.length ?? this.size));
    const ahead: Promise<Uint8Array<ArrayBuffer>>[] = [];
    let position = offset;
    const readAhead = (): void => {
      while (ahead.length < PIECES_AHEAD && position < end) {
        const piece = this.read(position, Math.min(PIECE_LENGTH, end - position), { signal });
        // It may fail before somebody asks for it.
        piece.catch(() => undefined);
        ahead.push(piece);
        position += PIECE_LENGTH;
      }
    };
    return new ReadableStream({
      async pull(controller) {
        readAhead();
        const piece = ahead.shift();
        if (piece === undefined) return controller.close();
        controller.enqueue(await piece);
        readAhead();
      },
      cancel() {
        position = end;
      },
    });
  }

  /** The disk, or a part of it, as a `Blob`: it is the browser that keeps it, on disk where it is long. */
  async blob(options: LongCallOptions & StretchOptions = {}): Promise<Blob> {
    const { onProgress } = options;
    const parts: Blob[] = [];
    let done = 0;
    const total = Math.min(this.size - (options.offset ?? 0), options.length ?? this.size);
    const reader = this.readable(options).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      parts.push(new Blob([next.value]));
      done += next.value.length;
      onProgress?.(done, total);
    }
    return new Blob(parts);
  }

  /** What the disk consists of through all layers, in order and without gaps. */
  async *map(options: StretchOptions = {}): AsyncGenerator<RemoteExtent> {
    const { offset = 0, signal } = options;
    const end = Math.min(this.size, offset + (options.length ?? this.size));
    let next: number | undefined = offset;
    while (next !== undefined && next < end) {
      const part: MapPart = await this.call('map', { offset: next, length: end - next }, { signal });
      yield* part.extents;
      next = part.next;
    }
  }

  /** Counts every reference; changes nothing. */
  check(options: LongCallOptions = {}): Promise<CheckReport> {
    return this.call('check', {}, options);
  }

  /** The bytes are copied: they stay the caller's. */
  write(offset: number, bytes: Uint8Array, options: CallOptions & { durable?: boolean } = {}): Promise<void> {
    const { signal, durable } = options;
    return this.call('write', { offset, bytes, durable }, { signal });
  }

  writeZeroes(offset: number, length: number, options: CallOptions & { unmap?: boolean } = {}): Promise<void> {
    const { signal, unmap } = options;
    return this.call('writeZeroes', { offset, length, unmap }, { signal });
  }

  discard(offset: number, length: number, options: CallOptions = {}): Promise<void> {
    return this.call('discard', { offset, length }, options);
  }

  /** What was written before is durable when the promise ends: it survives the end of the tab, and a power cut. */
  flush(options: CallOptions = {}): Promise<void> {
    return this.call('flush', {}, options);
  }

  async resize(size: number, options: CallOptions & { shrink?: boolean } = {}): Promise<void> {
    const { signal, shrink } = options;
    this.facts = await this.call('resize', { size, shrink }, { signal });
  }

  /** The persistent dirty bitmaps. */
  bitmaps(): Promise<BitmapFacts[]> {
    return this.call('listBitmaps', {}, {});
  }

  statistics(): Promise<ImageStatistics> {
    return this.call('statistics', {}, {});
  }

  /**
   * Writes the disk into a file that somebody chose to save to, or one of the private file system: what was in there is lost.
   * Zeros are left out where the file can do without them.
   */
  exportRaw(target: FileSystemFileHandle, options: LongCallOptions = {}): Promise<void> {
    return this.call('exportRaw', { target }, options);
  }

  close(): Promise<void> {
    return this.call('close', {}, {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private call<T>(name: string, args: object, options: LongCallOptions): Promise<T> {
    return this.caller.call(name, { image: this.number, ...args }, options);
  }
}

class RemoteSnapshots {
  constructor(
    private readonly caller: Caller,
    private readonly image: number,
    private readonly changed: (info: ImageFacts) => void,
  ) {}

  list(options: CallOptions = {}): Promise<Snapshot[]> {
    return this.caller.call('listSnapshots', { image: this.image }, options);
  }

  create(snapshot: NewSnapshot, options: CallOptions = {}): Promise<void> {
    return this.caller.call('createSnapshot', { image: this.image, snapshot }, options);
  }

  /** @param snapshot an id, or else a name */
  delete(snapshot: string, options: LongCallOptions = {}): Promise<void> {
    return this.caller.call('deleteSnapshot', { image: this.image, snapshot }, options);
  }

  /** @param snapshot an id, or else a name */
  async apply(snapshot: string, options: LongCallOptions = {}): Promise<void> {
    this.changed(await this.caller.call('applySnapshot', { image: this.image, snapshot }, options));
  }
}
