/** What a seed is about: the image, the engine's limits, the disk's and the guest's habits. */

import { Cells, SECTOR } from './pattern.js';
import type { Random } from './random.js';
import type { DiskTemper } from './simulated-disk.js';

/**
 * What most of a seed's requests lead to. Wide: more tables than the cache has slices, all over the disk, so that slices
 * are evicted and written out all the time. Growth: the refcounts are full, and every life begins with a longer table.
 */
export type Focus = 'nothing' | 'wide' | 'growth';

/** The image and the engine of all lives of a seed. */
export interface Scenario {
  readonly focus: Focus;
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly refcountOrder: number;
  readonly virtualSize: number;
  readonly lazyRefcounts: boolean;
  /** L2 entries describe subclusters. */
  readonly extended: boolean;
  /** Guest data lies in a file of its own, which may be a raw image at any time. */
  readonly dataFile: 'none' | 'plain' | 'raw';
  /** Discarded clusters keep their host clusters. */
  readonly keepsDiscarded: boolean;
  /** The file is told of clusters that the guest discards, that become free with a snapshot, or otherwise. */
  readonly passDiscard: { readonly request: boolean; readonly snapshot: boolean; readonly other: boolean };
  /** Persistent bitmaps are made and used. */
  readonly bitmaps: boolean;
  /** Bytes of the backing file; 0 when there is none. */
  readonly backingLength: number;
  /** How often somebody else makes an internal snapshot between two lives, or compresses clusters. */
  readonly snapshots: number;
  /** The guest's host makes, applies and deletes some while the guest works. */
  readonly snapshotRequests: boolean;
  readonly compresses: number;
  /** The guest has clusters compressed. */
  readonly compressedWrites: boolean;
  /** A regular file; else a device of `deviceLength` bytes that is full of garbage. */
  readonly regular: boolean;
  readonly deviceLength: number;
  readonly requestCapacity: number;
  readonly cells: Cells;
  readonly lives: number;
}

/** How a life ends. */
export type Ending = 'power cut' | 'kill' | 'close';

/** One life: from an open to its end. */
export interface LifePlan {
  readonly requests: number;
  readonly ending: Ending;
  /** Steps between the last request and a power cut. */
  readonly steps: number;
  readonly temper: DiskTemper;
  /** Errors end after this many requests, and from then on everything must work again. */
  readonly troubleUntil: number;
  /** How often a step is followed by the question what a power cut would leave now. */
  readonly imaginedCuts: number;
  readonly cancels: number;
  /** How often a request changes a property of the image. */
  readonly amends: number;
  /** How often a request is one for another size of the disk. */
  readonly resizes: number;
  /** How often a request is one for clusters ahead of writes. */
  readonly preallocations: number;
  /** How often a request is one about a bitmap. */
  readonly bitmapCalls: number;
  /** How often a request asks what is where, or which snapshots there are. */
  readonly questions: number;
  /** The engine's own check runs before the first request, and again before a close. */
  readonly check: boolean;
  /** How often the guest's host makes, applies or deletes a snapshot. */
  readonly snapshots: number;
  /** How eagerly the guest sends its next request. */
  readonly eagerness: number;
  readonly habits: Habits;
}

/** What the guest likes to ask. Weights are relative. */
export interface Habits {
  readonly reads: number;
  readonly writes: number;
  readonly durableWrites: number;
  /** Of one cluster each, to be compressed. */
  readonly compressedWrites: number;
  /** Of each of write zeroes with and without unmap. */
  readonly zeroes: number;
  readonly discards: number;
  /** Discards that show again what lies behind the image. */
  readonly uncovers: number;
  readonly flushes: number;
  /** Probability that a request is near a hot spot. */
  readonly locality: number;
  /** Guest offsets. */
  readonly hotSpots: readonly number[];
  /** Bytes around a hot spot. */
  readonly spread: number;
  /** Bytes of the longest request. */
  readonly longest: number;
}

/** What seeds are to have instead of what they draw, so that what a test is about happens often and little else does. */
export interface Emphasis {
  readonly focus?: Focus;
  readonly scenario?: Partial<Scenario>;
  readonly plan?: Partial<LifePlan>;
  readonly temper?: Partial<DiskTemper>;
  readonly habits?: Partial<Habits>;
}

/** Bytes that no request exceeds. */
export const LONGEST_REQUEST = 196608;

/** Bytes of the largest disk that a raw data file has: all of them are mapped, and compared every time. */
export const LARGEST_RAW = 1 << 20;

/** Bytes of the longest disk over a backing file that gets another size. */
const LARGEST_RESIZED_OVERLAY = 4 << 20;

/** How many requests a life may have: growing takes a moment, evictions take long. */
const REQUESTS: Readonly<Record<Focus, readonly number[]>> = {
  nothing: [5, 20, 60, 60, 150, 150, 300],
  wide: [60, 150, 300],
  growth: [3, 10, 25],
};

/** Clusters of the longest file that the engine's own check looks at here: it walks them all. */
const LONGEST_CHECKED = 40000;

