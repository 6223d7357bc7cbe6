/** Runs a plan: two images, the engines taking turns on each, and after every turn all that can be compared. */

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random } from '../simulator/random.js';
import { checkByCorral, mapByCorral, performByCorral, readByCorral } from './corral.js';
import { Model } from './model.js';
import type { Engine, Plan, Step, Turn } from './plan.js';
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

  constructor(
    private readonly plan: Plan,
    private readonly folder: string,
  ) {
    this.first = join(folder, 'first.qcow2');
    this.twin = join(folder, 'twin.qcow2');
    this.random = new Random(plan.seed);
  }

  async run(): Promise<void> {
    const { createdBy } = this.plan.image;
    const contents = await prepareImage(this.plan, this.folder, this.first, createdBy);
    await prepareImage(this.plan, this.folder, this.twin, other(createdBy));
    const model = new Model(this.plan, contents);
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
    return performByCorral(path, steps, turn.atOnce, this.random);
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
        expectBytes('Corral', await readByCorral(path, this.random), model.bytes);
        await this.compareSnapshot(model, path);
        const map = (await mapByQemu(path)).reduce(joinDataWithHoles, []);
        expectMap('the map by Corral', await mapByCorral(path), map);
        maps.push(map);
      });
    }
    const [first = [], twin = []] = maps;
    await inContext(when, async () => expectMap('the map of the twin', kindsOf(twin), kindsOf(first)));
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
    expectBytes(`in snapshot ${name}, Corral`, await readByCorral(path, this.random, name), bytes);
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

/** Without host offsets, and neighbours that differ only in those joined: which clusters are taken is nobody's business. */
function kindsOf(map: readonly MapEntry[]): MapEntry[] {
  const kinds: MapEntry[] = [];
  for (const { offset, ...entry } of map) {
    const last = kinds.at(-1);
    const reserved = offset !== undefined;
    const alike =
      last !== undefined &&
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
