/** What has changed since a snapshot was made, and what a bitmap has noted. */

import type { Image } from '../../../host/image.js';
import type { GuestExtent, Ranges } from '../protocol.js';
import type { Watch } from './maps.js';
import type { Session, View } from './session.js';

/** Ranges that are listed; all are counted. */
const MOST_RANGES = 65536;
const SECTOR = 512;
const PIECE_LENGTH = 2 ** 21;

/** Collects ranges that come in order; neighbours become one. */
export class RangeList {
  private pairs = new Float64Array(1024);
  private count = 0;
  private bytes = 0;
  private lastEnd = -1;

  add(offset: number, length: number): void {
    this.bytes += length;
    if (offset === this.lastEnd) {
      if (this.count <= MOST_RANGES) {
        const at = this.count * 2 - 1;
        this.pairs[at] = (this.pairs[at] as number) + length;
      }
    } else {
      if (this.count < MOST_RANGES) this.append(offset, length);
      this.count++;
    }
    this.lastEnd = offset + length;
  }

  result(): Ranges {
    const { count, bytes } = this;
    return { pairs: this.pairs.slice(0, Math.min(count, MOST_RANGES) * 2), count, bytes };
  }

  private append(offset: number, length: number): void {
    if (this.count * 2 >= this.pairs.length) {
      const larger = new Float64Array(this.pairs.length * 2);
      larger.set(this.pairs);
      this.pairs = larger;
    }
    this.pairs[this.count * 2] = offset;
    this.pairs[this.count * 2 + 1] = length;
  }
}

/**
 * The sectors of the disk that differ from the snapshot. What both have in the same place of the file is the same without
 * a look; the rest is read and compared. What one disk has behind the end of the other counts as zeros there.
 */
export async function changesSince(session: Session, state: number, watch: Watch): Promise<Ranges> {
  const [now, before] = await Promise.all([session.view(undefined), session.view(state)]);
  const total = Math.max(now.disk.size, before.disk.size);
  const ranges = new RangeList();
  const [one, two] = [new Walk(now, watch.signal), new Walk(before, watch.signal)];
  for (let offset = 0; offset < total; ) {
    watch.signal.throwIfAborted();
    const [left, right] = [await one.at(offset), await two.at(offset)];
    const end = Math.min(left.end, right.end, total);
    if (isSame(left, right)) {
      offset = end;
    } else {
      const length = Math.min(end - offset, PIECE_LENGTH);
      const [mine, other] = await Promise.all([one.bytes(offset, length), two.bytes(offset, length)]);
      noteDifferences(ranges, offset, mine, other);
      offset += length;
    }
    watch.report({ done: offset, total });
  }
  return ranges.result();
}

/** What a bitmap says is dirty. */
export async function bitmapRanges(image: Image, name: Uint8Array, watch: Watch): Promise<Ranges> {
  const ranges = new RangeList();
  for await (const { offset, length } of image.bitmaps.ranges(name, { signal: watch.signal })) {
    ranges.add(offset, length);
    if (offset % 2 ** 30 < length) watch.report({ done: offset, total: image.size });
  }
  return ranges.result();
}

interface Piece {
  readonly end: number;
  /** It reads as zeros. */
  readonly zero: boolean;
  /** Where the byte at the offset lies; two that have the same place are the same. */
  readonly place: string | undefined;
}

function isSame(left: Piece, right: Piece): boolean {
  return (left.zero && right.zero) || (left.place !== undefined && left.place === right.place);
}

class Walk {
  private iterator: AsyncIterator<GuestExtent> | undefined;
  private extent: GuestExtent | undefined;

  constructor(
    private readonly view: View,
    private readonly signal: AbortSignal,
  ) {}

  async at(offset: number): Promise<Piece> {
    const { disk, index } = this.view;
    if (offset >= disk.size) return { end: Number.POSITIVE_INFINITY, zero: true, place: undefined };
    if (this.iterator === undefined) {
      await index.extendTo(disk.size, this.signal);
      this.iterator = index.between(0, disk.size, this.signal)[Symbol.asyncIterator]();
    }
    while (this.extent === undefined || this.extent.offset + this.extent.length <= offset) {
      const { value, done } = await this.iterator.next();
      if (done) return { end: disk.size, zero: false, place: undefined };
      this.extent = value;
    }
    const { kind, depth, hostOffset, offset: start, length } = this.extent;
    const zero = kind === 'zero' || kind === 'unallocated';
    const inside = kind === 'compressed' ? start : 0;
    const place =
      hostOffset === undefined || zero ? undefined : `${kind} ${depth} ${hostOffset + offset - start} ${inside}`;
    return { end: start + length, zero, place };
  }

  async bytes(offset: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(length);
    const inside = Math.max(0, Math.min(length, this.view.disk.size - offset));
    if (inside > 0) await this.view.disk.read(offset, target.subarray(0, inside), this.signal);
    return target;
  }
}

function noteDifferences(ranges: RangeList, offset: number, mine: Uint8Array, other: Uint8Array): void {
  for (let at = 0; at < mine.length; at += SECTOR) {
    const end = Math.min(at + SECTOR, mine.length);
    for (let byte = at; byte < end; byte++) {
      if (mine[byte] === other[byte]) continue;
      ranges.add(offset + at, end - at);
      break;
    }
  }
}
