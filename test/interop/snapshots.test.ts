/** Internal snapshots, made, applied, deleted and read by Corral and QEMU in turn on the same image. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { NodeFile, openImage } from '../../host/node/index.js';
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
const SIZE = 6 * MIB + 3 * 512;
/** Thousands of compressed clusters take seconds to read. */
const COMPRESSED_SIZE = MIB + 3 * 512;

interface Made {
  clusterSize: number;
  compat: string;
  refcountBits: number;
  /** Most snapshots at a time: applying one counts a reference more than the disk and the snapshots have. */
  most: number;
  /** Every cluster is compressed at first. */
  compressed?: boolean;
}

const images: Made[] = [
  { clusterSize: 512, compat: '1.1', refcountBits: 16, most: 4 },
  { clusterSize: 512, compat: '1.1', refcountBits: 64, most: 4 },
  { clusterSize: 4096, compat: '1.1', refcountBits: 2, most: 1 },
  { clusterSize: 4096, compat: '1.1', refcountBits: 4, most: 4 },
  { clusterSize: 1024, compat: '1.1', refcountBits: 8, most: 4 },
  { clusterSize: 4096, compat: '1.1', refcountBits: 32, most: 4 },
  { clusterSize: 4096, compat: '1.1', refcountBits: 64, most: 4 },
  { clusterSize: 65536, compat: '1.1', refcountBits: 16, most: 4 },
  { clusterSize: 2 * MIB, compat: '1.1', refcountBits: 16, most: 4 },
  { clusterSize: 1024, compat: '0.10', refcountBits: 16, most: 4 },
  { clusterSize: 65536, compat: '0.10', refcountBits: 16, most: 4 },
  { clusterSize: 512, compat: '1.1', refcountBits: 16, most: 4, compressed: true },
  { clusterSize: 65536, compat: '1.1', refcountBits: 16, most: 4, compressed: true },
];

type Maker = 'corral' | 'qemu-img';

describe('snapshots by both in turn', () => {
  test.each(images)(
    'clusters of $clusterSize, compat $compat, $refcountBits-bit refcounts, compressed: $compressed',
    async (made) => {
      const seed = chooseSeed();
      const random = randomFrom(seed);
      const path = makeImage(made);
      let disk: Uint8Array = await readWithCorral(path);
      const snapshots = new Map<string, Uint8Array>();

      for (let round = 0; round < 14; round++) {
        const context = `round ${round}, seed ${seed}`;
        const maker: Maker = random() < 0.65 ? 'corral' : 'qemu-img';
        const names = [...snapshots.keys()];
        const name = names[below(random, names.length)];
        const choice = random();
        if (snapshots.size < made.most && choice < 0.5) {
          await run(maker, path, 'create', `s${round}`);
          snapshots.set(`s${round}`, disk.slice());
        } else if (name !== undefined && choice < 0.75) {
          await run(maker, path, 'apply', name);
          disk = (snapshots.get(name) as Uint8Array).slice();
        } else if (name !== undefined) {
          await run(maker, path, 'delete', name);
          snapshots.delete(name);
        }
        checkWithQemu(path, context);
        const steps = drawSteps(random, 12, disk.length, made.clusterSize);
        if (maker === 'corral') runWithQemu(path, steps);
        else await runWithCorral(path, steps, false);
        for (const step of steps) apply(disk, step, made);
        checkWithQemu(path, context);
        expectSameBytes(await readWithCorral(path), disk, context);
      }

      expectSameBytes(readWithQemu(path), disk, `QEMU (seed ${seed})`);
      for (const [name, contents] of snapshots) {
        expectSameBytes(await readWithCorral(path, { snapshot: name }), contents, `${name} by Corral (seed ${seed})`);
        expectSameBytes(readWithQemu(path, name), contents, `${name} by QEMU (seed ${seed})`);
      }
      await using image = await openImage(path);
      expect((await image.snapshots.list()).map((snapshot) => snapshot.name)).toEqual([...snapshots.keys()]);
    },
  );
});

