/** Random changes by Corral and by QEMU, noted in bitmaps of several granularities: both find what a model says. */

import { describe, expect, test } from 'vitest';
import { openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { all, newImage, qemuBitmap, qemuCheck, qemuIo, qemuRanges, ranges } from './bitmap-fixture.js';

const MIB = 1 << 20;

describe('random writes with bitmaps of several granularities', () => {
  const kinds = [
    { options: 'cluster_size=512', size: 3 * MIB + 512 },
    { options: 'cluster_size=512,refcount_bits=64', size: 3 * MIB },
    { options: 'cluster_size=4096', size: 12 * MIB + 1024 },
    { options: 'cluster_size=65536', size: 40 * MIB + 512 * 7 },
    { options: 'cluster_size=2M', size: 40 * MIB },
  ];

  test.each(kinds)('$options', async ({ options, size }) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const path = newImage(size, options);
    const granularities = [512, 4096, 65536, MIB];
    const models = granularities.map(() => new Uint8Array(size / 512));
    qemuBitmap(path, 'g512', '--add', '-g', '512');
    qemuBitmap(path, 'g65536', '--add', '-g', '65536');
    {
      await using image = await openImage(path, { write: true, cacheSize: 0, requestCapacity: 4 });
      await image.bitmaps.add('g4096', { granularity: 4096 });
      await image.bitmaps.add(`g${MIB}`, { granularity: MIB });
    }

    for (let round = 0; round < 3; round++) {
      const commands: string[] = [];
      {
        await using image = await openImage(path, { write: true, cacheSize: 0, requestCapacity: 4 });
        const calls: Promise<void>[] = [];
        for (let count = 0; count < 30; count++) {
          const { offset, length } = drawRange(random, size);
          note(models, granularities, offset, length);
          const kind = below(random, 3);
          if (kind === 0) calls.push(image.write(offset, new Uint8Array(length).fill(count)));
          else if (kind === 1) calls.push(image.writeZeroes(offset, length, { unmap: random() < 0.5 }));
          else calls.push(image.discard(offset, length));
        }
        await Promise.all(calls);
        for (const [index, granularity] of granularities.entries()) {
          const found = await all(image.bitmaps.ranges(`g${granularity}`));
          expect(found, `seed ${seed}, before the close`).toEqual(dirty(models[index] as Uint8Array));
        }
      }
      qemuCheck(path);
      for (const [index, granularity] of granularities.entries()) {
        const expected = dirty(models[index] as Uint8Array);
        expect(await qemuRanges(path, `g${granularity}`), `QEMU, seed ${seed}, ${granularity}`).toEqual(expected);
        expect(await ranges(path, `g${granularity}`), `Corral, seed ${seed}, ${granularity}`).toEqual(expected);
      }
      for (let count = 0; count < 5; count++) {
        const { offset, length } = drawRange(random, size);
        note(models, granularities, offset, length);
        commands.push(`write ${offset} ${length}`);
      }
      qemuIo(path, ...commands);
      await using image = await openImage(path, { write: true });
      const cleared = below(random, granularities.length);
      await image.bitmaps.clear(`g${granularities[cleared]}`);
      models[cleared]?.fill(0);
    }
    qemuCheck(path);
  });

  function drawRange(random: () => number, size: number): { offset: number; length: number } {
    const sectors = size / 512;
    const offset = below(random, sectors);
    const most = random() < 0.1 ? sectors : 200;
    return { offset: offset * 512, length: Math.min(sectors - offset, 1 + below(random, most)) * 512 };
  }

  function note(models: Uint8Array[], granularities: number[], offset: number, length: number): void {
    for (const [index, granularity] of granularities.entries()) {
      const first = Math.floor(offset / granularity) * (granularity / 512);
      const end = Math.ceil((offset + length) / granularity) * (granularity / 512);
      models[index]?.fill(1, first, end);
    }
  }

  function dirty(model: Uint8Array): { offset: number; length: number }[] {
    const found: { offset: number; length: number }[] = [];
    for (let sector = 0; sector < model.length; sector++) {
      if (model[sector] === 0) continue;
      const last = found.at(-1);
      if (last !== undefined && last.offset + last.length === sector * 512) last.length += 512;
      else found.push({ offset: sector * 512, length: 512 });
    }
    return found;
  }
});
