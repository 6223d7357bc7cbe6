/** The persistent dirty bitmaps of an image: what has changed since somebody last looked. */

import { BitmapCallView, BitmapFlag, BitmapItemView, BitmapPage, BitmapRangeView, RequestKind } from './abi.js';
import { type CoreInstance, decodeName } from './core-instance.js';
import type { EngineRequest } from './engine.js';
import { CorralError } from './errors.js';

const ITEM_SIZE = 16;
const RANGE_SIZE = 16;
/** Ranges that fit the page. */
const MOST_RANGES = 3840;
const MAXIMUM_NAME_LENGTH = 1023;
const SMALLEST_DEFAULT = 4096;
const LARGEST_DEFAULT = 65536;
/** What a failure calls the flag of a bitmap that was not stored. */
const IN_USE = 'bitmap in use';

/** One bitmap, as the directory describes it. */
export interface BitmapFacts {
  /** The name as text; a name that is not UTF-8 has U+FFFD in it. */
  readonly name: string;
  /** The name as it stands in the image. */
  readonly nameBytes: Uint8Array;
  /** Guest bytes that one bit stands for. */
  readonly granularity: number;
  /** Every change of the guest's is noted in it. */
  readonly enabled: boolean;
  /** It was not stored after it had been changed: it can only be removed. */
  readonly inconsistent: boolean;
  /** It has extra data, or a flag that is about them. No kind of them is known, and QEMU opens no such image. */
  readonly extraData: boolean;
}

export interface BitmapOptions {
  /** Guest bytes that one bit stands for: a power of two from 512 to 2 GiB. Default: the cluster size, from 4 to 64 KiB. */
  granularity?: number | bigint;
  /** Do not note changes in it. */
  disabled?: boolean;
  signal?: AbortSignal;
}

/** A stretch of the virtual disk, in bytes. */
export interface DirtyRange {
  readonly offset: number;
  readonly length: number;
}

interface CallOptions {
  signal?: AbortSignal;
}

/** A name as text or as the bytes that stand in the image. */
type BitmapName = string | Uint8Array;

/** An image as the source of a merge; the library's `Image` is one. */
export interface BitmapSource {
  /** Bytes of the virtual disk. */
  readonly size: number;
  readonly bitmaps: Bitmaps;
}

/** Runs control requests of one image, one at a time. */
export interface ControlRunner {
  runControl<T>(request: EngineRequest<T>): Promise<T>;
  /** Bytes. */
  readonly clusterSize: number;
  size(): number;
}

/**
 * Reading works with every image that has bitmaps, `list` also when it is only inspected; the others need one that is
 * open for writing. They reject with ERR_NOT_FOUND, ERR_EXISTS, ERR_INVALID_ARGUMENT, ERR_TOO_LARGE, or ERR_IMAGE_CORRUPT
 * when the bitmap is inconsistent. What they did survives a power cut when the promise ends.
 */
export class Bitmaps {
  constructor(private readonly image: ControlRunner) {}

  /** All bitmaps, in the order of the directory. */
  async list(options: CallOptions = {}): Promise<BitmapFacts[]> {
    const found: BitmapFacts[] = [];
    let position = 0;
    let end = 0;
    do {
      const request = { kind: RequestKind.BitmapList, guestOffset: position, signal: options.signal };
      const answer = await this.image.runControl({ ...request, collect: readItems });
      found.push(...answer.items);
      position = answer.next;
      end = answer.end;
    } while (position < end);
    return found;
  }

