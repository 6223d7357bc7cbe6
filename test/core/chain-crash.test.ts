/**
 * Power cuts while a chain changes: at every moment of a commit or a rebase, whatever part of what no flush has covered is
 * lost, the chain holds the same disk, and no image of it has a corruption.
 */

import { describe, expect, test } from 'vitest';
import { commitLayers, makeEmpty } from '../../host/commit.js';
import { type BlockFile, type CreateImageOptions, Image, listGate, MemoryFile, mapChain } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { copyDifferences } from '../../host/rebase.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { CuttableFile } from './cuttable-file.js';
import { compileMutated } from './mutated-core.js';

const SECTOR = 512;
const CLUSTER = 4096;
const LARGE_CLUSTER = 16384;
const SIZE = 300 * CLUSTER + 3 * SECTOR;
/** Changes between two looks at what a power cut would leave, on an average. */
const MEAN_DISTANCE = 6;

type Random = () => number;
type Kind = Pick<CreateImageOptions, 'extendedL2' | 'compat'>;

const kinds: readonly { name: string; options: Kind; snapshot?: true }[] = [
  { name: 'plain images', options: {} },
  { name: 'images of version 2', options: { compat: '0.10' } },
  { name: 'subclusters', options: { extendedL2: true } },
  { name: 'a snapshot of the disk', options: {}, snapshot: true },
];

/** A chain of three images by their names, the one on top first. */
interface Chain {
  readonly top: Uint8Array;
  readonly middle: Uint8Array;
  readonly base: Uint8Array;
}

describe.each(kinds)('with $name, at any moment', ({ options, snapshot }) => {
  test('of a commit into the backing file the chain holds the same disk', async () => {
    const seed = chooseSeed();

    await commitAndCut(randomFrom(seed), { options, snapshot, depth: 1 }, `seed ${seed}`);
  });

  test('of a commit into the file behind that the chain holds the same disk', async () => {
    const seed = chooseSeed();

    await commitAndCut(randomFrom(seed), { options, snapshot, depth: 2 }, `seed ${seed}`);
  });

  test('of a rebase the disk is the same', async () => {
    const seed = chooseSeed();

    await rebaseAndCut(randomFrom(seed), { options, snapshot }, `seed ${seed}`);
  });
});

describe('this test notices', () => {
  test('an image that is emptied before what it held is durable', async () => {
    const lives = failing((seed) => commitAndCut(randomFrom(seed), { options: {}, depth: 1, baseFlushes: false }, ''));

    await expect(lives).rejects.toThrow(/byte/);
  });

  test('clusters that become zeros where what lies behind should show', async () => {
    const core = await compileMutated({
      file: 'request/discard.ts',
      find: '    if (uncovers) {',
      replace: '    if (uncovers && image.version < 3) {',
    });

    await expect(
      failing((seed) => commitAndCut(randomFrom(seed), { options: {}, depth: 1, core }, '')),
    ).rejects.toThrow(/byte/);
  });

  test('another backing file whose differences are not durable yet', async () => {
    const lives = failing((seed) => rebaseAndCut(randomFrom(seed), { options: {}, topFlushes: false }, ''));

    await expect(lives).rejects.toThrow(/byte/);
  });
});

/** Runs until one fails. */
async function failing(run: (seed: number) => Promise<void>): Promise<void> {
  for (let seed = 1; seed <= 5; seed++) await run(seed);
}

interface Trial {
  readonly options: Kind;
  readonly snapshot?: boolean | undefined;
  readonly core?: WebAssembly.Module;
}

async function commitAndCut(
  random: Random,
  { options, snapshot, depth, baseFlushes = true, core = loadCore() }: Trial & { depth: 1 | 2; baseFlushes?: boolean },
  context: string,
): Promise<void> {
  const chain = await drawChain(random, options, snapshot === true);
  const disk = await contentsOf(chain);
  const look = async (): Promise<void> => {
    const survivors = { ...chain, top: top.survivors(random), [name]: target.survivors(random) };
    expectSame(await contentsOf(survivors), disk, context);
    await expectSound(survivors[name], survivors);
  };
  const name = depth === 1 ? 'middle' : 'base';
  const watch = new Watch(random, look);
  const top = new WatchedFile(chain.top, watch);
  const target = new WatchedFile(chain[name], watch, baseFlushes);
  // As on a host: the chain of the image reads the file that is written.
  const live: BlockFile = Object.assign(Object.create(target), { readOnly: true, close: async () => {} });
  const image = await openToWrite(top, chain, core, { [name]: async () => live });
  const behind = await openToWrite(target, chain, core);

  await commitLayers(image, behind, { depth });
  if (depth === 1) await makeEmpty(image);

  await watch.end();
  if (depth === 1) for await (const { kind } of image.map()) expect(kind, `empty, ${context}`).toBe('unallocated');
  await image.close();
  await behind.close();
  const after = { ...chain, top: top.contents(), [name]: target.contents() };
  expectSame(await contentsOf(after), disk, context);
  const committed = after[name];
  expectSame((await readAll(committed, after)).subarray(0, SIZE), disk, context);
}

