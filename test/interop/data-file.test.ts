/** Images whose guest data lies in an external data file. */

import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore, NodeFile, openImage } from '../../host/node/index.js';
import { corralHere } from '../cli/run-corral.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { Damage } from './check-fixture.js';
import { apply, checkWithQemu, drawSteps, readWithQemu, runWithCorral, runWithQemu } from './guest-steps.js';

const MIB = 1 << 20;
const SECTOR = 512;
const SIZE = 6 * MIB + 3 * SECTOR;

interface Made {
  path: string;
  data: string;
}

const kinds = ['cluster_size=4096', 'data_file_raw=on', 'cluster_size=512', 'cluster_size=2M', 'extended_l2=on'];

describe('what QEMU wrote', () => {
  test.each(kinds)('is read (%s)', async (options) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const made = make(options);

    for (let round = 0; round < 2; round++) {
      qemuIo(
        made.path,
        Array.from({ length: 50 }, () => command(random)),
      );

      expectSameBytes(await readWithCorral(made), toRaw(made.path), `Corral reads (round ${round}, seed ${seed})`);
      const ours = await corralHere('map', '--output=json', made.path);
      expect(ours.stdout, `seed ${seed}`).toBe(qemuMap(made.path, 'json'));
      expect((await corralHere('map', made.path)).stdout, `seed ${seed}`).toBe(qemuMap(made.path, 'human'));
    }
  });

  test.each(kinds)('and what Corral makes is the same (%s)', async (options) => {
    const theirs = make(options);
    const [path, data] = [`${theirs.path}.ours`, `${theirs.data}.ours`];

    const { status } = await corralHere('create', '-q', '-o', `data_file=${data},${options}`, path, String(SIZE));

    expect(status).toBe(0);
    checkWithQemu(path, options);
    expect(qemuMap(path, 'json')).toBe(qemuMap(theirs.path, 'json'));
    expect(statSync(data).size).toBe(SIZE);
    qemuIo(path, ['write -P 1 0 1M', `write -P 2 ${SIZE - SECTOR} ${SECTOR}`]);
    expectSameBytes(await readWithCorral({ path, data }), toRaw(path));
  });

  // QEMU allocates no subclusters here, and does not show what others write.
  test.each(['off', 'on'])('to a raw data file of a new image is seen (extended_l2=%s)', async (extended) => {
    const folder = temporaryFolder();
    const [path, data] = [join(folder, 'image.qcow2'), join(folder, 'data')];
    const options = `data_file=${data},data_file_raw=on,extended_l2=${extended}`;
    await corralHere('create', '-q', '-o', options, path, String(SIZE));

    execFileSync('qemu-io', ['-f', 'raw', '-c', 'write -P 9 70k 300k', data]);

    checkWithQemu(path, options);
    expectSameBytes(await readWithCorral({ path, data }), readFileSync(data));
    expectSameBytes(toRaw(path), readFileSync(data));
  });

  test('is converted', async () => {
    const { path } = make('data_file_raw=on');
    qemuIo(path, ['write -P 7 64k 1M', 'write -z 128k 64k']);

    const { status } = await corralHere('convert', '-O', 'raw', path, `${path}.copy`);

    expect(status).toBe(0);
    expectSameBytes(readFileSync(`${path}.copy`), toRaw(path));
    const options = `data_file=${path}.data,data_file_raw=on`;
    expect((await corralHere('convert', '-O', 'qcow2', '-o', options, path, `${path}.new`)).status).toBe(0);
    expectSameBytes(readFileSync(`${path}.data`), toRaw(path));
    expectSameBytes(toRaw(`${path}.new`), toRaw(path));
  });
});

describe('requests by Corral and QEMU in turn', () => {
  test.each(kinds)('leave the same disk (%s)', async (options) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const made = make(options);
    const clusterSize = clusterSizeOf(made.path);
    const model = new Uint8Array(SIZE);
    // QEMU makes it a whole number of clusters long.
    if (options.includes('raw')) truncateSync(made.data, SIZE);

    for (let round = 0; round < 4; round++) {
      const ours = drawSteps(random, 60, SIZE, clusterSize);
      await runWithCorral(made.path, ours, round % 2 === 0, {
        dataFile: await NodeFile.open(made.data, { write: true }),
      });
      for (const step of ours) apply(model, step, { clusterSize });
      checkWithQemu(made.path, `seed ${seed}`);
      expectSameBytes(readWithQemu(made.path), model, `QEMU reads (round ${round}, seed ${seed})`);
      if (options.includes('raw')) expectSameBytes(readFileSync(made.data), model, `the raw file (seed ${seed})`);

      const theirs = drawSteps(random, 20, SIZE, clusterSize);
      runWithQemu(made.path, theirs);
      for (const step of theirs) apply(model, step, { clusterSize });
      expectSameBytes(await readWithCorral(made), model, `Corral reads (round ${round}, seed ${seed})`);
      if (options.includes('raw')) truncateSync(made.data, SIZE);
    }
  });

  test.each(kinds)('one after the other leave the same data in the same places (%s)', async (options) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const [ours, theirs] = [make(options), make(options)];
    const clusterSize = clusterSizeOf(ours.path);
    const steps = drawSteps(random, 60, SIZE, clusterSize);

    await runWithCorral(ours.path, steps, false, { dataFile: await NodeFile.open(ours.data, { write: true }) });
    runWithQemu(theirs.path, steps);

    expect(qemuMap(ours.path, 'human').replaceAll(ours.data, ''), `seed ${seed}`).toBe(
      qemuMap(theirs.path, 'human').replaceAll(theirs.data, ''),
    );
  });
});

