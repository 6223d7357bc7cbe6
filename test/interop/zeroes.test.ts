/** Writes, zeroes and discards by Corral and by QEMU on two images in step: same bytes, same map, clean checks. */

import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const MIB = 1 << 20;
const SIZE = 12 * MIB + 3 * 512;
const SECTOR = 512;

interface Step {
  kind: 'write' | 'zero' | 'unmap' | 'discard' | 'flush';
  offset: number;
  length: number;
  value: number;
}

const images = [
  { clusterSize: 512, compat: '1.1' },
  { clusterSize: 4096, compat: '1.1' },
  { clusterSize: 65536, compat: '1.1' },
  { clusterSize: 2 * MIB, compat: '1.1' },
  { clusterSize: 4096, compat: '0.10' },
  { clusterSize: 65536, compat: '0.10' },
];

describe('random writes, zeroes and discards, in turn on the same image', () => {
  test.each(images)('clusters of $clusterSize, compat $compat', async ({ clusterSize, compat }) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const folder = temporaryFolder();
    const ours = join(folder, 'ours.qcow2');
    const theirs = join(folder, 'theirs.qcow2');
    const options = `cluster_size=${clusterSize},compat=${compat}`;
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, ours, String(SIZE)]);
    copyFileSync(ours, theirs);
    const model = new Uint8Array(SIZE);

    for (let round = 0; round < 4; round++) {
      const steps = Array.from({ length: 60 }, () => pick(random, clusterSize));
      await runWithCorral(ours, steps, round % 2 === 0);
      runWithQemu(theirs, steps);
      for (const step of steps) apply(model, step, clusterSize);

      check(ours, seed);
      expectSameBytes(toRaw(ours), model, `QEMU reads Corral's image, round ${round}, seed ${seed}:`);
      // The other program goes on with what the first one made.
      const more = Array.from({ length: 20 }, () => pick(random, clusterSize));
      runWithQemu(ours, more);
      await runWithCorral(theirs, more, true);
      for (const step of more) apply(model, step, clusterSize);
      check(ours, seed);
      check(theirs, seed);
      expectSameBytes(await readWithCorral(ours), model, `Corral reads, round ${round}, seed ${seed}:`);
      expectSameBytes(await readWithCorral(theirs), model, `Corral reads QEMU's image, round ${round}, seed ${seed}:`);
    }
  });
});

describe('the map after zeroes and discards', () => {
  const sequences = [
    ['write -P 1 0 1M', 'write -z 64k 128k', 'discard 512k 64k'],
    ['write -P 1 0 1M', 'write -z -u 64k 128k', 'discard 500k 200k'],
    ['write -z 0 4M', 'write -P 2 1M 4k'],
    ['write -z -u 0 4M', 'discard 0 4M'],
    ['write -P 3 0 12M', 'discard 0 12M', 'write -P 4 5M 64k'],
    ['write -z 100k 300k'],
    ['write -z -u 100k 10k', 'write -P 1 512k 64k', 'write -z 500k 40k'],
    ['write -P 1 0 128k', 'write -z 0 64k', 'write -z -u 10k 20k', 'write -z 100k 60k'],
  ];
  const versions = sequences.flatMap((commands) => ['1.1', '0.10'].map((compat) => ({ compat, commands })));

  test.each(versions)('is as QEMU leaves it: compat $compat, $commands', async ({ compat, commands }) => {
    const folder = temporaryFolder();
    const ours = join(folder, 'ours.qcow2');
    const theirs = join(folder, 'theirs.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `compat=${compat}`, ours, '16M']);
    copyFileSync(ours, theirs);
    qemuIo(theirs, commands);
    const image = await openImage(ours, { write: true });
    for (const command of commands) {
      const step = parse(command);
      await run(image, step);
    }
    await image.close();

    check(ours, 0);
    expect(await kinds(ours)).toEqual(await kinds(theirs));
  });
});

describe('space that was discarded', () => {
  test('is used again: the file does not grow', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
    await using image = await openImage(path, { write: true });
    const data = new Uint8Array(MIB).fill(7);

    for (let round = 0; round < 40; round++) {
      await image.write((round % 60) * MIB, data);
      await image.discard((round % 60) * MIB, MIB);
      await image.flush();
    }

    expect(statSync(path).size).toBeLessThan(8 * MIB);
    await image.close();
    check(path, 0);
  });

  test('beyond what can be remembered at once is freed all the same', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', path, '8M']);
    const image = await openImage(path, { write: true });
    await image.write(0, new Uint8Array(8 * MIB).fill(1));

    const calls: Promise<void>[] = [];
    for (let offset = 0; offset < 8 * MIB; offset += 1024) calls.push(image.discard(offset, 512));
    await Promise.all(calls);
    await image.close();

    check(path, 0);
    const { 'allocated-clusters': allocated } = JSON.parse(
      execFileSync('qemu-img', ['check', '--output=json', path], { encoding: 'utf8' }),
    );
    expect(allocated).toBe(8 * 1024);
  });
});

