/** Two properties in one call: a power cut at any point leaves the old image, the new one, or a sound one in between. */

import { expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
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
