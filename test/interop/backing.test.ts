/** Overlays: what lies behind an image shows where nothing is allocated, and is copied where only a part is written. */

import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  createImage,
  Image,
  layersOf,
  listGate,
  loadCore,
  MemoryFile,
  openImage,
  pathGate,
} from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import {
  apply,
  checkWithQemu,
  drawSteps,
  readWithCorral,
  readWithQemu,
  runWithCorral,
  runWithQemu,
} from './guest-steps.js';

const MIB = 1 << 20;
const SIZE = 5 * MIB + 3 * 512;

const chains = [
  { base: 'raw', baseSize: SIZE, clusterSize: 65536, compat: '1.1' },
  { base: 'raw', baseSize: 2 * MIB + 512, clusterSize: 4096, compat: '1.1' },
  { base: 'qcow2', baseSize: SIZE + MIB, clusterSize: 512, compat: '1.1' },
  { base: 'qcow2', baseSize: MIB + 7 * 512, clusterSize: 2 * MIB, compat: '1.1' },
  { base: 'qcow2', baseSize: SIZE, clusterSize: 65536, compat: '0.10' },
  { base: 'raw', baseSize: 3 * MIB, clusterSize: 1024, compat: '0.10' },
];

describe('an overlay', () => {
  test.each(chains)('of clusters of $clusterSize, compat $compat, over $base of $baseSize bytes', async (made) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const { clusterSize, compat } = made;
    const { path, model } = makeOverlay(random, made);
    const gate = pathGate();
    const disk = { clusterSize, keepsDiscarded: compat === '0.10' };
    expectSameBytes(await readWithCorral(path, { gate }), model, `as it was made, seed ${seed}:`);

    for (let round = 0; round < 3; round++) {
      const ours = drawSteps(random, 40, SIZE, clusterSize);
      await runWithCorral(path, ours, round !== 0, { gate });
      for (const step of ours) apply(model, step, disk);
      checkWithQemu(path, `round ${round}, seed ${seed}`);
      expectSameBytes(readWithQemu(path), model, `QEMU reads, round ${round}, seed ${seed}:`);
      const theirs = drawSteps(random, 15, SIZE, clusterSize);
      runWithQemu(path, theirs);
      for (const step of theirs) apply(model, step, disk);
      expectSameBytes(await readWithCorral(path, { gate }), model, `Corral reads, round ${round}, seed ${seed}:`);
    }
  });

  test('over an overlay with a snapshot, over compressed clusters, over a raw file', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const {
      folder,
      path: middle,
      model,
    } = makeOverlay(random, { ...(chains[0] as (typeof chains)[0]), base: 'compressed' });
    execFileSync('qemu-img', ['snapshot', '-c', 's', middle]);
    runWithQemu(middle, [{ kind: 'write', offset: 70_144, length: 1024, value: 200 }]);
    model.fill(200, 70_144, 71_168);
    const top = join(folder, 'top.qcow2');
    execFileSync('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-b',
      basename(middle),
      '-F',
      'qcow2',
      '-o',
      'cluster_size=4k',
      top,
    ]);
    const steps = drawSteps(random, 50, SIZE, 4096);

    await runWithCorral(top, steps, true, { gate: pathGate() });

    for (const step of steps) apply(model, step, { clusterSize: 4096 });
    checkWithQemu(top, `seed ${seed}`);
    expectSameBytes(readWithQemu(top), model, `QEMU reads, seed ${seed}:`);
    await using image = await openImage(top, { gate: pathGate() });
    expect(layersOf(image).map(({ format }) => format)).toEqual(['qcow2', 'qcow2', 'raw']);
  });
});

