/** Runs a plan: two images, the engines taking turns on each, and after every turn all that can be compared. */

import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readBitmaps } from '../simulator/bitmap-reader.js';
import { Random } from '../simulator/random.js';
import { SparseBytes, ZEROS } from '../simulator/sparse-bytes.js';
import { type BitmapState, sorted } from './bitmap-model.js';
import { bitmapsByCorral, checkByCorral, mapByCorral, performByCorral, readByCorral } from './corral.js';
import { Model } from './model.js';
import { writeNoise } from './noise.js';
import { dataPath, type Engine, type Plan, type Step, type Turn } from './plan.js';
import { prepareImage } from './prepare.js';
import { checkByQemu, type MapEntry, mapByQemu, performByQemu, readByQemu } from './qemu.js';

const MEMORY = '/dev/shm';

/** Ends without a word when both engines agree all the way; throws with the first difference. */
export async function runSequence(plan: Plan): Promise<void> {
  const folder = mkdtempSync(
    join(statSync(MEMORY, { throwIfNoEntry: false }) ? MEMORY : tmpdir(), 'corral-differential-'),
  );
  try {
    await new Sequence(plan, folder).run();
  } finally {
    rmSync(folder, { recursive: true });
  }
}

class Sequence {
  private readonly first: string;
  private readonly twin: string;
  private readonly random: Random;
  private readonly hasData: boolean;

  constructor(
    private readonly plan: Plan,
    private readonly folder: string,
  ) {
    this.first = join(folder, 'first.qcow2');
    this.twin = join(folder, 'twin.qcow2');
    this.random = new Random(plan.seed);
    this.hasData = plan.image.dataFile !== 'none';
  }

  async run(): Promise<void> {
    const { createdBy } = this.plan.image;
    const contents = await prepareImage(this.plan, this.folder, this.first, createdBy);
    await prepareImage(this.plan, this.folder, this.twin, other(createdBy));
    const model = new Model(this.plan, contents);
    writeNoise(this.folder, longestWrite(this.plan));
    await this.compare(model, 'before the first turn');
    for (const [index, turn] of this.plan.turns.entries()) {
      const steps = possibleSteps(turn, model);
      const where = `turn ${index}`;
      await inContext(`${where}, ${turn.by} on the first image`, () => this.perform(turn.by, this.first, turn, steps));
      await inContext(`${where}, ${other(turn.by)} on the twin`, () =>
        this.perform(other(turn.by), this.twin, turn, steps),
      );
      await this.compare(model, `after ${where}`);
    }
  }

  private perform(engine: Engine, path: string, turn: Turn, steps: readonly Step[]): Promise<void> {
    if (engine === 'qemu') return performByQemu(path, steps);
    return performByCorral(path, { atOnce: turn.atOnce, hasData: this.hasData }, steps, this.random);
  }

  private async compare(model: Model, when: string): Promise<void> {
    const maps: MapEntry[][] = [];
    for (const [name, path] of [
      ['first image', this.first],
      ['twin', this.twin],
    ] as const) {
      const context = `${when}, ${name}`;
      await inContext(`${context}, qemu-img check`, () => checkByQemu(path));
      await inContext(`${context}, check by Corral`, () => checkByCorral(path));
      await inContext(context, async () => {
        expectBytes('QEMU', await readByQemu(path), model.bytes);
        expectBytes('Corral', await readByCorral(path, this.hasData, this.random), model.bytes);
        if (this.plan.image.dataFile === 'raw') expectRaw(path, model.bytes);
        await this.compareSnapshot(model, path);
        await this.compareBitmaps(model, path);
        const map = (await mapByQemu(path)).reduce(joinDataWithHoles, []);
        expectMap('the map by Corral', await mapByCorral(path, this.hasData), map);
        maps.push(map);
      });
    }
    if (!this.mapsAgree()) return;
    const [first = [], twin = []] = maps.map((map) => kindsOf(map, model.looseClusters, this.plan.image.clusterSize));
    await inContext(when, async () => expectMap('the map of the twin', twin, first));
  }

  /** Whether both engines leave the same kinds of clusters: see the README. */
  private mapsAgree(): boolean {
    const { extendedL2, compressed, dataFile } = this.plan.image;
    return !compressed && !(extendedL2 && dataFile === 'raw');
  }

  /** One of the snapshots, if there are any. */
  private async compareSnapshot(model: Model, path: string): Promise<void> {
    const names = [...model.snapshots.keys()];
    if (names.length === 0) return;
    const name = this.random.pick(names);
    const bytes = model.snapshots.get(name) as Uint8Array;
    // QEMU reads as many bytes as the disk has now.
    const qemu = await readByQemu(path, name);
    const common = Math.min(qemu.length, bytes.length);
    expectBytes(`in snapshot ${name}, QEMU`, qemu.subarray(0, common), bytes.subarray(0, common));
    expectBytes(`in snapshot ${name}, Corral`, await readByCorral(path, this.hasData, this.random, name), bytes);
  }

  /** What is stored, which is what QEMU would load; and what Corral says of it. */
  private async compareBitmaps(model: Model, path: string): Promise<void> {
    const expected = model.bitmaps.states();
    expectBitmaps('stored', storedBitmaps(path, this.plan.image.clusterSize, model.bytes.length), expected);
    if (expected.length > 0) expectBitmaps('for Corral', await bitmapsByCorral(path, this.hasData), expected);
  }
}

/** The steps as they can be carried out one after the other; the model has seen them then. */
function possibleSteps(turn: Turn, model: Model): Step[] {
  return turn.steps.flatMap((step) => {
    const possible = model.possible(step);
    if (possible === undefined) return [];
    model.apply(possible);
    return [possible];
  });
}