/** A disk without surprises, for the creation of images. */
export const CALM: DiskTemper = {
  readTime: 4,
  dataTime: 4,
  tableTime: 4,
  flushTime: 8,
  splits: 0.2,
  readErrors: 0,
  writeErrors: 0,
  flushErrors: 0,
  capacity: Number.POSITIVE_INFINITY,
};

export function drawScenario(random: Random, emphasis: Emphasis = {}): Scenario {
  return { ...drawWholeScenario(random, emphasis.focus), ...emphasis.scenario };
}

export function drawLife(random: Random, scenario: Scenario, fileLength: number, emphasis: Emphasis = {}): LifePlan {
  const drawn = drawWholeLife(random, scenario, fileLength);
  return {
    ...drawn,
    ...emphasis.plan,
    temper: { ...drawn.temper, ...emphasis.temper },
    habits: { ...drawn.habits, ...emphasis.habits },
  };
}

/** @param wanted the focus, when it is not for the seed to decide */
function drawWholeScenario(random: Random, wanted: Focus | undefined): Scenario {
  const version = random.chance(0.25) ? 2 : 3;
  const drawn = random.pick<Focus>(['nothing', 'nothing', 'nothing', 'nothing', 'wide', 'wide', 'growth', 'growth']);
  const focus = wanted ?? drawn;
  const wide = focus === 'wide';
  const extended = version === 3 && random.chance(0.15);
  const sizes = wide ? [12, 12, 13, 14] : [9, 9, 9, 10, 11, 12, 12, 12, 12, 13, 14, 16];
  // Few but not too large: all tables are walked many times.
  const extendedSizes = wide ? [14] : [14, 14, 14, 15, 16];
  const clusterBits = random.pick(extended ? extendedSizes : sizes);
  const clusterSize = 2 ** clusterBits;
  const refcountOrder = version === 2 || random.chance(0.5) ? 4 : random.below(7);
  const regular = focus === 'growth' || random.chance(0.8);
  const coverage = (clusterSize / 8) * clusterSize;
  const tables = random.pick(wide ? [64, 200, 1000] : [1, 2, 4, 16, 64]);
  const dataFile = version === 3 && regular && random.chance(0.15) ? random.pick(['plain', 'raw'] as const) : 'none';
  const largest = dataFile === 'raw' ? LARGEST_RAW : 2 ** 34;
  const virtualSize = Math.min(largest, Math.max(SECTOR, random.below((coverage * tables) / SECTOR) * SECTOR));
  const bitmaps = version === 3 && random.chance(0.3);
  const alone = dataFile !== 'none';
  return {
    focus,
    version,
    clusterBits,
    refcountOrder,
    virtualSize,
    lazyRefcounts: version === 3 && random.chance(0.4),
    extended,
    dataFile,
    keepsDiscarded: version === 3 && random.chance(0.3),
    passDiscard: { request: random.chance(0.8), snapshot: random.chance(0.8), other: random.chance(0.8) },
    bitmaps,
    // What the first cluster has no room for is a matter of its own; a data file has place for nothing but guest data.
    backingLength: bitmaps || alone ? 0 : drawBackingLength(random, virtualSize),
    snapshots: alone ? 0 : random.pick([0, 0, 0.3, 0.8]),
    snapshotRequests: !alone && random.chance(0.4),
    compresses: alone || extended ? 0 : random.pick([0, 0, 0.5, 0.9]),
    compressedWrites: !alone && random.chance(0.4),
    regular,
    deviceLength: drawDeviceLength(random, clusterSize, refcountOrder, virtualSize),
    requestCapacity: random.pick(wide ? [1, 2, 3, 4, 6] : [1, 1, 2, 3, 4, 8, 8, 16, 32]),
    cells: drawCells(random),
    lives: random.between(1, 4),
  };
}

function drawWholeLife(random: Random, scenario: Scenario, fileLength: number): LifePlan {
  const troubled = random.chance(0.35);
  const requests = random.pick(REQUESTS[scenario.focus]);
  const growth = scenario.focus === 'growth';
  return {
    requests,
    ending: random.pick<Ending>(['power cut', 'power cut', 'power cut', 'kill', 'close', 'close']),
    steps: random.below(100),
    temper: drawTemper(random, scenario, troubled, fileLength),
    troubleUntil: troubled ? random.between(1, requests) : 0,
    imaginedCuts: random.pick(growth ? [0.02, 0.1, 0.3] : [0.001, 0.002, 0.005, 0.01]),
    cancels: random.chance(growth ? 0.5 : 0.2) ? random.pick([0.01, 0.05, growth ? 0.3 : 0.1]) : 0,
    amends: random.pick([0, 0, 0, 0.01, 0.1]),
    resizes: mayResize(scenario) ? random.pick([0, 0, 0, 0.01, 0.05, 0.3]) : 0,
    // Over a backing file only subclusters can be reserved.
    preallocations: scenario.backingLength === 0 || scenario.extended ? random.pick([0, 0, 0, 0.01, 0.05]) : 0,
    bitmapCalls: scenario.bitmaps ? random.pick([0.02, 0.1, 0.4]) : 0,
    check: random.chance(0.15) && fileLength < LONGEST_CHECKED * 2 ** scenario.clusterBits,
    snapshots: scenario.snapshotRequests ? random.pick([0.01, 0.03, 0.1, 0.3]) : 0,
    questions: random.pick([0, 0, 0.02, 0.1]),
    eagerness: random.pick([0.1, 0.3, 0.6, 0.95]),
    habits: drawHabits(random, scenario),
  };
}

