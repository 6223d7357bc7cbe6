/**
 * Power cuts with subclusters and data files: of what no flush has covered, any part of either file may be lost. The image
 * must have no corruption then, and what was flushed must be there.
 */

import { describe, expect, test } from 'vitest';
import { type CreateImageOptions, Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { CuttableFile } from './cuttable-file.js';
import { compileMutated } from './mutated-core.js';

const SECTOR = 512;
const CLUSTER = 16384;
const SIZE = 12 * CLUSTER + 3 * SECTOR;
const ROUNDS = 15;
const LIVES = 5;

type Random = () => number;

/** What each sector may hold: the value that was flushed, and those written since. */
class Model {
  private readonly possible = Array.from({ length: SIZE / SECTOR }, () => new Set<number>());
  private readonly current = new Uint8Array(SIZE / SECTOR);

  /** What is there now is durable. */
  constructor(disk: Uint8Array) {
    for (let sector = 0; sector < SIZE / SECTOR; sector++) {
      this.write(sector, sector + 1, disk[sector * SECTOR] as number);
    }
    this.flush();
  }

  write(first: number, end: number, value: number): void {
    for (let sector = first; sector < end; sector++) {
      this.possible[sector]?.add(value);
      this.current[sector] = value;
    }
  }

  flush(): void {
    for (const [sector, values] of this.possible.entries()) {
      values.clear();
      values.add(this.current[sector] as number);
    }
  }

  /** The sector that holds something else, or -1. */
  wrong(disk: Uint8Array): number {
    return this.possible.findIndex((values, sector) => {
      const bytes = disk.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      return !values.has(bytes[0] as number) || bytes.some((byte) => byte !== bytes[0]);
    });
  }
}

const kinds = [
  { name: 'subclusters', options: { extendedL2: true } },
  { name: 'a data file', options: { dataFile: 'data' } },
  { name: 'a raw data file', options: { dataFile: 'data', dataFileRaw: true } },
  { name: 'subclusters in a data file', options: { dataFile: 'data', extendedL2: true } },
];

describe('after power cuts an image', () => {
  test.each(kinds)('with $name has lost nothing that was flushed', async ({ options }) => {
    const seed = chooseSeed();

    await live(randomFrom(seed), options, `seed ${seed}`);
  });
});

describe('this test notices', () => {
  test('a flush that leaves the data file out', async () => {
    const lives = failing((seed) => live(randomFrom(seed), { dataFile: 'data' }, '', { dataFileFlushes: false }));

    await expect(lives).rejects.toThrow(/sector/);
  });

  test('entries that say more than what is written', async () => {
    const core = await compileMutated({
      file: 'request/new-clusters.ts',
      find: '  task.edgeEnd = (task.newEnd + mask) & ~mask;',
      replace: '  task.edgeEnd = task.allocatingEnd; task.newEnd = min(task.newEnd, task.edgeEnd);',
    });

    await expect(failing((seed) => live(randomFrom(seed), { extendedL2: true }, '', { core }))).rejects.toThrow();
  });
});

/** Lives until one fails. */
async function failing(run: (seed: number) => Promise<void>): Promise<void> {
  for (let seed = 1; seed <= 10; seed++) await run(seed);
}

interface Sabotage {
  core?: WebAssembly.Module;
  dataFileFlushes?: boolean;
}

type Kind = Pick<CreateImageOptions, 'dataFile' | 'dataFileRaw' | 'extendedL2'>;

async function live(random: Random, options: Kind, context: string, sabotage: Sabotage = {}): Promise<void> {
  const { core = loadCore(), dataFileFlushes = true } = sabotage;
  const hasData = options.dataFile !== undefined;
  const empty = new MemoryFile(new Uint8Array(0));
  await Image.create(empty, { core, virtualSize: SIZE, clusterSize: CLUSTER, ...options });
  let bytes = await contents(empty);
  let data: Uint8Array = new Uint8Array(SIZE);
  for (let life = 0; life < LIVES; life++) {
    const model = new Model(await readAll(bytes, hasData ? data : undefined));
    const file = new CuttableFile(bytes);
    const dataFile = new CuttableFile(data, dataFileFlushes);
    const opened = { core, write: true, cacheSize: 0, requestCapacity: 4, ...(hasData ? { dataFile } : {}) };
    const image = await Image.open(file, opened);
    let calls: Promise<void>[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (let count = below(random, 4); count >= 0; count--) calls.push(request(image, model, random));
      // Else looked at in the middle of everything.
      if (random() < 0.5) {
        await Promise.all(calls);
        calls = [];
        if (random() < 0.6) {
          await image.flush();
          model.flush();
        }
      } else {
        await new Promise((resolve) => setImmediate(resolve));
      }
      bytes = file.survivors(random);
      data = dataFile.survivors(random);
      const disk = await readAll(bytes, hasData ? data : undefined);
      expect(model.wrong(disk), `sector, life ${life}, round ${round}, ${context}`).toBe(-1);
    }
    await Promise.all(calls);
  }
}

function request(image: Image, model: Model, random: Random): Promise<void> {
  const unit = [1, 1, CLUSTER / 32 / SECTOR, CLUSTER / SECTOR][below(random, 4)] as number;
  const sectors = SIZE / SECTOR;
  const first = Math.floor(below(random, sectors) / unit) * unit;
  const end = Math.min(sectors, first + unit * (1 + below(random, 5)));
  const [offset, length] = [first * SECTOR, (end - first) * SECTOR];
  const choice = below(random, 8);
  if (choice < 5) {
    const value = 1 + below(random, 255);
    model.write(first, end, value);
    return image.write(offset, new Uint8Array(length).fill(value));
  }
  if (choice < 7) {
    model.write(first, end, 0);
    return image.writeZeroes(offset, length, { unmap: choice === 6 });
  }
  const perCluster = CLUSTER / SECTOR;
  const last = end === sectors ? end : Math.floor(end / perCluster) * perCluster;
  model.write(Math.ceil(first / perCluster) * perCluster, last, 0);
  return image.discard(offset, length);
}

/** The whole disk, after a check that finds leaks at worst. */
async function readAll(bytes: Uint8Array, data: Uint8Array | undefined): Promise<Uint8Array> {
  const dataFile = data === undefined ? undefined : new MemoryFile(data.slice(), true);
  const file = new MemoryFile(bytes.slice(), true);
  await using image = await Image.open(file, {
    core: loadCore(),
    checkSize: 1 << 20,
    ...(dataFile === undefined ? {} : { dataFile }),
  });
  const report = await image.check();
  expect([report.corruptions, report.checkErrors]).toEqual([0, 0]);
  const target = new Uint8Array(SIZE);
  await image.read(0, target);
  return target;
}

async function contents(file: MemoryFile): Promise<Uint8Array> {
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  return bytes;
}
