/**
 * Reading what a map has told the place of. A copy asks for the map first and for the bytes next: when they lie in a file as
 * they are, they need not pass through the engines of all layers above it.
 */

import type { Place } from './copy-range.js';
import { allEnded } from './pieces.js';

/** Places that are remembered: some more than a copy looks ahead. Older ones are forgotten, and read as if not known. */
const MOST = 1024;

/** A stretch of the disk, in bytes, and where it lies. */
interface KnownPlace {
  readonly offset: number;
  readonly length: number;
  readonly place: Place;
}

export class KnownPlaces {
  /** In the order of the disk. */
  private places: KnownPlace[] = [];

  /** To be read next; later calls are of later stretches. A stretch that comes before the last one begins anew. */
  note(known: KnownPlace): void {
    const last = this.places.at(-1);
    if (last !== undefined && known.offset < endOf(last)) this.places = [];
    this.places.push(known);
    if (this.places.length > MOST) this.places.shift();
  }

  /**
   * Fills the target from byte `offset` of the disk on. What has no known place, or cannot be read there, is read by `other`,
   * which knows more about why.
   */
  async read(
    offset: number,
    target: Uint8Array,
    other: (offset: number, target: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const end = offset + target.length;
    const reads: Promise<void>[] = [];
    let position = offset;
    const part = (to: number): Uint8Array => target.subarray(position - offset, to - offset);
    for (const known of this.take(offset, end)) {
      if (known.offset > position) {
        reads.push(other(position, part(known.offset)));
        position = known.offset;
      }
      const { file, offset: start } = known.place;
      const bytes = part(Math.min(end, endOf(known)));
      const at = position;
      reads.push(file.read(start + at - known.offset, bytes).catch(() => other(at, bytes)));
      position += bytes.length;
    }
    if (position < end) reads.push(other(position, part(end)));
    await allEnded(reads);
  }

  /** Those that reach into a stretch; what ends in it is read once, and forgotten. */
  private take(offset: number, end: number): KnownPlace[] {
    const { places } = this;
    // Reads come in the order of the disk, too: it is one of the first.
    let first = 0;
    while (first < places.length && endOf(places[first] as KnownPlace) <= offset) first++;
    let next = first;
    while (next < places.length && (places[next] as KnownPlace).offset < end) next++;
    const taken = places.slice(first, next);
    const last = taken.at(-1);
    const goesOn = last !== undefined && endOf(last) > end;
    places.splice(first, taken.length - (goesOn ? 1 : 0));
    return taken;
  }
}

function endOf({ offset, length }: KnownPlace): number {
  return offset + length;
}