/** What is new over a backing file is zeroed as a whole. */
function mayResize({ dataFile, backingLength, virtualSize }: Scenario): boolean {
  return dataFile === 'none' && (backingLength === 0 || virtualSize <= LARGEST_RESIZED_OVERLAY);
}

function drawTemper(random: Random, scenario: Scenario, troubled: boolean, fileLength: number): DiskTemper {
  const times = [1, 2, 8, 40, 200];
  const full = troubled && random.chance(0.4);
  const growth = random.below(64) * 2 ** scenario.clusterBits;
  const end = scenario.regular ? Number.POSITIVE_INFINITY : scenario.deviceLength;
  return {
    readTime: random.pick(times),
    dataTime: random.pick(times),
    tableTime: random.pick(times),
    flushTime: random.pick(times),
    splits: random.pick([0, 0.1, 0.5]),
    ...drawErrors(random, troubled && !full ? random.pick([0.002, 0.02, 0.1, 0.4]) : 0),
    capacity: full && scenario.regular ? fileLength + growth : end,
  };
}

/** Everything fails now and then, or one thing does. */
function drawErrors(random: Random, rate: number): Pick<DiskTemper, 'readErrors' | 'writeErrors' | 'flushErrors'> {
  const where = random.pick(['all', 'all', 'reads', 'writes', 'flushes']);
  const rateOf = (which: string) => (where === 'all' || where === which ? rate : 0);
  return { readErrors: rateOf('reads'), writeErrors: rateOf('writes'), flushErrors: rateOf('flushes') };
}

function drawHabits(random: Random, scenario: Scenario): Habits {
  const { virtualSize, clusterBits } = scenario;
  const clusterSize = 2 ** clusterBits;
  const hotSpots = [];
  for (let count = random.between(1, 12); count > 0; count--)
    hotSpots.push(random.below(virtualSize / SECTOR) * SECTOR);
  return {
    reads: random.pick([1, 3, 6]),
    writes: random.pick([2, 6, 6]),
    durableWrites: random.pick([0, 0, 1]),
    compressedWrites: scenario.compressedWrites ? random.pick([0, 1, 4]) : 0,
    zeroes: random.pick([0, 0, 0.5, 2]),
    discards: random.pick([0, 0, 1, 4]),
    uncovers: drawUncovers(random, scenario),
    flushes: random.pick([0, 0.3, 1, 3]),
    locality: random.pick(scenario.focus === 'wide' ? [0, 0, 0.3] : [0, 0.5, 0.95, 1]),
    hotSpots,
    spread: random.pick([SECTOR * 4, clusterSize, clusterSize * 8, clusterSize * 64]),
    longest: Math.min(LONGEST_REQUEST, random.pick([SECTOR, 4096, clusterSize, clusterSize * 3, clusterSize * 10])),
  };
}

/** Over a backing file: elsewhere they are discards. Not where there is a data file. */
function drawUncovers(random: Random, { backingLength, dataFile }: Scenario): number {
  return backingLength > 0 && dataFile === 'none' ? random.pick([0, 1, 4]) : 0;
}

/** Three of four guests write whole sectors; the others cut them in pieces of odd lengths. */
function drawCells(random: Random): Cells {
  if (random.chance(0.75)) return new Cells([0]);
  const second = random.between(16, 200);
  const third = random.between(second + 16, 400);
  return new Cells([0, second, third]);
}

/** Three of four images have none; it may be shorter or longer than the disk. */
function drawBackingLength(random: Random, virtualSize: number): number {
  if (random.chance(0.75)) return 0;
  const sectors = random.pick([virtualSize, virtualSize * 2, random.below(virtualSize)]) / SECTOR;
  return (Math.floor(sectors) + 1) * SECTOR;
}

/** Room for the tables of a new image, and for some or all of what the guest may write. */
function drawDeviceLength(random: Random, clusterSize: number, refcountOrder: number, virtualSize: number): number {
  const coverage = (clusterSize / 8) * clusterSize;
  const l1Clusters = Math.ceil((Math.ceil(virtualSize / coverage) * 8) / clusterSize);
  const blockCoverage = (clusterSize * 8) / 2 ** refcountOrder;
  const overhead = l1Clusters + Math.ceil(l1Clusters / blockCoverage) * 2 + 8;
  return (overhead + random.between(8, Math.min(4 * blockCoverage, 4096) + 16)) * clusterSize;
}