  /** Makes a bitmap without dirty bits, which notes changes from now on unless `disabled`. */
  async add(name: BitmapName, options: BitmapOptions = {}): Promise<void> {
    const granularity = options.granularity ?? this.defaultGranularity();
    const granularityBits = Math.log2(Number(granularity));
    if (!Number.isInteger(granularityBits) || granularityBits < 9 || granularityBits > 31) {
      throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'Granularity must be power of 2 and at least 512' });
    }
    await this.call(RequestKind.BitmapAdd, name, options, (view) => {
      view.granularityBits = granularityBits;
      view.flags = options.disabled ? 0 : BitmapFlag.Auto;
    });
  }

  async remove(name: BitmapName, options: CallOptions = {}): Promise<void> {
    await this.call(RequestKind.BitmapRemove, name, options);
  }

  /** From now on changes are noted in it. */
  async enable(name: BitmapName, options: CallOptions = {}): Promise<void> {
    await this.call(RequestKind.BitmapEnable, name, options);
  }

  /** From now on it stays as it is. */
  async disable(name: BitmapName, options: CallOptions = {}): Promise<void> {
    await this.call(RequestKind.BitmapDisable, name, options);
  }

  /** Nothing is dirty in it any more. */
  async clear(name: BitmapName, options: CallOptions = {}): Promise<void> {
    await this.call(RequestKind.BitmapClear, name, options);
  }

  /** What is dirty in `source` becomes dirty in `name` too. */
  async merge(name: BitmapName, source: BitmapName, options: CallOptions = {}): Promise<void> {
    const sourceBytes = nameBytes(source);
    const fill = (view: BitmapCallView, core: CoreInstance): void => {
      view.sourceLength = sourceBytes.length;
      core.bytes(core.layout.page + BitmapPage.Source, sourceBytes.length).set(sourceBytes);
    };
    await this.call(RequestKind.BitmapMerge, name, options, fill, source);
  }

  /**
   * What is dirty in the bitmap `source` of another image becomes dirty in `name` too. The disks must be of one size. All
   * of it or, when it fails, nothing; a process that dies meanwhile may leave a bitmap `merge-…` behind.
   */
  async mergeFrom(name: BitmapName, from: BitmapSource, source: BitmapName, options: CallOptions = {}): Promise<void> {
    const bytes = nameBytes(name);
    const bitmaps = await this.list(options);
    const target = bitmaps.find((bitmap) => equal(bitmap.nameBytes, bytes));
    if (target === undefined) throw notFound(name);
    const [size, sourceSize] = [this.image.size(), from.size];
    const ranges = from.bitmaps.ranges(source, options);
    // That there is one, and that it can be used, comes before its size.
    const first = await ranges.next();
    if (size !== sourceSize) {
      throw new CorralError('ERR_INVALID_ARGUMENT', {
        reason: `Bitmaps are of different sizes (destination size is ${size}, source size is ${sourceSize}) and can't be merged`,
      });
    }
    // Nothing to do, or nothing that can be done to it.
    if (first.done || target.inconsistent) return this.markSome(name, [], options);
    const gathered = unusedName(bitmaps);
    await this.add(gathered, { granularity: target.granularity, disabled: true, signal: options.signal });
    try {
      await this.markAll(gathered, first.value, ranges, options);
      await this.merge(name, gathered, options);
    } catch (error) {
      // What went wrong first is what the caller must know.
      await this.remove(gathered).catch(() => {});
      throw error;
    }
    await this.remove(gathered);
  }

  private async markAll(
    name: BitmapName,
    first: DirtyRange,
    others: AsyncIterable<DirtyRange>,
    options: CallOptions,
  ): Promise<void> {
    let pieces = [first];
    for await (const range of others) {
      if (pieces.length === MOST_RANGES) {
        await this.markSome(name, pieces, options);
        pieces = [];
      }
      pieces.push(range);
    }
    await this.markSome(name, pieces, options);
  }

  /** Removes all bitmaps, inconsistent ones too. */
  async removeAll(options: CallOptions = {}): Promise<void> {
    for (const { nameBytes } of (await this.list(options)).reverse()) await this.remove(nameBytes, options);
  }

  /** What the ranges name becomes dirty, in whole units of the granularity. In pieces: some may be done when it fails. */
  async mark(name: BitmapName, ranges: readonly DirtyRange[], options: CallOptions = {}): Promise<void> {
    for (let first = 0; first < ranges.length; first += MOST_RANGES) {
      await this.markSome(name, ranges.slice(first, first + MOST_RANGES), options);
    }
  }

  /** No more of them than fit the page. */
  private async markSome(name: BitmapName, ranges: readonly DirtyRange[], options: CallOptions): Promise<void> {
    await this.call(RequestKind.BitmapSet, name, options, (view, core) => {
      view.rangeCount = ranges.length;
      const record = new BitmapRangeView(core.memory);
      for (const [index, { offset, length }] of ranges.entries()) {
        record.at(core.layout.page + BitmapPage.Answer + index * RANGE_SIZE);
        record.guestOffset = offset;
        record.length = length;
      }
    });
  }

  /** What is dirty, in order; neighbours are one range. Whole units of the granularity, cut to the stretch asked for. */
  async *ranges(
    name: BitmapName,
    options: CallOptions & { offset?: number; length?: number } = {},
  ): AsyncGenerator<DirtyRange> {
    let position = options.offset ?? 0;
    const end = options.length === undefined ? this.image.size() : position + options.length;
    let held: DirtyRange | undefined;
    while (position < end) {
      const request = this.request(RequestKind.BitmapRanges, name, options);
      const place = { guestOffset: position, length: end - position };
      const answer = await this.image.runControl({ ...request, ...place, collect: readRanges }).catch((error) => {
        throw named(error, name, name);
      });
      for (const range of answer.ranges) {
        if (held !== undefined && held.offset + held.length === range.offset) {
          held = { offset: held.offset, length: held.length + range.length };
          continue;
        }
        if (held !== undefined) yield held;
        held = range;
      }
      position = answer.next;
    }
    if (held !== undefined) yield held;
  }

  /** As QEMU. */
  private defaultGranularity(): number {
    return Math.min(LARGEST_DEFAULT, Math.max(SMALLEST_DEFAULT, this.image.clusterSize));
  }

  private call(
    kind: RequestKind,
    name: BitmapName,
    options: CallOptions,
    fill?: (view: BitmapCallView, core: CoreInstance) => void,
    source: BitmapName = name,
  ): Promise<unknown> {
    return this.image.runControl(this.request(kind, name, options, fill)).catch((error: unknown) => {
      throw named(error, name, source);
    });
  }

  private request(
    kind: RequestKind,
    name: BitmapName,
    { signal }: CallOptions,
    fill?: (view: BitmapCallView, core: CoreInstance) => void,
  ): EngineRequest<unknown> {
    const bytes = nameBytes(name);
    return {
      kind,
      signal,
      prepare(core) {
        const { page } = core.layout;
        const view = new BitmapCallView(core.memory, page + BitmapPage.Call);
        view.nameLength = bytes.length;
        view.sourceLength = 0;
        view.granularityBits = 0;
        view.flags = 0;
        view.rangeCount = 0;
        view.reserved = 0;
        core.bytes(page + BitmapPage.Name, bytes.length).set(bytes);
        fill?.(view, core);
      },
    };
  }
}

