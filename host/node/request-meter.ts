/**
 * What the requests of a device are counted in: shared memory that its serving thread writes and anybody may read at any
 * time. One writer, whole numbers, each in a place of its own: no lock, and no call for who reads.
 *
 * Latency is from the turn of the ring that brought a request to the turn that takes its answer, so the clock is asked
 * twice a turn and not for each request.
 */
import { RequestKind } from '../abi.js';

/** What requests are told apart by, in the order of the memory. */
export const METERED_KINDS = ['read', 'write', 'writeZeroes', 'discard', 'flush'] as const;

export type MeteredKind = (typeof METERED_KINDS)[number];

/** Buckets of one octave: a bucket is at most a sixteenth wide. */
const SUB_BUCKETS = 16;
const SUB_BITS = 4;
/** A latency is counted in quarters of a microsecond, up to 2^31 of them, some nine minutes; what is longer counts so. */
const UNITS_A_MICROSECOND = 4;
const LONGEST = 2 ** 31 - 1;
const BUCKETS = SUB_BUCKETS + (31 - SUB_BITS) * SUB_BUCKETS;

/** Places of one kind: bytes, errors, microseconds, then the buckets, whose sum is how many there were. */
const BYTES = 0;
const ERRORS = 1;
const MICROSECONDS = 2;
const HISTOGRAM = 3;
const STRIDE = HISTOGRAM + BUCKETS;

/** Behind all kinds: requests in flight now, and at most so far. */
const IN_FLIGHT = METERED_KINDS.length * STRIDE;
const MOST_IN_FLIGHT = IN_FLIGHT + 1;
const PLACES = MOST_IN_FLIGHT + 1;

/** Requests of one kind since the device began to serve. */
export interface RequestStatistics {
  readonly count: number;
  readonly bytes: number;
  /** Of them answered with an error. */
  readonly errors: number;
  /** All latencies together. */
  readonly microseconds: number;
  /** How many took at most so many microseconds, for each bucket that is not empty; ascending, each with all before it. */
  readonly histogram: readonly { readonly microseconds: number; readonly count: number }[];
}

export interface MeterReading {
  readonly kinds: Readonly<Record<MeteredKind, RequestStatistics>>;
  readonly inFlight: number;
  readonly mostInFlight: number;
}

/** Memory for a `RequestMeter`, to be shared with whoever reads it. */
export function meterMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(PLACES * Float64Array.BYTES_PER_ELEMENT);
}

/** The writer's side. Nothing here allocates. */
export class RequestMeter {
  private readonly places: Float64Array;
  /** Of each slot: where its kind is, and when its request came. */
  private readonly bases: Int32Array;
  private readonly starts: Float64Array;
  /** Slots whose answers go out with the next turn. */
  private readonly ended: Int32Array;
  private endedCount = 0;
  private now = 0;

  /** @param slots request slots that requests of the kernel may be in */
  constructor(memory: SharedArrayBuffer, slots: number) {
    this.places = new Float64Array(memory);
    this.bases = new Int32Array(slots);
    this.starts = new Float64Array(slots);
    this.ended = new Int32Array(slots);
  }

  /** A turn takes everything that was answered since the last one. */
  beforeTurn(): void {
    if (this.endedCount === 0) return;
    const now = performance.now();
    for (let index = 0; index < this.endedCount; index++) {
      const slot = this.ended[index];
      this.count(this.bases[slot], (now - this.starts[slot]) * 1000);
    }
    this.endedCount = 0;
  }

  /** A turn has brought something. */
  afterTurn(): void {
    this.now = performance.now();
  }

  begin(slot: number, kind: number, length: number): void {
    const { places } = this;
    const base = baseOf(kind);
    this.bases[slot] = base;
    this.starts[slot] = this.now;
    places[base + BYTES] += length;
    const inFlight = ++places[IN_FLIGHT];
    if (inFlight > places[MOST_IN_FLIGHT]) places[MOST_IN_FLIGHT] = inFlight;
  }

  end(slot: number, failed: boolean): void {
    this.places[IN_FLIGHT]--;
    if (failed) this.places[this.bases[slot] + ERRORS]++;
    this.ended[this.endedCount++] = slot;
  }

  private count(base: number, microseconds: number): void {
    const { places } = this;
    places[base + MICROSECONDS] += microseconds;
    places[base + HISTOGRAM + bucketOf(microseconds)]++;
  }
}

/** The reader's side: what has been counted up to now, by the threads of all queues. */
export function readMeter(...memories: readonly SharedArrayBuffer[]): MeterReading {
  const places = new Float64Array(PLACES);
  for (const memory of memories) {
    for (const [place, count] of new Float64Array(memory).entries()) places[place] += count;
  }
  const kinds = Object.fromEntries(METERED_KINDS.map((kind, index) => [kind, readKind(places, index * STRIDE)]));
  return {
    kinds: kinds as Record<MeteredKind, RequestStatistics>,
    inFlight: places[IN_FLIGHT] ?? 0,
    mostInFlight: places[MOST_IN_FLIGHT] ?? 0,
  };
}

/**
 * The microseconds that this share of the requests took at most, a sixteenth too many at worst; undefined where there was
 * no request.
 *
 * @param share from 0 to 1: 0.99 is the 99th percentile
 */
export function percentile({ histogram }: RequestStatistics, share: number): number | undefined {
  const wanted = (histogram.at(-1)?.count ?? 0) * share;
  return histogram.find(({ count }) => count >= wanted)?.microseconds;
}

function readKind(places: Float64Array, base: number): RequestStatistics {
  const histogram: { microseconds: number; count: number }[] = [];
  let count = 0;
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    const here = places[base + HISTOGRAM + bucket] ?? 0;
    if (here === 0) continue;
    count += here;
    histogram.push({ microseconds: endOf(bucket), count });
  }
  return {
    count,
    bytes: places[base + BYTES] ?? 0,
    errors: places[base + ERRORS] ?? 0,
    microseconds: places[base + MICROSECONDS] ?? 0,
    histogram,
  };
}

function baseOf(kind: number): number {
  switch (kind) {
    case RequestKind.Read:
      return 0;
    case RequestKind.Write:
      return STRIDE;
    case RequestKind.WriteZeroes:
      return 2 * STRIDE;
    case RequestKind.Discard:
      return 3 * STRIDE;
    default:
      return 4 * STRIDE;
  }
}

function bucketOf(microseconds: number): number {
  const units = Math.min(microseconds * UNITS_A_MICROSECOND, LONGEST) | 0;
  if (units < SUB_BUCKETS) return units;
  const octave = 31 - Math.clz32(units) - SUB_BITS;
  return SUB_BUCKETS + octave * SUB_BUCKETS + ((units >>> octave) & (SUB_BUCKETS - 1));
}

/** Microseconds at which a bucket ends. */
function endOf(bucket: number): number {
  if (bucket < SUB_BUCKETS) return (bucket + 1) / UNITS_A_MICROSECOND;
  const octave = Math.floor((bucket - SUB_BUCKETS) / SUB_BUCKETS);
  const place = (bucket - SUB_BUCKETS) % SUB_BUCKETS;
  return ((SUB_BUCKETS + place + 1) * 2 ** octave) / UNITS_A_MICROSECOND;
}
