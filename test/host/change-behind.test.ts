/** What lies behind an image is changed while the image is open: reads wait, and see it afterwards. */

import { beforeEach, expect, test } from 'vitest';
import type { BlockFile } from '../../host/block-file.js';
import { listGate } from '../../host/index.js';
import { Image, loadCore, MemoryFile } from '../../host/node/index.js';

const SIZE = 1 << 20;
const core = loadCore();
let base: MemoryFile;
let opened: number;
let refused: Error | undefined;
let image: Image;

/** An overlay over a raw file of ones, with twos of its own in its first cluster. */
beforeEach(async () => {
  base = new MemoryFile(new Uint8Array(SIZE).fill(1));
  opened = 0;
  refused = undefined;
  const file = new MemoryFile();
  await Image.create(file, { core, virtualSize: SIZE, backingFile: 'base', backingFormat: 'raw' });
  const gate = listGate({
    base: async (): Promise<BlockFile> => {
      opened++;
      if (refused !== undefined) throw refused;
      return base;
    },
  });
  image = await Image.open(file, { core, write: true, gate });
  await image.write(0, new Uint8Array(65_536).fill(2));
});

async function byteAt(offset: number): Promise<number> {
  const target = new Uint8Array(1);
  await image.read(offset, target);
  return target[0] as number;
}

test('reads wait until it is changed, and the image is emptied then', async () => {
  let changed = false;
  let begin = (): void => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const work = async (): Promise<void> => {
    begin();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await base.write(0, [new Uint8Array(SIZE).fill(3)]);
    changed = true;
  };

  const change = image.changeBehind(work, { empties: true });
  await begun;
  const seen = await byteAt(0);

  expect({ changed, seen, opened }).toEqual({ changed: true, seen: 3, opened: 2 });
  await change;
  await image.close();
});

test('a change that fails leaves the image as it was', async () => {
  const change = image.changeBehind(() => Promise.reject(new Error('no room')), { empties: true });

  await expect(change).rejects.toThrow('no room');
  expect([await byteAt(0), await byteAt(65_536), opened]).toEqual([2, 1, 2]);
  await image.close();
});

test('what cannot be opened again is not read as if nothing were there', async () => {
  const change = image.changeBehind(
    async () => {
      refused = new Error('gone');
    },
    { empties: true },
  );

  await expect(change).rejects.toThrow('gone');
  expect(await byteAt(0)).toBe(2);
  await expect(byteAt(65_536)).rejects.toThrow();
  await image.close();
});

test('an image with nothing behind it has nothing to change', async () => {
  const file = new MemoryFile();
  await Image.create(file, { core, virtualSize: SIZE });
  const alone = await Image.open(file, { core, write: true });

  const change = alone.changeBehind(() => Promise.resolve(), { empties: false });

  await expect(change).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  await alone.close();
});