describe('what may be opened', () => {
  test('is nothing, unless there is a gate', async () => {
    const { path } = makeOverlay(randomFrom(1), chains[0] as (typeof chains)[0]);

    await expect(openImage(path)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: "The image names a backing file, 'base.raw', and no gate was given that may open it",
    });
    const inspected = await openImage(path, { inspect: true });
    expect(inspected.info.backingFile).toBe('base.raw');
    await inspected.close();
  });

  test('are the files of a list of paths', async () => {
    const { path, folder, model } = makeOverlay(randomFrom(2), chains[0] as (typeof chains)[0]);
    const base = join(folder, 'base.raw');

    await expect(openImage(path, { gate: pathGate({ only: [join(folder, 'other')] }) })).rejects.toThrow(/no gate/);

    expectSameBytes(await readWithCorral(path, { gate: pathGate({ only: [base] }) }), model);
  });

  test('are files that are nowhere but in memory', async () => {
    const { path, folder, model } = makeOverlay(randomFrom(3), chains[0] as (typeof chains)[0]);
    const gate = listGate({ 'base.raw': async () => new MemoryFile(readFileSync(join(folder, 'base.raw'))) });

    await using image = await Image.open(new MemoryFile(readFileSync(path)), { core: loadCore(), gate });

    const target = new Uint8Array(SIZE);
    await image.read(0, target);
    expectSameBytes(target, model);
  });

  test('is no name with a protocol', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    for (const name of ['nbd://localhost/x', 'json:{"driver":"raw"}', 'file:base.raw']) {
      execFileSync('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'raw', path, '1M']);

      await expect(openImage(path, { gate: pathGate() })).rejects.toThrow(/has a protocol/);
    }
  });
});

describe('chains that cannot be', () => {
  test('a file that is its own backing file, also under another name', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    symlinkSync(path, join(folder, 'link'));
    for (const name of ['image.qcow2', 'link']) {
      execFileSync('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'qcow2', path, '1M']);

      for (const write of [false, true]) {
        await expect(openImage(path, { gate: pathGate(), write })).rejects.toMatchObject({
          code: 'ERR_IMAGE_CORRUPT',
          message: `Backing file '${name}' creates an infinite loop`,
        });
      }
    }
  });

  test('two files behind each other', async () => {
    const folder = temporaryFolder();
    const [one, two] = [join(folder, 'one'), join(folder, 'two')];
    execFileSync('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', two, '-F', 'qcow2', one, '1M']);
    execFileSync('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', one, '-F', 'qcow2', two, '1M']);

    await expect(openImage(one, { gate: pathGate() })).rejects.toThrow(/infinite loop/);
  });

  test('more layers than allowed', async () => {
    const folder = temporaryFolder();
    for (let layer = 0; layer < 6; layer++) {
      const backing = layer === 0 ? {} : { backingFile: `${layer - 1}.qcow2`, backingFormat: 'qcow2' };
      await createImage(join(folder, `${layer}.qcow2`), { virtualSize: MIB, ...backing });
    }
    const gate = pathGate();

    await expect(openImage(join(folder, '5.qcow2'), { gate, chainDepth: 4 })).rejects.toThrow(
      'The backing chain has more than 4 layers',
    );

    await using image = await openImage(join(folder, '5.qcow2'), { gate, chainDepth: 5 });
    expect(layersOf(image)).toHaveLength(5);
  });

  test('a backing file without a format is read, and not written over', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'base.raw'), new Uint8Array(MIB).fill(5));
    const path = join(folder, 'image.qcow2');
    await createImage(path, { virtualSize: MIB, backingFile: 'base.raw' });
    const before = readFileSync(path);

    await expect(openImage(path, { gate: pathGate(), write: true })).rejects.toThrow(/without a format/);

    expect(Buffer.compare(readFileSync(path), before)).toBe(0);
    expectSameBytes(await readWithCorral(path, { gate: pathGate() }), new Uint8Array(MIB).fill(5));
  });

  test('a backing file that is missing', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    await createImage(path, { virtualSize: MIB, backingFile: 'gone', backingFormat: 'raw' });

    await expect(openImage(path, { gate: pathGate() })).rejects.toMatchObject({
      code: 'ERR_NOT_FOUND',
      message: `Could not open backing file 'gone' of '${path}': No such file or directory`,
    });
  });

  test.each([
    ['is missing', () => {}, 'ERR_NOT_FOUND', 'No such file or directory'],
    ['is no image', (base: string) => writeFileSync(base, 'text'), 'ERR_NOT_QCOW2', 'Image is not in qcow2 format'],
    [
      'has an unknown version',
      (base: string) => writeFileSync(base, withVersion(9)),
      'ERR_UNSUPPORTED',
      'Unsupported qcow2 version 9',
    ],
  ])('a backing file far behind that %s is named with the image that names it', async (_, make, code, reason) => {
    const folder = temporaryFolder();
    const [base, middle, top] = ['base', 'middle', 'top'].map((name) => join(folder, name)) as [string, string, string];
    await createImage(middle, { virtualSize: MIB, backingFile: 'base', backingFormat: 'qcow2' });
    await createImage(top, { virtualSize: MIB, backingFile: 'middle', backingFormat: 'qcow2' });
    make(base);

    await expect(openImage(top, { gate: pathGate() })).rejects.toMatchObject({
      code,
      message: `Could not open backing file 'base' of '${middle}': ${reason}`,
    });
  });

  test('a chain of three hundred layers is read when that many are allowed', async () => {
    const folder = temporaryFolder();
    const path = (layer: number) => join(folder, `${layer}.qcow2`);
    const options = { virtualSize: MIB, clusterSize: 4096 };
    await createImage(path(0), options);
    runWithQemu(path(0), [{ kind: 'write', offset: 4096, length: 4096, value: 7 }]);
    for (let layer = 1; layer < 300; layer++) {
      await createImage(path(layer), { ...options, backingFile: `${layer - 1}.qcow2`, backingFormat: 'qcow2' });
    }

    await using image = await openImage(path(299), { gate: pathGate(), chainDepth: 300 });
    const target = new Uint8Array(8192);
    await image.read(0, target);

    expectSameBytes(
      target,
      Uint8Array.from({ length: 8192 }, (_, index) => (index < 4096 ? 0 : 7)),
    );
    expect(layersOf(image)).toHaveLength(299);
  });
});