async function kinds(path: string): Promise<unknown[]> {
  await using image = await openImage(path);
  const all: unknown[] = [];
  let last: { kind: string; allocated: boolean; length: number } | undefined;
  for await (const { kind, allocated, length } of image.map()) {
    if (last?.kind === kind && last.allocated === allocated) last.length += length;
    else {
      last = { kind, allocated, length };
      all.push(last);
    }
  }
  return all;
}

function parse(command: string): Step {
  const words = command.split(' ');
  const number = (text: string): number =>
    Number.parseInt(text, 10) * (text.endsWith('k') ? 1024 : text.endsWith('M') ? MIB : 1);
  const offset = number(words.at(-2) as string);
  const length = number(words.at(-1) as string);
  if (words[0] === 'discard') return { kind: 'discard', offset, length, value: 0 };
  if (words[1] === '-P') return { kind: 'write', offset, length, value: Number(words[2]) };
  return { kind: words[2] === '-u' ? 'unmap' : 'zero', offset, length, value: 0 };
}

function pick(random: () => number, clusterSize: number): Step {
  const kind = (['write', 'write', 'zero', 'unmap', 'discard', 'flush'] as const)[below(random, 6)] ?? 'write';
  const sectors = SIZE / SECTOR;
  let offset = below(random, sectors);
  let length = Math.min(1 + below(random, 400), sectors - offset);
  if (random() < 0.4) {
    const unit = Math.max(1, clusterSize / SECTOR);
    offset = Math.floor(offset / unit) * unit;
    length = Math.min(Math.ceil(length / unit) * unit, sectors - offset);
  }
  if (random() < 0.1) length = sectors - offset;
  return { kind, offset: offset * SECTOR, length: length * SECTOR, value: 1 + below(random, 255) };
}

/** QEMU and Corral both discard whole clusters only; discarded clusters read as zeros. */
function apply(model: Uint8Array, { kind, offset, length, value }: Step, clusterSize: number): void {
  if (kind === 'flush') return;
  if (kind !== 'discard') {
    model.fill(kind === 'write' ? value : 0, offset, offset + length);
    return;
  }
  const start = Math.ceil(offset / clusterSize) * clusterSize;
  const end = offset + length === SIZE ? SIZE : Math.floor((offset + length) / clusterSize) * clusterSize;
  if (start < end) model.fill(0, start, end);
}

async function runWithCorral(path: string, steps: Step[], atOnce: boolean): Promise<void> {
  await using image = await openImage(path, { write: true, requestCapacity: 6, cacheSize: 0 });
  const calls: Promise<void>[] = [];
  for (const step of steps) {
    const call = run(image, step);
    if (atOnce) calls.push(call);
    else await call;
  }
  await Promise.all(calls);
}

function run(image: Awaited<ReturnType<typeof openImage>>, { kind, offset, length, value }: Step): Promise<void> {
  if (kind === 'write') return image.write(offset, new Uint8Array(length).fill(value));
  if (kind === 'discard') return image.discard(offset, length);
  if (kind === 'flush') return image.flush();
  return image.writeZeroes(offset, length, { unmap: kind === 'unmap' });
}

function runWithQemu(path: string, steps: Step[]): void {
  const commands = steps.map(({ kind, offset, length, value }) => {
    if (kind === 'write') return `write -P ${value} ${offset} ${length}`;
    if (kind === 'flush') return 'flush';
    return `${kind === 'discard' ? 'discard' : kind === 'zero' ? 'write -z' : 'write -z -u'} ${offset} ${length}`;
  });
  qemuIo(path, commands);
}

function qemuIo(path: string, commands: string[]): void {
  execFileSync('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), path]);
}

function toRaw(path: string): Uint8Array {
  const raw = `${path}.raw`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

async function readWithCorral(path: string): Promise<Uint8Array> {
  await using image = await openImage(path);
  const target = new Uint8Array(image.size);
  await image.read(0, target);
  return target;
}

/** Exit status 0: neither errors nor leaks. */
function check(path: string, seed: number): void {
  try {
    execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', path], { stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: Buffer; stderr: Buffer };
    expect.fail(`qemu-img check (seed ${seed}): ${stdout}${stderr}`);
  }
}