function other(engine: Engine): Engine {
  return engine === 'qemu' ? 'corral' : 'qemu';
}

async function inContext(context: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    throw new Error(`${context}: ${(error as Error).message}`, { cause: error });
  }
}

function expectBytes(reader: string, found: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(found, expected) === 0) return;
  let index = 0;
  while (index < found.length && found[index] === expected[index]) index++;
  const lengths = found.length === expected.length ? '' : `; ${found.length} bytes, not ${expected.length}`;
  throw new Error(`${reader} reads ${found[index]} at guest byte ${index}, not ${expected[index]}${lengths}`);
}

/** A raw data file may be longer, by zeros. */
function expectRaw(path: string, expected: Uint8Array): void {
  const bytes = readFileSync(dataPath(path));
  expectBytes('whoever takes the data file for a disk', bytes.subarray(0, expected.length), expected);
}

function storedBitmaps(path: string, clusterSize: number, size: number): BitmapState[] {
  const contents = readFileSync(path);
  const bytes = new SparseBytes(ZEROS);
  bytes.write(0, contents);
  const { bitmaps } = readBitmaps({ bytes, length: contents.length }, clusterSize, size);
  return sorted(
    bitmaps.map(({ name, granularity, enabled, inUse, bits }) => ({
      name: inUse ? `${name} (in use)` : name,
      granularity,
      enabled,
      // QEMU sets some behind the end of the disk, too.
      bits: [...bits].filter((bit) => bit * granularity < size).sort((one, other) => one - other),
    })),
  );
}

function expectBitmaps(where: string, found: readonly BitmapState[], expected: readonly BitmapState[]): void {
  const [texts, wanted] = [found, expected].map((states) => states.map(describeBitmap)) as [string[], string[]];
  const index = wanted.findIndex((text, place) => text !== texts[place]);
  if (index < 0 && texts.length === wanted.length) return;
  const place = index < 0 ? wanted.length : index;
  throw new Error(`the bitmap ${where} is ${texts[place]}, not ${wanted[place]}`);
}

function describeBitmap({ name, granularity, enabled, bits }: BitmapState): string {
  const runs: string[] = [];
  for (let index = 0; index < bits.length; index++) {
    const first = bits[index] as number;
    while (bits[index + 1] === (bits[index] as number) + 1) index++;
    runs.push(first === bits[index] ? `${first}` : `${first}-${bits[index]}`);
  }
  return `${name}, ${enabled ? 'on' : 'off'}, bits of ${granularity}: ${runs.join(' ')}`;
}

/** Bytes. */
function longestWrite({ turns }: Plan): number {
  const lengths = turns.flatMap(({ steps }) => steps.map((step) => ('length' in step ? step.length : 0)));
  return Math.max(512, ...lengths);
}

function expectMap(what: string, found: readonly MapEntry[], expected: readonly MapEntry[]): void {
  const texts = [found, expected].map((map) => map.map((entry) => JSON.stringify(entry, Object.keys(entry).sort())));
  const [foundTexts = [], expectedTexts = []] = texts;
  const index = foundTexts.findIndex((text, place) => text !== expectedTexts[place]);
  if (index < 0 && foundTexts.length === expectedTexts.length) return;
  const place = index < 0 ? foundTexts.length : index;
  throw new Error(`${what} says ${foundTexts[place]}, not ${expectedTexts[place]}`);
}

/** QEMU looks for holes in the image file, too, and says that data are zeros there. */
function joinDataWithHoles(map: MapEntry[], entry: MapEntry): MapEntry[] {
  const last = map.at(-1);
  const next = { ...entry, zero: entry.zero && !entry.data };
  if (!next.data || last?.data !== true || next.compressed || last.depth !== next.depth) return [...map, next];
  const follows = (last.offset ?? 0) + last.length === next.offset;
  return follows && !last.compressed
    ? [...map.slice(0, -1), { ...last, length: last.length + next.length }]
    : [...map, next];
}

/**
 * Without host offsets, and neighbours that differ only in those joined: which clusters are taken is nobody's business.
 * What lies in the clusters `ignored` is left out.
 */
function kindsOf(map: readonly MapEntry[], ignored: ReadonlySet<number>, clusterSize: number): MapEntry[] {
  const kinds: MapEntry[] = [];
  for (const { offset, ...entry } of map.flatMap((whole) => piecesOf(whole, ignored, clusterSize))) {
    const last = kinds.at(-1);
    const reserved = offset !== undefined;
    const alike =
      last !== undefined &&
      last.start + last.length === entry.start &&
      last.present === entry.present &&
      last.zero === entry.zero &&
      last.data === entry.data &&
      last.compressed === entry.compressed &&
      last.depth === entry.depth &&
      (last.offset !== undefined) === reserved;
    if (alike) kinds[kinds.length - 1] = { ...last, length: last.length + entry.length };
    else kinds.push({ ...entry, ...(reserved ? { offset: 0 } : {}) });
  }
  return kinds;
}

/** The entry without those clusters. */
function piecesOf(entry: MapEntry, clusters: ReadonlySet<number>, clusterSize: number): MapEntry[] {
  let pieces = [entry];
  for (const cluster of clusters) {
    const [from, to] = [cluster * clusterSize, (cluster + 1) * clusterSize];
    pieces = pieces.flatMap((piece) => {
      const end = piece.start + piece.length;
      const before = { ...piece, length: Math.min(end, from) - piece.start };
      const after = { ...piece, start: Math.max(piece.start, to), length: end - Math.max(piece.start, to) };
      return [before, after].filter(({ length }) => length > 0);
    });
  }
  return pieces;
}