/** The start of an image of that version. */
function withVersion(version: number): Uint8Array {
  const header = Buffer.alloc(4096);
  header.write('QFI\xfb', 'latin1');
  header.writeUInt32BE(version, 4);
  return header;
}

/** An overlay in a folder of its own, over a base with random contents, both partly written by QEMU. */
function makeOverlay(
  random: () => number,
  { base, baseSize, clusterSize, compat }: { base: string; baseSize: number; clusterSize: number; compat: string },
): { folder: string; path: string; model: Uint8Array } {
  const folder = temporaryFolder();
  const raw = join(folder, 'base.raw');
  const contents = new Uint8Array(baseSize);
  for (let offset = 0; offset < baseSize; ) {
    const end = Math.min(baseSize, offset + 1 + below(random, 50_000));
    contents.fill(random() < 0.2 ? 0 : 1 + below(random, 255), offset, end);
    offset = end;
  }
  writeFileSync(raw, contents);
  let behind = 'base.raw';
  if (base === 'qcow2') {
    behind = 'base.qcow2';
    execFileSync('qemu-img', [
      'convert',
      '-f',
      'raw',
      '-O',
      'qcow2',
      '-o',
      'cluster_size=2k',
      raw,
      join(folder, behind),
    ]);
  } else if (base === 'compressed') {
    // A compressed half over the whole raw file.
    behind = 'base.qcow2';
    copyFileSync(raw, join(folder, 'half.raw'));
    const path = join(folder, behind);
    const options = ['-o', 'compression_type=zstd', '-B', raw, '-F', 'raw'];
    execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', ...options, join(folder, 'half.raw'), path]);
  }
  const path = join(folder, 'overlay.qcow2');
  const options = `cluster_size=${clusterSize},compat=${compat}`;
  const format = behind === 'base.raw' ? 'raw' : 'qcow2';
  execFileSync('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    behind,
    '-F',
    format,
    '-o',
    options,
    path,
    String(SIZE),
  ]);
  const model = new Uint8Array(SIZE);
  model.set(contents.subarray(0, SIZE));
  const steps = drawSteps(random, 10, SIZE, clusterSize);
  runWithQemu(path, steps);
  for (const step of steps) apply(model, step, { clusterSize, keepsDiscarded: compat === '0.10' });
  return { folder, path, model };
}
