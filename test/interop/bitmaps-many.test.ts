/** Far more enabled bitmaps than anybody needs: all of them are kept up to date, within a memory that the caller chooses. */

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { newImage, qemuBitmaps, qemuCheck, qemuRanges } from './bitmap-fixture.js';

const MIB = 1 << 20;
const core = loadCore();
const nameOf = (index: number) => `bitmap ${index}`;

/** Bytes of an image with `count` enabled bitmaps. */
async function imageWith(count: number): Promise<{ path: string; bytes: Uint8Array }> {
  const path = newImage(MIB, 'cluster_size=4096');
  const file = new MemoryFile(readFileSync(path));
  const image = await Image.open(file, { core, write: true });
  for (let index = 0; index < count; index++) await image.bitmaps.add(nameOf(index));
  await image.close();
  return { path, bytes: file.contents() };
}

describe('many enabled bitmaps', () => {
  test('are all noted, with a cache that holds only a part of their directory', async () => {
    const { path, bytes } = await imageWith(380);
    const file = new MemoryFile(bytes.slice());
    const image = await Image.open(file, { core, write: true, cacheSize: 0, requestCapacity: 1 });

    await image.write(512 * 1024, new Uint8Array(512).fill(1));
    await image.close();

    writeFileSync(path, file.contents());
    expect(qemuBitmaps(path)).toHaveLength(380);
    expect(qemuBitmaps(path).every(({ flags }) => flags.join() === 'auto')).toBe(true);
    for (const index of [0, 255, 256, 379]) {
      expect(await qemuRanges(path, nameOf(index))).toEqual([{ offset: 512 * 1024, length: 4096 }]);
    }
    qemuCheck(path);
  });

  test('are refused by name when there is no memory to note in all of them, and can still be read', async () => {
    const { bytes } = await imageWith(400);
    const open = (write: boolean) =>
      Image.open(new MemoryFile(bytes.slice()), { core, write, cacheSize: 0, requestCapacity: 1 });

    await expect(open(true)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    await expect(open(true)).rejects.toThrow(/Too many bitmaps/);
    const image = await open(false);
    expect(await image.bitmaps.list()).toHaveLength(400);
    await image.close();
  });

  test('cannot become more than there is memory for', async () => {
    const { bytes } = await imageWith(0);
    const image = await Image.open(new MemoryFile(bytes.slice()), {
      core,
      write: true,
      cacheSize: 0,
      requestCapacity: 1,
    });
    for (let index = 0; ; index++) {
      const added = await image.bitmaps.add(nameOf(index)).catch((error: unknown) => error);
      if (added === undefined) continue;
      expect(added).toMatchObject({ code: 'ERR_TOO_LARGE' });
      expect(index).toBeGreaterThan(256);
      break;
    }

    await image.bitmaps.add('disabled', { disabled: true });

    await expect(image.bitmaps.enable('disabled')).rejects.toThrow(/Too many bitmaps/);
    await image.close();
  });
});
