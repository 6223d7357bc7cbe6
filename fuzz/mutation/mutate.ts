/** Damage: an image's bytes with one or a few changes that know the format. */

import type { Random } from '../simulator/random.js';
import type { Layout, Spot } from './layout.js';

export interface Mutant {
  readonly bytes: Uint8Array;
  /** What was done, in order, for the report. */
  readonly changes: readonly string[];
}

/** Draws the changes and makes them, on a copy. */
export function mutate(random: Random, original: Uint8Array, layout: Layout): Mutant {
  const count = random.chance(0.6) ? 1 : random.chance(0.7) ? 2 : random.between(3, 8);
  let bytes: Uint8Array = original.slice();
  const changes: string[] = [];
  for (let index = 0; index < count; index++) {
    if (random.chance(0.85)) changes.push(changeSpot(random, bytes, layout));
    else {
      const changed = changeStretch(random, bytes, layout);
      bytes = changed.bytes;
      changes.push(changed.change);
    }
  }
  return { bytes, changes };
}

function changeSpot(random: Random, bytes: Uint8Array, layout: Layout): string {
  const kind = random.pick([...layout.spots.keys()]);
  const spot = random.pick(layout.spots.get(kind) as readonly Spot[]);
  if (spot.offset + spot.size > bytes.length) return 'nothing: cut off';
  const old = load(bytes, spot);
  const value = BigInt.asUintN(spot.size * 8, newValue(random, spot, old, bytes, layout));
  store(bytes, spot, value);
  return `${spot.kind} ${spot.name} at ${spot.offset}: 0x${old.toString(16)} becomes 0x${value.toString(16)}`;
}

function newValue(random: Random, spot: Spot, old: bigint, bytes: Uint8Array, layout: Layout): bigint {
  const maximum = (1n << BigInt(spot.size * 8)) - 1n;
  switch (random.below(spot.size === 8 ? 12 : 7)) {
    case 0:
      return old ^ (1n << BigInt(random.below(spot.size * 8)));
    case 1:
      return random.pick([0n, 1n, maximum, maximum >> 1n, (maximum >> 1n) + 1n, maximum - 1n]);
    case 2:
      return old + random.pick([-1n, 1n, -8n, 8n, -512n, 512n]);
    case 3:
      return random.pick([old * 2n, old / 2n, old * 3n]);
    case 4:
      return BigInt(random.below(2 ** random.between(1, 32)));
    case 5:
      return old ^ (1n << BigInt(random.below(spot.size * 8))) ^ (1n << BigInt(random.below(spot.size * 8)));
    case 6:
      return neighbour(random, spot, bytes, layout);
    case 7:
      return compressedEntry(random, bytes.length, layout);
    default:
      return pointer(random, old, bytes.length, layout);
  }
}

/** The value of another spot of the same kind: two tables, or two entries, that name the same. */
function neighbour(random: Random, spot: Spot, bytes: Uint8Array, layout: Layout): bigint {
  const other = random.pick(layout.spots.get(spot.kind) as readonly Spot[]);
  return other.offset + other.size <= bytes.length ? load(bytes, other) : 0n;
}

/** An offset at which something else lies, or nothing, with the flags of the old entry or other ones. */
function pointer(random: Random, old: bigint, length: number, { clusterSize, places }: Layout): bigint {
  const offsets = [
    random.pick(places),
    random.pick(places),
    random.pick(places),
    random.below(Math.ceil(length / clusterSize) + 2) * clusterSize,
    random.below(length),
    length,
    2 ** random.between(30, 52),
  ];
  const offset =
    BigInt(random.pick(offsets)) + (random.chance(0.1) ? BigInt(random.pick([512, clusterSize / 2, 1])) : 0n);
  const flags = random.pick([0n, 1n << 63n, 1n << 63n, old & ~0x00fffffffffffe00n, 1n, (1n << 63n) | 1n]);
  return offset | flags;
}

function compressedEntry(random: Random, length: number, { clusterSize }: Layout): bigint {
  const bits = BigInt(62 - (Math.log2(clusterSize) - 8));
  const sectors = BigInt(random.below(clusterSize / 256));
  return (1n << 62n) | (sectors << bits) | BigInt(random.below(length + clusterSize));
}

/** Changes that are not of one number. */
function changeStretch(random: Random, bytes: Uint8Array, { clusterSize, places }: Layout): Change {
  const clusters = Math.max(1, Math.floor(bytes.length / clusterSize));
  const from = random.below(clusters) * clusterSize;
  const to = random.chance(0.5) ? random.pick(places) : random.below(clusters) * clusterSize;
  const here = to < bytes.length ? to : 0;
  switch (random.below(7)) {
    case 0: {
      const length = random.chance(0.5) ? random.below(bytes.length + 1) : here;
      return { bytes: bytes.slice(0, length), change: `cut off after ${length} bytes` };
    }
    case 1: {
      const longer = new Uint8Array(bytes.length + random.between(1, 4 * clusterSize));
      longer.set(bytes);
      for (let index = bytes.length; index < longer.length; index++) longer[index] = random.next();
      return { bytes: longer, change: `garbage up to ${longer.length}` };
    }
    case 2:
      bytes.copyWithin(here, from, Math.min(from + clusterSize, bytes.length));
      return { bytes, change: `cluster at ${from} copied to ${here}` };
    case 3:
      bytes.fill(0, here, here + clusterSize);
      return { bytes, change: `cluster at ${here} zeroed` };
    case 4: {
      for (let index = here; index < Math.min(here + clusterSize, bytes.length); index++) bytes[index] = random.next();
      return { bytes, change: `cluster at ${here} becomes garbage` };
    }
    case 5: {
      const offset = random.below(bytes.length || 1);
      bytes.fill(0xff, offset, offset + random.between(1, 64));
      return { bytes, change: `ones at ${offset}` };
    }
    default: {
      const offset = random.below(bytes.length || 1);
      bytes[offset] = random.next();
      return { bytes, change: `byte ${offset} becomes ${bytes[offset]}` };
    }
  }
}

interface Change {
  readonly bytes: Uint8Array;
  readonly change: string;
}

function load(bytes: Uint8Array, { offset, size }: Spot): bigint {
  let value = 0n;
  for (let index = 0; index < size; index++) value = (value << 8n) | BigInt(bytes[offset + index] as number);
  return value;
}

function store(bytes: Uint8Array, { offset, size }: Spot, value: bigint): void {
  for (let index = size - 1, left = value; index >= 0; index--, left >>= 8n)
    bytes[offset + index] = Number(left & 0xffn);
}