describe('a snapshot that the refcounts cannot count', () => {
  test('is refused when refcounts have one bit, and nothing has changed', async () => {
    const path = makeImage({ clusterSize: 4096, compat: '1.1', refcountBits: 1, most: 0 });
    await runWithCorral(path, [{ kind: 'write', offset: 0, length: 3 * MIB, value: 5 }], true);
    await using image = await openImage(path, { write: true });

    const made = image.snapshots.create({ name: 'one' });

    await expect(made).rejects.toMatchObject({ code: 'ERR_TOO_LARGE', message: expect.stringMatching(/overflow/) });
    expect(await image.snapshots.list()).toEqual([]);
    await image.write(0, new Uint8Array(512).fill(6));
    await image.close();
    checkWithQemu(path, 'after the refusal');
  });

  test('is refused in the middle, and what was raised before is lowered again', async () => {
    const path = makeImage({ clusterSize: 4096, compat: '1.1', refcountBits: 2, most: 2 });
    runWithQemu(path, [{ kind: 'write', offset: 0, length: SIZE - 1536, value: 5 }]);
    for (const name of ['a', 'b']) execFileSync('qemu-img', ['snapshot', '-c', name, path]);
    runWithQemu(path, [{ kind: 'write', offset: 0, length: 3 * MIB + 4096, value: 6 }]);
    const disk = readWithQemu(path);
    await using image = await openImage(path, { write: true });

    await expect(image.snapshots.create({ name: 'c' })).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });

    // Overwriting in place is right again where it was before.
    await image.write(0, new Uint8Array(4096).fill(6));
    await image.close();
    checkWithQemu(path, 'after the refusal');
    expectSameBytes(readWithQemu(path), disk);
    expect(listWithQemu(path).map(({ name }) => name)).toEqual(['a', 'b']);
  });
});

