/** A merge that breaks off leaves its bitmap as it was, or merged; never in use. */

import { describe, expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { CuttableFile } from './cuttable-file.js';

const CLUSTER = 512;
const SIZE = 8 << 20;
const core = loadCore();

type Ranges = { offset: number; length: number }[];

/** With the bitmaps `target` and `source`, whose bits take several clusters each and differ. */
async function madeImage(): Promise<Uint8Array> {
  const file = new MemoryFile();
  await Image.create(file, { core, virtualSize: SIZE, clusterSize: CLUSTER });
  await using image = await Image.open(file, { core, write: true });
  for (const [name, first] of [
    ['target', 0],
    ['source', 96 * 1024],
  ] as const) {
    await image.bitmaps.add(name, { granularity: 512 });
    for (let offset = first; offset < SIZE; offset += 160 * 1024) await image.write(offset, new Uint8Array(3000));
    await image.bitmaps.disable(name);
  }
  await image.close();
  return file.contents();
}

/** What is dirty in `target`, which must not be in use. */
async function dirty(bytes: Uint8Array): Promise<Ranges> {
  await using image = await Image.open(new MemoryFile(bytes, true), { core, checkSize: 1 << 20 });
  const bitmap = (await image.bitmaps.list()).find(({ name }) => name === 'target');
  expect(bitmap).toMatchObject({ inconsistent: false });
  expect((await image.check()).corruptions).toBe(0);
  return ranges(image);
}

async function ranges(image: Image): Promise<Ranges> {
  const found: Ranges = [];
  for await (const range of image.bitmaps.ranges('target')) found.push(range);
  return found;
}

async function merged(bytes: Uint8Array): Promise<Ranges> {
  const file = new MemoryFile(bytes.slice());
  await using image = await Image.open(file, { core, write: true });
  await image.bitmaps.merge('target', 'source');
  await image.close();
  return dirty(file.contents());
}

/** After so many more writes this file fails every one; and notes at which of its states the power could have been cut. */
class FailingFile extends CuttableFile {
  left = Number.POSITIVE_INFINITY;

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (this.left-- <= 0) throw Object.assign(new Error('no more'), { code: 'EIO' });
    await super.write(offset, pieces);
  }
}

describe('a merge that breaks off', () => {
  test('at any write, for good or for once, leaves the bitmap as it was or merged', async () => {
    const bytes = await madeImage();
    const [before, after] = [await dirty(bytes.slice()), await merged(bytes)];
    let failures = 0;

    for (let writes = 0; ; writes++) {
      const file = new FailingFile(bytes.slice());
      const image = await Image.open(file, { core, write: true });
      file.left = writes;
      const result = await image.bitmaps.merge('target', 'source').then(
        () => 'merged',
        () => 'broken off',
      );
      if (result === 'broken off') failures++;
      const cut = file.survivors(() => 0);
      file.left = Number.POSITIVE_INFINITY;
      await image.close().catch(() => {});

      expect([before, after]).toContainEqual(await dirty(cut));
      expect([before, after]).toContainEqual(await dirty(file.contents()));
      if (result === 'merged') break;
    }

    expect(failures).toBeGreaterThan(3);
    expect(after.length).toBeGreaterThan(before.length);
  });
});
