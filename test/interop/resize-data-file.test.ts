/** Disks with an external data file become longer and shorter, by Corral and by QEMU in turn; so does the data file. */

import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NodeFile, openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { checkWithQemu, readWithQemu } from './guest-steps.js';

const MIB = 1 << 20;
const SECTOR = 512;

interface Made {
  path: string;
  data: string;
}

function make(options: string, size: number): Made {
  const folder = temporaryFolder();
  const [path, data] = [join(folder, 'image.qcow2'), join(folder, 'data')];
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${data},${options}`, path, String(size)]);
  return { path, data };
}

async function open({ path, data }: Made) {
  return openImage(path, { write: true, dataFile: await NodeFile.open(data, { write: true }) });
}

/** Bytes of the disk that have a place in the data file. */
function mappedBytes(path: string): number {
  const extents = JSON.parse(execFileSync('qemu-img', ['map', '--output=json', path], { encoding: 'utf8' }));
  return (extents as { length: number; offset?: number }[])
    .filter(({ offset }) => offset !== undefined)
    .reduce((sum, { length }) => sum + length, 0);
}

test.each([
  'cluster_size=4096',
  'cluster_size=512',
  'cluster_size=2M',
  'extended_l2=on',
  'cluster_size=4096,data_file_raw=on',
  'cluster_size=512,data_file_raw=on',
  'extended_l2=on,data_file_raw=on',
])('random sizes, set by both in turn, with writes in between (%s)', async (options) => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  const made = make(options, MIB);
  let model = Buffer.alloc(MIB);

  for (let round = 0; round < 10; round++) {
    const context = `round ${round}, seed ${seed}`;
    const size = (1 + below(random, (6 * MIB) / SECTOR)) * SECTOR;
    const shrinks = size < model.length;
    if (random() < 0.3) {
      const shrink = shrinks ? ['--shrink'] : [];
      execFileSync('qemu-img', ['resize', '-q', ...shrink, '-f', 'qcow2', made.path, String(size)]);
    } else {
      // What is behind the end of the disk is not the disk's.
      if (random() < 0.3) truncateSync(made.data, model.length + SECTOR * below(random, 2000));
      await using image = await open(made);
      await image.resize(size, { shrink: true });
      await image.close();
      expect(statSync(made.data).size, context).toBe(size);
    }
    const next = Buffer.alloc(size);
    model.copy(next, 0, 0, Math.min(size, model.length));
    model = next;

    checkWithQemu(made.path, context);
    expectSameBytes(readWithQemu(made.path), model, context);
    // A write to the last cluster may make the file longer than the disk.
    const contents = readFileSync(made.data).subarray(0, size);
    if (options.includes('raw')) {
      expectSameBytes(contents, model, `${context}, the data file`);
      expect(mappedBytes(made.path), context).toBe(size);
    }

    await using image = await open(made);
    for (let write = 0; write < 5; write++) {
      const offset = below(random, size);
      const bytes = new Uint8Array(Math.min(size - offset, 1 + below(random, 100_000))).fill(1 + round);
      if (random() < 0.2 && !options.includes('raw')) {
        await image.writeZeroes(offset, bytes.length, { unmap: true });
        bytes.fill(0);
      } else {
        await image.write(offset, bytes);
      }
      model.set(bytes, offset);
    }
    await image.close();
    expectSameBytes(readWithQemu(made.path), model, `${context}, after the writes`);
  }
});

test('a size that the format cannot hold is refused before the data file is touched', async () => {
  const made = make('cluster_size=512', MIB);
  truncateSync(made.data, 2 * MIB);
  await using image = await open(made);

  await expect(image.resize(2 ** 50)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
  await image.close();

  expect(statSync(made.data).size).toBe(2 * MIB);
  expect(mappedBytes(made.path)).toBe(0);
});

test('old bytes behind the end of a raw data file do not come to light', async () => {
  const made = make('data_file_raw=on', MIB);
  const file = await NodeFile.open(made.data, { write: true });
  await file.write(MIB, [new Uint8Array(MIB).fill(9)]);
  await file.close();
  await using image = await open(made);

  await image.resize(3 * MIB);
  const target = new Uint8Array(2 * MIB).fill(1);
  await image.read(MIB, target);
  await image.close();

  expectSameBytes(target, new Uint8Array(2 * MIB));
  expectSameBytes(readFileSync(made.data), new Uint8Array(3 * MIB));
});