/** The error with the bitmap's name in it, in QEMU's words. */
function named(error: unknown, target: BitmapName, source: BitmapName): unknown {
  if (!(error instanceof CorralError)) return error;
  const { code, details } = error;
  const which = details.limit === 1n ? source : target;
  const name = typeof which === 'string' ? which : decodeName(which);
  if (code === 'ERR_NOT_FOUND') return notFound(name, details);
  if (code === 'ERR_EXISTS') return new CorralError(code, { ...details, reason: `Bitmap already exists: ${name}` });
  if (code !== 'ERR_INVALID_ARGUMENT' || details.field !== IN_USE) return error;
  return new CorralError(code, { ...details, reason: `Bitmap '${name}' is inconsistent and cannot be used` });
}

function notFound(name: BitmapName, details: CorralError['details'] = {}): CorralError {
  const text = typeof name === 'string' ? name : decodeName(name);
  return new CorralError('ERR_NOT_FOUND', { ...details, reason: `Dirty bitmap '${text}' not found` });
}

/** A name for a bitmap that is there for a moment. */
function unusedName(bitmaps: readonly BitmapFacts[]): string {
  const names = new Set(bitmaps.map(({ name }) => name));
  let number = 0;
  while (names.has(`merge-${number}`)) number++;
  return `merge-${number}`;
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

function nameBytes(name: BitmapName): Uint8Array {
  const bytes = typeof name === 'string' ? new TextEncoder().encode(name) : name;
  if (bytes.length === 0) throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'Bitmap name cannot be empty' });
  if (bytes.length <= MAXIMUM_NAME_LENGTH) return bytes;
  throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `Name exceeds maximum (${MAXIMUM_NAME_LENGTH} characters)` });
}

function readItems(core: CoreInstance, record: { result: number; progress: number; progressTotal: number }) {
  const view = new BitmapItemView(core.memory);
  let address = core.layout.page + BitmapPage.Answer;
  const items = Array.from({ length: record.result }, (): BitmapFacts => {
    const { flags, granularityBits, nameLength, extraDataLength } = view.at(address);
    const bytes = core.bytes(address + ITEM_SIZE, nameLength).slice();
    address += Math.ceil((ITEM_SIZE + nameLength) / 8) * 8;
    return {
      name: decodeName(bytes),
      nameBytes: bytes,
      granularity: 2 ** granularityBits,
      enabled: (flags & BitmapFlag.Auto) !== 0,
      inconsistent: (flags & BitmapFlag.InUse) !== 0,
      extraData: extraDataLength !== 0 || (flags & BitmapFlag.ExtraDataCompatible) !== 0,
    };
  });
  return { items, next: record.progress, end: record.progressTotal };
}

function readRanges(core: CoreInstance, record: { result: number; progress: number }) {
  const view = new BitmapRangeView(core.memory);
  const first = core.layout.page + BitmapPage.Answer;
  const ranges = Array.from({ length: record.result }, (_, index): DirtyRange => {
    const { guestOffset, length } = view.at(first + index * RANGE_SIZE);
    return { offset: guestOffset, length };
  });
  return { ranges, next: record.progress };
}