describe('what a snapshot table says', () => {
  test('QEMU finds everything in the entry that Corral wrote', async () => {
    const path = makeImage({ clusterSize: 65536, compat: '1.1', refcountBits: 16, most: 4 });
    await using image = await openImage(path, { write: true });
    const date = new Date(Date.UTC(2020, 1, 29, 12, 30, 15, 250));

    await image.snapshots.create({ name: 'f\u00fcnf', date, vmClock: 3_723_004_000_000n, icount: 77n });
    await image.snapshots.create({ name: '', id: 'own' });
    await image.snapshots.create({ name: 'next', date });
    await image.close();

    const [first, second, third] = listWithQemu(path);
    expect(first).toMatchObject({ id: '1', name: 'f\u00fcnf', icount: 77, 'vm-clock-sec': 3723, 'vm-state-size': 0 });
    expect(first).toMatchObject({ 'date-sec': date.getTime() / 1000 - 0.25, 'date-nsec': 250_000_000 });
    expect(first).toMatchObject({ 'vm-clock-nsec': 4_000_000 });
    expect([second?.id, second?.name]).toEqual(['own', '']);
    expect([third?.id, third?.name, third?.icount]).toEqual(['2', 'next', undefined]);
  });

  test('an id that is taken is refused', async () => {
    const path = makeImage({ clusterSize: 65536, compat: '1.1', refcountBits: 16, most: 4 });
    await using image = await openImage(path, { write: true });
    await image.snapshots.create({ name: 'a' });

    await expect(image.snapshots.create({ id: '1', name: 'b' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
    await expect(image.snapshots.create({ name: 'x'.repeat(256) })).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    await expect(image.snapshots.delete('b')).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    await expect(image.snapshots.apply({ id: '2' })).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    await expect(openImage(path, { snapshot: 'b', lock: false })).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  });

  test('saved states and extra data that nobody knows are kept when the table is rewritten', async () => {
    const path = makeImage({ clusterSize: 65536, compat: '1.1', refcountBits: 16, most: 4 });
    for (const name of ['a', 'b', 'c']) execFileSync('qemu-img', ['snapshot', '-c', name, path]);
    const extra = Buffer.from('what a later version has added to the entry of a snapshot');
    const kept = addExtraData(path, extra);

    await using image = await openImage(path, { write: true });
    const listed = await image.snapshots.list();
    await image.snapshots.delete('a');
    await image.snapshots.create({ name: 'd' });
    await image.close();

    expect(listed.map(({ name, vmStateSize }) => [name, vmStateSize])).toEqual([
      ['a', 0],
      ['b', 0x123456789],
      ['c', 0],
    ]);
    expect(readFileSync(path).indexOf(kept)).toBeGreaterThan(0);
    expect(listWithQemu(path).map(({ name, 'vm-state-size': size }) => [name, size])).toEqual([
      ['b', 0x123456789],
      ['c', 0],
      ['d', 0],
    ]);
    checkWithQemu(path, 'after the table was rewritten');
  });

  test('too much extra data is refused, as by QEMU, and nothing changes', async () => {
    const path = makeImage({ clusterSize: 65536, compat: '1.1', refcountBits: 16, most: 4 });
    for (const name of ['a', 'b', 'c']) execFileSync('qemu-img', ['snapshot', '-c', name, path]);
    addExtraData(path, Buffer.alloc(1001, 7));
    const before = readFileSync(path);

    for (const options of [{}, { write: true }, { snapshot: 'c' }]) {
      await expect(openImage(path, options)).rejects.toMatchObject({
        code: 'ERR_IMAGE_CORRUPT',
        message: expect.stringContaining('Too much extra metadata in snapshot table entry 1'),
      });
    }

    expect(() => execFileSync('qemu-img', ['info', path], { stdio: 'pipe' })).toThrow(
      /Too much extra metadata in snapshot table entry 1/,
    );
    expectSameBytes(readFileSync(path), before);
  });

  test('with an external data file there are none', async () => {
    const folder = temporaryFolder();
    const [path, data] = [join(folder, 'image.qcow2'), join(folder, 'data')];
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${data}`, path, '1M']);
    await using image = await openImage(path, { write: true, dataFile: await NodeFile.open(data, { write: true }) });

    await expect(image.snapshots.create({ name: 'a' })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(/external data file has no internal snapshots/),
    });
  });

  test.each([
    ['the refcount table', 48],
    ['the active L1 table', 40],
  ])('a snapshot whose L1 table is %s is not deleted: that would be released', async (_name, field) => {
    const path = makeImage({ clusterSize: 65536, compat: '1.1', refcountBits: 16, most: 4 });
    runWithQemu(path, [{ kind: 'write', offset: 0, length: MIB, value: 3 }]);
    execFileSync('qemu-img', ['snapshot', '-c', 'a', path]);
    const file = readFileSync(path);
    file.copy(file, Number(file.readBigUInt64BE(64)), field, field + 8);
    writeFileSync(path, file);
    await using image = await openImage(path, { write: true });

    await expect(image.snapshots.delete({ id: '1' })).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
    await image.close();

    expectSameBytes(readFileSync(path), file);
  });

  test('five hundred snapshots with long names are listed in several answers', async () => {
    const path = makeImage({ clusterSize: 512, compat: '1.1', refcountBits: 16, most: 500 });
    await using image = await openImage(path, { write: true });
    const names = Array.from({ length: 500 }, (_, index) => `${index}-${'n'.repeat(240)}`);

    for (const name of names) await image.snapshots.create({ name });
    const listed = await image.snapshots.list();
    await image.snapshots.delete('250');
    await image.close();

    expect(listed.map(({ name }) => name)).toEqual(names);
    expect(listed.map(({ id }) => id)).toEqual(names.map((_, index) => String(index + 1)));
    expect(listWithQemu(path)).toHaveLength(499);
    checkWithQemu(path, 'five hundred');
  });
});

describe('disks of another size', () => {
  test('applying a snapshot gives the disk its size then', async () => {
    const path = makeImage({ clusterSize: 4096, compat: '1.1', refcountBits: 16, most: 4 });
    runWithQemu(path, [{ kind: 'write', offset: 0, length: MIB, value: 3 }]);
    execFileSync('qemu-img', ['snapshot', '-c', 'small', path]);
    execFileSync('qemu-img', ['resize', '-q', path, '40M']);
    runWithQemu(path, [{ kind: 'write', offset: 39 * MIB, length: 4096, value: 4 }]);
    execFileSync('qemu-img', ['snapshot', '-c', 'large', path]);
    const large = readWithQemu(path);
    await using image = await openImage(path, { write: true });

    await image.snapshots.apply('small');
    const sizes = [image.size];
    await expect(image.write(20 * MIB, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    await image.snapshots.apply('large');
    sizes.push(image.size);
    await image.close();

    expect(sizes).toEqual([SIZE, 40 * MIB]);
    expectSameBytes(readWithQemu(path), large);
    checkWithQemu(path, 'after applying both');
    await using small = await openImage(path, { snapshot: 'small' });
    expect(small.size).toBe(SIZE);
  });
});

interface Listed {
  id: string;
  name: string;
  icount?: number;
  'vm-state-size': number;
}

function listWithQemu(path: string): Listed[] {
  const info = JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' }));
  return (info as { snapshots?: Listed[] }).snapshots ?? [];
}

/** Rewrites the table: the second entry gets a saved state of that size and more extra data. Returns its extra data. */
function addExtraData(path: string, more: Buffer): Buffer {
  const file = readFileSync(path);
  const tableOffset = Number(file.readBigUInt64BE(64));
  const entries: Buffer[] = [];
  let at = tableOffset;
  let kept = Buffer.alloc(0);
  for (let index = 0; index < 3; index++) {
    const extraLength = file.readUInt32BE(at + 36);
    const names = file.readUInt16BE(at + 12) + file.readUInt16BE(at + 14);
    const header = Buffer.from(file.subarray(at, at + 40));
    let extra = Buffer.from(file.subarray(at + 40, at + 40 + extraLength));
    if (index === 1) {
      extra = Buffer.concat([extra, more]);
      extra.writeBigUInt64BE(0x123456789n, 0);
      header.writeUInt32BE(0x23456789, 32);
      header.writeUInt32BE(extra.length, 36);
      kept = extra;
    }
    const entry = Buffer.concat([header, extra, file.subarray(at + 40 + extraLength, at + 40 + extraLength + names)]);
    entries.push(Buffer.concat([entry, Buffer.alloc((8 - (entry.length % 8)) % 8)]));
    at += Math.ceil((40 + extraLength + names) / 8) * 8;
  }
  const table = Buffer.concat(entries);
  const longer = Buffer.alloc(Math.max(file.length, tableOffset + table.length));
  file.copy(longer);
  table.copy(longer, tableOffset);
  writeFileSync(path, longer);
  return kept;
}

function makeImage({ clusterSize, compat, refcountBits, compressed }: Made): string {
  const folder = temporaryFolder();
  const path = join(folder, 'image.qcow2');
  const width = compat === '1.1' ? `,refcount_bits=${refcountBits}` : '';
  const format = `cluster_size=${clusterSize},compat=${compat}${width}`;
  if (compressed !== true) {
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', format, path, String(SIZE)]);
    return path;
  }
  const plain = join(folder, 'plain.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', plain, String(COMPRESSED_SIZE)]);
  execFileSync('qemu-io', [
    '-f',
    'qcow2',
    '-c',
    `write -P 7 0 ${COMPRESSED_SIZE}`,
    '-c',
    'write -P 9 512k 70000',
    plain,
  ]);
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-c', '-O', 'qcow2', '-o', format, plain, path]);
  return path;
}

/** One change by one of the two. */
async function run(maker: Maker, path: string, verb: 'create' | 'apply' | 'delete', name: string): Promise<void> {
  if (maker === 'qemu-img') {
    const flag = { create: '-c', apply: '-a', delete: '-d' }[verb];
    execFileSync('qemu-img', ['snapshot', flag, name, path]);
    return;
  }
  await using image = await openImage(path, { write: true, cacheSize: 0, requestCapacity: 2 });
  if (verb === 'create') await image.snapshots.create({ name });
  else await image.snapshots[verb](name);
  await image.close();
}
