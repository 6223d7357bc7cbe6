/** The stretches of a disk that is copied, and how they are cut into pieces of work. Numbers are bytes. */

import type { BlockFile } from './block-file.js';

/** Bytes of a file. */
export interface Place {
  readonly file: BlockFile;
  readonly offset: number;
}

/** A stretch of a disk. */
export interface CopyRange {
  readonly offset: number;
  readonly length: number;
  /** Known to read as zeros. */
  readonly zero: boolean;
  /** With `zero`: what the target has there is right already. */
  readonly kept?: boolean;
  /** Where these very bytes lie one behind the other, when that is known. */
  readonly place?: Place | undefined;
}

/** Stretches without data that are kept in memory until it is known how far the data behind them reaches back. */
const MAXIMUM_GAPS = 1024;

interface Units {
  readonly unit: number;
  /** Of the disk. */
  readonly length: number;
  /** Neighbours stay apart when they lie apart in their files. */
  readonly keepPlaces: boolean;
}

/** The ranges with data widened to whole units of the target; what is left of the others between them. */
export async function* wholeUnits(
  ranges: AsyncIterable<CopyRange>,
  { unit, length, keepPlaces }: Units,
): AsyncGenerator<CopyRange> {
  let gaps: CopyRange[] = [];
  /** Where the next range begins. */
  let position = 0;
  let held: Held | undefined;
  const upTo = function* (end: number): Generator<CopyRange> {
    if (held !== undefined) {
      yield { offset: held.offset, length: held.end - held.offset, zero: false, place: held.place };
      position = held.end;
      held = undefined;
    }
    for (const gap of gaps) {
      const from = Math.max(gap.offset, position);
      const to = Math.min(gap.offset + gap.length, end);
      if (from < to) yield { ...gap, offset: from, length: to - from };
    }
    position = Math.max(position, end);
  };
  for await (const range of ranges) {
    if (range.zero) {
      gaps.push(range);
      if (gaps.length < MAXIMUM_GAPS) continue;
      yield* upTo(Math.floor(range.offset / unit) * unit);
      gaps = [range];
      continue;
    }
    const offset = Math.max(position, Math.floor(range.offset / unit) * unit);
    const end = Math.min(roundUp(range.offset + range.length, unit), length);
    const isWhole = offset === range.offset && end === range.offset + range.length;
    const place = keepPlaces && isWhole ? range.place : undefined;
    const follows = place === undefined || (held !== undefined && continues(held, place));
    if (held !== undefined && offset <= held.end && (follows || offset < held.end)) {
      held.place = follows && place !== undefined ? held.place : undefined;
      held.end = Math.max(held.end, end);
    } else {
      yield* upTo(offset);
      held = { offset, end, place };
    }
    gaps = [];
  }
  yield* upTo(length);
}

interface Held {
  readonly offset: number;
  end: number;
  place: Place | undefined;
}

/** What lies at `place` comes right behind what is held, in the file too. */
function continues({ offset, end, place: held }: Held, place: Place): boolean {
  return held !== undefined && held.file === place.file && held.offset + (end - offset) === place.offset;
}

/** The ranges cut at multiples of `pieceLength`: those that need a buffer. */
export async function* inPieces(
  ranges: AsyncIterable<CopyRange>,
  pieceLength: number,
  needsBuffer: (range: CopyRange) => boolean,
): AsyncGenerator<CopyRange> {
  for await (const range of ranges) {
    if (!needsBuffer(range)) {
      yield range;
      continue;
    }
    const end = range.offset + range.length;
    for (let offset = range.offset; offset < end; ) {
      const next = Math.min(end, (Math.floor(offset / pieceLength) + 1) * pieceLength);
      const place = range.place && { ...range.place, offset: range.place.offset + offset - range.offset };
      yield { offset, length: next - offset, zero: range.zero, place };
      offset = next;
    }
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
