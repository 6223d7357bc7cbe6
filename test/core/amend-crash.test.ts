/** A power cut at any point of an amendment leaves the old image, the new one, or a sound one in between. */

import { describe, expect, test } from 'vitest';
import { Image, listGate, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { shortenExtraData } from '../snapshot-extra-data.js';
import { CuttableFile } from './cuttable-file.js';

const SIZE = 1 << 20;
const core = loadCore();

/** Keeps what a power cut would have left at some of its changes. */
class RememberingFile extends CuttableFile {
  readonly cuts: Uint8Array[] = [];
  constructor(
    bytes: Uint8Array,
    private readonly random: () => number,
  ) {
    super(bytes);
  }

  protected override note(offset: number, bytes: Uint8Array): void {
    super.note(offset, bytes);
    // Some of what no flush has covered is there, or nothing of it.
    this.cuts.push(
      this.survivors(this.random),
      this.survivors(() => 0.4),
    );
  }
}

test.each([1, 8, 64])('compat=1.1,refcount_bits=%i', async (refcountBits) => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  const made = new MemoryFile();
  await Image.create(made, { core, virtualSize: SIZE, clusterSize: 512, compat: '0.10' });
  const contents = new Uint8Array(SIZE);
  {
    await using image = await Image.open(made, { core, write: true });
    for (let count = 0; count < 20; count++) {
      const offset = 512 * below(random, 1900);
      contents.fill(count + 1, offset, offset + 40_000);
      await image.write(offset, contents.slice(offset, offset + 40_000));
    }
  }
  const file = new RememberingFile(made.contents(), random);
  const image = await Image.open(file, { core, write: true });

  await image.amend({ compat: '1.1', refcountBits });
  await image.close();

  const states = new Set<string>();
  for (const bytes of [...file.cuts, file.contents()]) {
    await using left = await Image.open(new MemoryFile(bytes, true), { core, checkSize: 1 << 20 });
    const report = await left.check();
    const found = new Uint8Array(SIZE);
    await left.read(0, found);
    expect({ seed, corruptions: report.corruptions, errors: report.checkErrors }).toEqual({
      seed,
      corruptions: 0,
      errors: 0,
    });
    expectSameBytes(found, contents, `seed ${seed}:`);
    states.add(`version ${left.info.version}, ${left.info.refcountBits} bits`);
  }
  expect([...states].sort()).toEqual(
    ['version 2, 16 bits', 'version 3, 16 bits', `version 3, ${refcountBits} bits`].sort(),
  );
});

describe('with snapshots', () => {
  test.each([false, true])('compat=0.10 where zeros go that they share, over a backing file: %j', async (covers) => {
    const seed = chooseSeed();
    const before = await makeShared(seed, '1.1', covers);

    const states = await amendAndCut(seed, before, '0.10');

    expect([...states].sort()).toEqual([2, 3]);
  });

  test.each([0, 8])('compat=1.1 where they have %i bytes of extra data', async (extra) => {
    const seed = chooseSeed();
    const before = await makeShared(seed, '0.10', false);
    const bytes = Buffer.from(before.image);
    shortenExtraData(bytes, extra);

    const states = await amendAndCut(seed, { ...before, image: bytes }, '1.1');

    expect([...states].sort()).toEqual([2, 3]);
  });
});

const SHARED_SIZE = 96 << 10;
const NAMES = ['one', 'two', 'three'];

interface Shared {
  readonly image: Uint8Array;
  readonly backing: Uint8Array | undefined;
  /** What the disk and each snapshot hold. */
  readonly contents: readonly Uint8Array[];
}

/** A disk of writes and, in version 3, zeros of both kinds; three snapshots share what it had been. */
async function makeShared(seed: number, compat: '0.10' | '1.1', covers: boolean): Promise<Shared> {
  const random = randomFrom(seed);
  const file = new MemoryFile();
  const backing = covers ? new Uint8Array(SHARED_SIZE / 2).fill(0xbb) : undefined;
  const names = covers ? { backingFile: 'base', backingFormat: 'raw' as const } : {};
  await Image.create(file, { core, virtualSize: SHARED_SIZE, clusterSize: 512, compat, ...names });
  {
    await using image = await Image.open(file, { core, write: true, ...chainOf(backing) });
    for (const name of [...NAMES, undefined]) {
      for (let count = 0; count < 12; count++) {
        const length = 512 * (1 + below(random, 20));
        const offset = 512 * below(random, (SHARED_SIZE - length) / 512);
        const verb = compat === '1.1' ? below(random, 3) : 0;
        if (verb === 0) await image.write(offset, new Uint8Array(length).fill(1 + below(random, 255)));
        else await image.writeZeroes(offset, length, { unmap: verb === 1 });
      }
      if (name !== undefined) await image.snapshots.create({ name });
    }
  }
  const image = file.contents();
  return { image, backing, contents: await contentsOf(image, backing) };
}

/** Amends, and looks at what a power cut would have left at every change; which versions the images have. */
async function amendAndCut(seed: number, shared: Shared, compat: '0.10' | '1.1'): Promise<Set<number>> {
  const { image: bytes, backing, contents } = shared;
  const file = new RememberingFile(bytes, randomFrom(seed));
  const image = await Image.open(file, { core, write: true, tablesOnly: true, cacheSize: 0 });
  await image.amend({ compat });
  await image.close();

  const versions = new Set<number>();
  const cuts = [...file.cuts, file.contents()];
  for (const [index, left] of cuts.entries()) {
    const checked = await Image.open(new MemoryFile(left, true), { core, checkSize: 1 << 20, tablesOnly: true });
    const { corruptions, checkErrors, leaks } = await checked.check();
    versions.add(checked.info.version);
    const leaked = index === cuts.length - 1 ? leaks : 0;
    expect({ seed, corruptions, checkErrors, leaked }).toEqual({ seed, corruptions: 0, checkErrors: 0, leaked: 0 });
    for (const [part, found] of (await contentsOf(left, backing)).entries()) {
      expectSameBytes(found, contents[part] as Uint8Array, `seed ${seed}:`);
    }
  }
  return versions;
}

async function contentsOf(bytes: Uint8Array, backing: Uint8Array | undefined): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  for (const name of [undefined, ...NAMES]) {
    const snapshot = name === undefined ? {} : { snapshot: { name } };
    await using image = await Image.open(new MemoryFile(bytes, true), { core, ...snapshot, ...chainOf(backing) });
    const contents = new Uint8Array(SHARED_SIZE);
    await image.read(0, contents);
    found.push(contents);
  }
  return found;
}

function chainOf(backing: Uint8Array | undefined): { gate?: ReturnType<typeof listGate> } {
  return backing === undefined ? {} : { gate: listGate({ base: async () => new MemoryFile(backing, true) }) };
}