async function rebaseAndCut(
  random: Random,
  { options, snapshot, topFlushes = true }: Trial & { topFlushes?: boolean },
  context: string,
): Promise<void> {
  const chain = await drawChain(random, options, snapshot === true);
  const disk = await contentsOf(chain);
  const watch = new Watch(random, async () => {
    expectSame(await contentsOf({ ...chain, top: top.survivors(random) }), disk, context);
  });
  const top = new WatchedFile(chain.top, watch, topFlushes);
  const image = await openToWrite(top, chain, loadCore());
  await using next = await Image.open(new MemoryFile(chain.base.slice(), true), { core: loadCore() });

  await copyDifferences(image, {
    size: next.size,
    extents: () => mapChain(next, { offset: 0, length: next.size }),
    read: (offset, target) => next.read(offset, target),
  });
  await image.amend({ backingFile: 'base', backingFormat: 'qcow2' });

  await watch.end();
  await image.close();
  const inspected = await Image.open(new MemoryFile(top.contents(), true), { core: loadCore(), inspect: true });
  expect(inspected.info.backingFile).toBe('base');
  expectSame(await contentsOf({ ...chain, top: top.contents() }), disk, context);
}

/** Looks now and then, and keeps what was wrong: an error in the middle of a write would look like one of the file. */
class Watch {
  private failure: unknown;

  constructor(
    private readonly random: Random,
    private readonly look: () => Promise<void>,
  ) {}

  async changed(): Promise<void> {
    if (this.failure !== undefined || this.random() * MEAN_DISTANCE >= 1) return;
    try {
      await this.look();
    } catch (error) {
      this.failure = error;
    }
  }

  async end(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    await this.look();
  }
}

class WatchedFile extends CuttableFile {
  constructor(
    bytes: Uint8Array,
    private readonly watch: Watch,
    flushes = true,
  ) {
    super(bytes.slice(), flushes);
  }

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    await super.write(offset, pieces);
    await this.watch.changed();
  }

  override async writeZeroes(offset: number, length: number): Promise<void> {
    await super.writeZeroes(offset, length);
    await this.watch.changed();
  }

  override async discard(offset: number, length: number): Promise<void> {
    await super.discard(offset, length);
    await this.watch.changed();
  }

  override async flush(): Promise<void> {
    await super.flush();
    await this.watch.changed();
  }
}

async function drawChain(random: Random, options: Kind, snapshot: boolean): Promise<Chain> {
  const core = loadCore();
  const made: Record<string, Uint8Array> = {};
  const names = ['base', 'middle', 'top'];
  for (const [index, name] of names.entries()) {
    const file = new MemoryFile();
    const clusterSize = options.extendedL2 ? LARGE_CLUSTER : CLUSTER;
    const virtualSize = name === 'top' ? SIZE : SIZE - below(random, 150) * SECTOR;
    const backingFile = names[index - 1];
    const behind = backingFile === undefined ? {} : { backingFile, backingFormat: 'qcow2' };
    await Image.create(file, { core, virtualSize, clusterSize, ...options, ...behind });
    const image = await openToWrite(file, made as unknown as Chain, core);
    await fill(image, random, index);
    if (snapshot) {
      await image.snapshots.create({ name: 'before' });
      await fill(image, random, index);
    }
    await image.close();
    made[name] = file.contents();
  }
  return made as unknown as Chain;
}

/** Runs of bytes and of zeros, of all lengths, on a third of the disk or so. */
async function fill(image: Image, random: Random, index: number): Promise<void> {
  for (let count = 12 + below(random, 12); count > 0; count--) {
    const length = (1 + below(random, random() < 0.5 ? 8 : 160)) * SECTOR;
    const offset = below(random, Math.floor((image.size - length) / SECTOR)) * SECTOR;
    const value = 1 + index * 80 + below(random, 80);
    if (random() < 0.8) await image.write(offset, new Uint8Array(length).fill(value));
    else await image.writeZeroes(offset, length, { unmap: random() < 0.5 });
  }
}

function gateOf(chain: Chain, live: Record<string, () => Promise<BlockFile>> = {}) {
  return listGate({
    middle: async () => new MemoryFile(chain.middle.slice(), true),
    base: async () => new MemoryFile(chain.base.slice(), true),
    ...live,
  });
}

function openToWrite(
  file: MemoryFile,
  chain: Chain,
  core: WebAssembly.Module,
  live: Record<string, () => Promise<BlockFile>> = {},
): Promise<Image> {
  return Image.open(file, { core, write: true, cacheSize: 0, requestCapacity: 8, gate: gateOf(chain, live) });
}

/** What the chain's disk holds. */
async function contentsOf(chain: Chain): Promise<Uint8Array> {
  await expectSound(chain.top, chain);
  return readAll(chain.top, chain);
}

async function readAll(bytes: Uint8Array, chain: Chain): Promise<Uint8Array> {
  await using image = await Image.open(new MemoryFile(bytes.slice(), true), { core: loadCore(), gate: gateOf(chain) });
  const target = new Uint8Array(image.size);
  await image.read(0, target);
  return target;
}

/** A check finds leaks at worst. */
async function expectSound(bytes: Uint8Array, chain: Chain): Promise<void> {
  const file = new MemoryFile(bytes.slice(), true);
  await using image = await Image.open(file, { core: loadCore(), gate: gateOf(chain), checkSize: 1 << 20 });
  const report = await image.check();
  expect([report.corruptions, report.checkErrors]).toEqual([0, 0]);
}

function expectSame(found: Uint8Array, expected: Uint8Array, context: string): void {
  const different = Buffer.compare(found, expected) !== 0;
  const at = different ? found.findIndex((byte, index) => byte !== expected[index]) : -1;
  expect(different ? { at, length: found.length } : undefined, `byte ${at}, ${context}`).toBeUndefined();
}