describe('a data file', () => {
  test('gives back what was discarded', async () => {
    const made = make('cluster_size=64k');
    qemuIo(made.path, ['write -P 1 0 6M']);
    const discarded: [number, number][] = [];
    const dataFile = new MemoryFile(readFileSync(made.data));
    dataFile.discard = async (offset, length) => void discarded.push([offset, length]);
    const image = await openImage(made.path, { write: true, dataFile });

    await image.discard(MIB, 4 * MIB);
    await image.writeZeroes(0, MIB / 2, { unmap: true });
    await image.close();

    expect(discarded).toEqual([
      [MIB, 4 * MIB],
      [0, MIB / 2],
    ]);
  });

  test('is not opened by the library on the word of an image', async () => {
    const { path } = make('data_file_raw=on');

    await expect(openImage(path)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(/external data file/),
    });
  });

  test('does not go with snapshots', async () => {
    const made = make('cluster_size=64k');
    const dataFile = await NodeFile.open(made.data, { write: true });
    const image = await openImage(made.path, { write: true, dataFile });

    const refusal = { code: 'ERR_UNSUPPORTED', message: expect.stringMatching(/external data file/) };
    await expect(image.snapshots.create({ name: 'one' })).rejects.toMatchObject(refusal);
    await image.close();
    checkWithQemu(made.path, 'nothing has changed');
  });

  test('that is missing is named', async () => {
    const made = make('data_file_raw=on');
    execFileSync('rm', [made.data]);

    const { status, stderr } = await corralHere('map', made.path);

    expect(status).toBe(1);
    expect(stderr).toBe(
      `corral: Could not open '${made.path}': Could not open '${made.data}': No such file or directory\n`,
    );
  });

  test('that is too short for a cluster is not read as zeros', async () => {
    const made = make('cluster_size=64k');
    qemuIo(made.path, ['write -P 1 0 256k']);
    truncateSync(made.data, 128 * 1024);
    const image = await open(made);

    await expect(image.read(192 * 1024, new Uint8Array(SECTOR))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
    await image.close();
  });

  test('of a raw image holds every cluster where the guest has it', async () => {
    const made = make('data_file_raw=on');
    qemuIo(made.path, ['write -P 1 0 256k']);
    const damage = new Damage(made.path);
    damage.flip(damage.l2(2), 3n << 16n);
    const data = new MemoryFile(readFileSync(made.data), true);
    await using image = await Image.open(new MemoryFile(damage.bytes, true), { core: loadCore(), dataFile: data });

    await expect(image.read(128 * 1024, new Uint8Array(SECTOR))).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
  });

  test('does not belong to an image that names none', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
    const dataFile = new MemoryFile(new Uint8Array(MIB), true);

    const opening = openImage(path, { dataFile });

    await expect(opening).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });
});

function make(options: string): Made {
  const folder = temporaryFolder();
  const [path, data] = [join(folder, 'image.qcow2'), join(folder, 'data')];
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${data},${options}`, path, String(SIZE)]);
  return { path, data };
}

async function open({ path, data }: Made): Promise<Image> {
  return openImage(path, { cacheSize: 0, dataFile: await NodeFile.open(data) });
}

function command(random: () => number): string {
  const verb = ['write -P', 'write -P', 'write -P', 'write -z', 'write -z -u', 'discard'][below(random, 6)] as string;
  const unit = [SECTOR, 2048, 65536][below(random, 3)] as number;
  const offset = below(random, Math.floor(SIZE / unit)) * unit;
  const length = Math.min(SIZE - offset, (1 + below(random, 40)) * unit);
  const value = verb === 'write -P' ? ` ${1 + below(random, 255)}` : '';
  return `${verb}${value} ${offset} ${length}`;
}

function qemuIo(path: string, commands: string[]): void {
  execFileSync('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((text) => ['-c', text]), path]);
}

function qemuMap(path: string, output: string): string {
  return execFileSync('qemu-img', ['map', '-f', 'qcow2', `--output=${output}`, path], { encoding: 'utf8' });
}

function clusterSizeOf(path: string): number {
  return 2 ** readFileSync(path).readUInt32BE(20);
}

function toRaw(path: string): Uint8Array {
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, `${path}.raw`]);
  return readFileSync(`${path}.raw`);
}

async function readWithCorral(made: Made): Promise<Uint8Array> {
  await using image = await open(made);
  const target = new Uint8Array(image.size);
  await image.read(0, target);
  return target;
}
