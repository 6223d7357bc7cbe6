import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, MAIN, mustQemuImg, qemuImg, qemuIo } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';

const MIB = 1024 * 1024;

/** A disk of stretches of random bytes and of zeros, some of them no whole cluster or block. */
function rawDisk(size: number, seed: number): string {
  const random = randomFrom(seed);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 512 * (1 + below(random, 2000))) {
    const end = Math.min(size, at + 512 * below(random, 1000) + below(random, 2) * below(random, 512));
    for (; at < end; at++) bytes[at] = below(random, 256);
  }
  const path = join(temporaryFolder(), 'disk.raw');
  writeFileSync(path, bytes);
  return path;
}

describe('corral convert copies every byte', () => {
  test.each([
    ['64 KiB clusters', 'cluster_size=64k'],
    ['512 byte clusters', 'cluster_size=512'],
    ['2 MiB clusters', 'cluster_size=2M'],
    ['version 2', 'compat=0.10'],
    ['subclusters', 'extended_l2=on'],
    ['compressed clusters of subclusters', 'extended_l2=on', '-c'],
    ['zlib', 'cluster_size=64k', '-c'],
    ['zstd', 'compression_type=zstd,cluster_size=16k', '-c', '--compression-level', '1'],
  ])('from raw to qcow2 with %s, and back', async (_, options, ...more) => {
    const seed = chooseSeed();
    const raw = rawDisk(12 * MIB + 512, seed);
    const image = `${raw}.qcow2`;
    const back = `${raw}.back`;

    const there = await corralHere('convert', '-f', 'raw', '-O', 'qcow2', '-o', options, ...more, raw, image);
    const returned = await corralHere('convert', '-f', 'qcow2', '-O', 'raw', image, back);

    expect([there, returned], `CORRAL_SEED=${seed}`).toEqual(Array(2).fill({ status: 0, stdout: '', stderr: '' }));
    mustQemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, image);
    expect(qemuImg(['check', image])).toMatchObject({ status: 0, stderr: '' });
    expectSameBytes(readFileSync(back), readFileSync(raw), `CORRAL_SEED=${seed}`);
  });

  test.each([
    ['with small clusters into one with large ones', 'cluster_size=4k', 'cluster_size=1M'],
    ['with large clusters into one with small ones', 'cluster_size=1M', 'cluster_size=4k'],
  ])('from an image %s', async (_, from, to) => {
    const image = writtenImage(from);
    const copy = `${image}.copy`;

    const { status } = await corralHere('convert', '-O', 'qcow2', '-o', to, image, copy);

    expect(status).toBe(0);
    mustQemuImg('compare', image, copy);
    expect(qemuImg(['check', copy])).toMatchObject({ status: 0, stderr: '' });
  });

  test('of an image to a raw file, as qemu-img convert does', async () => {
    const image = writtenImage();

    await corralHere('convert', image, `${image}.ours`);
    mustQemuImg('convert', image, `${image}.theirs`);

    expectSameBytes(readFileSync(`${image}.ours`), readFileSync(`${image}.theirs`));
    // The file system may need a block of its own for the list of stretches.
    expect(statSync(`${image}.ours`).blocks).toBeLessThanOrEqual(statSync(`${image}.theirs`).blocks + 8);
  });

  test('of a raw file to a raw file, whose end is rounded to a sector', async () => {
    const raw = join(temporaryFolder(), 'disk.raw');
    writeFileSync(raw, 'x'.repeat(1000));

    await corralHere('convert', '-f', 'raw', '-O', 'raw', raw, `${raw}.copy`);

    expectSameBytes(readFileSync(`${raw}.copy`), Buffer.concat([readFileSync(raw), Buffer.alloc(24)]));
  });

  test.each(['-C', '-W'])('of a raw file with %s, as without', async (option) => {
    const seed = chooseSeed();
    const raw = rawDisk(9 * MIB + 512, seed);
    const [file, image] = [`${raw}.copy`, `${raw}.qcow2`];

    const outcomes = [
      await corralHere('convert', option, '-f', 'raw', '-O', 'raw', raw, file),
      await corralHere('convert', option, '-f', 'raw', '-O', 'qcow2', raw, image),
    ];

    expect(outcomes, `CORRAL_SEED=${seed}`).toEqual(Array(2).fill({ status: 0, stdout: '', stderr: '' }));
    expectSameBytes(readFileSync(file), readFileSync(raw));
    mustQemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, image);
    mustQemuImg('check', image);
  });

  test('of a disk of no bytes', async () => {
    const image = newImage('compat=1.1', '0');

    const { status } = await corralHere('convert', '-O', 'qcow2', image, `${image}.copy`);

    expect(status).toBe(0);
    expect(JSON.parse(mustQemuImg('info', '--output=json', `${image}.copy`))['virtual-size']).toBe(0);
  });

  test.each(['0', '512', '1536', '4k', '16M'])('with zeros of %s left out', async (sparse) => {
    const raw = rawDisk(5 * MIB, 7);

    await corralHere('convert', '-f', 'raw', '-S', sparse, '-O', 'raw', raw, `${raw}.raw`);
    await corralHere('convert', '-f', 'raw', '-S', sparse, '-O', 'qcow2', raw, `${raw}.qcow2`);

    expectSameBytes(readFileSync(`${raw}.raw`), readFileSync(raw));
    mustQemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, `${raw}.qcow2`);
  });
});

/** Bytes of the disk that an image holds itself, as QEMU tells it. */
function allocatedBytes(path: string): number {
  const extents = JSON.parse(mustQemuImg('map', '--output=json', path)) as { length: number; data: boolean }[];
  return extents.reduce((sum, { length, data }) => sum + (data ? length : 0), 0);
}

describe('corral convert', () => {
  test('leaves zeros out: a large empty disk is a small file, at once', async () => {
    const image = newImage('compat=1.1', '1T');

    const { status } = await corralHere('convert', image, `${image}.raw`);

    expect(status).toBe(0);
    expect(statSync(`${image}.raw`)).toMatchObject({ size: 2 ** 40, blocks: 0 });
  });

  test('does not read holes: a large sparse raw file is copied at once', async () => {
    const raw = join(temporaryFolder(), 'disk.raw');
    writeFileSync(raw, 'start');
    truncateSync(raw, 100 * 1024 * MIB);
    const descriptor = openSync(raw, 'r+');
    writeSync(descriptor, Buffer.alloc(300_000, 7), 0, 300_000, 77 * 1024 * MIB + 512);
    closeSync(descriptor);

    for (const format of ['raw', 'qcow2'])
      await corralHere('convert', '-f', 'raw', '-O', format, raw, `${raw}.${format}`);

    expect(statSync(`${raw}.raw`)).toMatchObject({ size: 100 * 1024 * MIB });
    expect(statSync(`${raw}.raw`).blocks).toBeLessThanOrEqual(statSync(raw).blocks);
    mustQemuImg('compare', '-f', 'raw', '-F', 'raw', raw, `${raw}.raw`);
    mustQemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, `${raw}.qcow2`);
    expect(qemuImg(['check', `${raw}.qcow2`])).toMatchObject({ status: 0, stderr: '' });
  });

  test.each(['64k', '4k', '512'])('copies clusters of %s that lie in disorder, and those of a chain', async (size) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const folder = temporaryFolder();
    const [base, top] = [join(folder, 'base.qcow2'), join(folder, 'top.qcow2')];
    const write = (): string => {
      const length = 512 * (1 + below(random, 300));
      return `write -P ${below(random, 256)} ${512 * below(random, 8192 - length / 512)} ${length}`;
    };
    mustQemuImg('create', '-f', 'qcow2', '-o', `cluster_size=${size}`, base, '4M');
    qemuIo(base, ...Array.from({ length: 60 }, write));
    mustQemuImg('create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top, '5M');
    qemuIo(top, ...Array.from({ length: 20 }, write), 'write -z 1M 100k');

    await corralHere('convert', '-O', 'raw', top, `${top}.ours`);
    mustQemuImg('convert', '-O', 'raw', top, `${top}.theirs`);

    expectSameBytes(readFileSync(`${top}.ours`), readFileSync(`${top}.theirs`), `CORRAL_SEED=${seed}`);
    expect(statSync(`${top}.ours`).blocks).toBeLessThanOrEqual(statSync(`${top}.theirs`).blocks + 8);
  });

  test.each(['16k', '64k', '2M'])('leaves zeros out of parts of clusters of %s, where QEMU does', (clusterSize) => {
    const raw = rawDisk(8 * MIB, chooseSeed());
    const options = ['-f', 'raw', '-O', 'qcow2', '-o', `extended_l2=on,cluster_size=${clusterSize}`];
    const [ours, theirs] = [`${raw}.ours`, `${raw}.theirs`];

    const { status } = corral(['convert', ...options, raw, ours]);
    mustQemuImg('convert', ...options, raw, theirs);

    expect(status).toBe(0);
    expect(allocatedBytes(ours)).toBeLessThanOrEqual(allocatedBytes(theirs) * 1.01);
  });

  test('-S 0 writes everything', async () => {
    const image = newImage('compat=1.1', '3M');

    await corralHere('convert', '-S', '0', image, `${image}.raw`);

    expect(statSync(`${image}.raw`).blocks * 512).toBeGreaterThanOrEqual(3 * MIB);
  });

  test.each(['raw', 'qcow2'])('-n writes over all that a %s target held', async (format) => {
    const image = writtenImage();
    const target = `${image}.target`;
    writeFileSync(`${image}.old`, Buffer.alloc(10 * MIB, 0xee));
    mustQemuImg('convert', '-f', 'raw', '-O', format, `${image}.old`, target);

    const { status } = await corralHere('convert', '-n', '-O', format, image, target);

    expect(status).toBe(0);
    mustQemuImg('compare', '-f', 'qcow2', '-F', format, image, target);
    if (format === 'qcow2') expect(qemuImg(['check', target])).toMatchObject({ status: 0, stderr: '' });
  });

  test('-n refuses a target that is too small', async () => {
    const image = newImage();
    const small = newImage('compat=1.1', '1M', 'small.qcow2');

    const { status, stderr } = await corralHere('convert', '-n', '-O', 'qcow2', image, small);

    expect({ status, stderr }).toEqual({ status: 1, stderr: 'corral: output file is smaller than input file\n' });
  });

  test('-p shows progress up to 100 in a line that is written over', async () => {
    const { stdout } = await corralHere('convert', '-p', writtenImage(), join(temporaryFolder(), 'copy.raw'));

    expect(stdout).toMatch(/^ {4}\(0\.00\/100%\)\r( {4}\(\d+\.\d\d\/100%\)\r)* {4}\(100\.00\/100%\)\r\n$/);
    const percents = [...stdout.matchAll(/\((\d+\.\d\d)/g)].map((match) => Number(match[1]));
    expect(percents).toEqual([...percents].sort((first, second) => first - second));
  });

  test('replaces a file behind a symbolic link, and keeps its mode and owner', async () => {
    const image = writtenImage();
    const old = join(temporaryFolder(), 'old.raw');
    const link = join(temporaryFolder(), 'link.raw');
    writeFileSync(old, 'old');
    // Only root can give a file away.
    const uid = process.geteuid?.() === 0 ? 65534 : statSync(old).uid;
    chownSync(old, uid, statSync(old).gid);
    chmodSync(old, 0o640);
    symlinkSync(old, link);

    const { status } = await corralHere('convert', image, link);

    expect(status).toBe(0);
    expect(readlinkSync(link)).toBe(old);
    expect(statSync(old)).toMatchObject({ size: 10 * MIB, mode: 0o100640, uid });
  });

  test('makes a file that symbolic links lead to', async () => {
    const folder = temporaryFolder();
    symlinkSync('second', join(folder, 'first'));
    symlinkSync('new.raw', join(folder, 'second'));

    const { status } = await corralHere('convert', writtenImage(), join(folder, 'first'));

    expect(status).toBe(0);
    expect([readlinkSync(join(folder, 'first')), readlinkSync(join(folder, 'second'))]).toEqual(['second', 'new.raw']);
    expect(statSync(join(folder, 'new.raw')).size).toBe(10 * MIB);
  });
});

test.each(['convert', 'commit'])('corral %s -r takes as long as its rate says', async (verb) => {
  const folder = temporaryFolder();
  const [base, image] = [join(folder, 'base'), join(folder, 'image')];
  mustQemuImg('create', '-q', '-f', 'qcow2', base, '4M');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', image);
  qemuIo(image, 'write -P 1 0 4M');
  const begun = performance.now();

  const { status } = await corralHere(verb, '-r', '16M', image, ...(verb === 'convert' ? [`${image}.raw`] : []));

  expect(status).toBe(0);
  // 4 of 16 MiB; clocks may differ a little.
  expect(performance.now() - begun).toBeGreaterThan(240);
});

describe('corral convert fails in one line and changes nothing', () => {
  test.each([
    ['from a missing file', (image: string) => ['missing', image], /Could not open 'missing': No such file/],
    ['into a missing folder', (image: string) => [image, 'missing/x'], /Could not create 'missing\/x': No such file/],
    ['to another format', (image: string) => ['-O', 'vmdk', image, 'x'], /Unknown file format 'vmdk'/],
    ['with a bad -S', (image: string) => ['-S', '100', image, 'x'], /Invalid buffer size for sparse output/],
    ['with a bad -m', (image: string) => ['-m', '17', image, 'x'], /Must be between 1 and 16/],
    ['compressing raw', (image: string) => ['-c', '-O', 'raw', image, 'x'], /Compression not supported for this/],
    [
      'with a level of nothing',
      (image: string) => ['--compression-level', '3', '-O', 'qcow2', image, 'x'],
      /no effect without -c/,
    ],
    ['into a folder', (image: string) => [image, '.'], /Could not create '\.': Is a directory/],
  ])('%s', (_, args, reason) => {
    const image = writtenImage();
    const before = readFileSync(image);

    const { status, stdout, stderr } = corral(['convert', ...args(image)], { cwd: dirname(image) });

    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^corral: .*\n$/);
    expect(stderr).toMatch(reason);
    expectSameBytes(readFileSync(image), before);
    expect(readdirSync(dirname(image))).toEqual(['image.qcow2']);
  });

  test('when the source cannot be read to its end', async () => {
    const image = writtenImage();
    mustQemuImg('convert', '-c', '-O', 'qcow2', image, `${image}.damaged`);
    writeFileSync(`${image}.copy`, 'old');
    damageCompressedClusters(`${image}.damaged`);

    const { status, stderr } = await corralHere('convert', `${image}.damaged`, `${image}.copy`);

    expect(status).toBe(1);
    expect(stderr).toMatch(/^corral: Error while reading '.*': .*compressed cluster at file offset \d+ cannot be.*\n$/);
    expect(readFileSync(`${image}.copy`, 'utf8')).toBe('old');
    expect(readdirSync(dirname(image)).sort()).toEqual(['image.qcow2', 'image.qcow2.copy', 'image.qcow2.damaged']);
  });

  test('when the target is an image that somebody uses', async () => {
    const image = writtenImage();
    const target = newImage();
    const before = readFileSync(target);
    const { NodeFile } = await import('../../host/node/index.js');
    const user = await NodeFile.open(target);

    const { status, stderr } = corral(['convert', '-O', 'qcow2', image, target]);
    await user.close();

    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^corral: .*: error while converting qcow2: Failed to get "write" lock\nIs another process using the image \[.*\]\?\n$/,
    );
    expectSameBytes(readFileSync(target), before);
  });
});

describe('an interrupted corral convert', () => {
  /** Starts a conversion that takes a while, and waits until its file is there. */
  async function start(format = 'qcow2'): Promise<{ folder: string; child: ChildProcess; complaints: () => string }> {
    const folder = temporaryFolder();
    const source = join(folder, 'source.raw');
    writeFileSync(source, '');
    truncateSync(source, 1024 * MIB);
    const descriptor = openSync(source, 'r+');
    // At this rate it takes minutes.
    for (let offset = 0; offset < 1024 * MIB; offset += 16 * MIB) writeSync(descriptor, 'data', offset);
    closeSync(descriptor);
    writeFileSync(join(folder, 'target.qcow2'), 'old');
    const args = [MAIN, 'convert', '-f', 'raw', '-O', format, '-r', '1M', source, join(folder, 'target.qcow2')];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr?.on('data', (data: Buffer) => {
      text += data.toString();
    });
    while (readdirSync(folder).length < 3 && child.exitCode === null) await wait(10);
    return { folder, child, complaints: () => text };
  }

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('by %s leaves the old target and nothing else', async (signal, status) => {
    const { folder, child, complaints } = await start();

    child.kill(signal);
    child.kill(signal);
    const [code] = await once(child, 'close');

    expect(code).toBe(status);
    expect(complaints()).toMatch(/^corral: Interrupted: '.*target\.qcow2' was not made\n$/);
    expect(readdirSync(folder).sort()).toEqual(['source.raw', 'target.qcow2']);
    expect(readFileSync(join(folder, 'target.qcow2'), 'utf8')).toBe('old');
  });

  test.each(['qcow2', 'raw'])('to %s by SIGKILL leaves the old target, too', async (format) => {
    const { folder, child } = await start(format);

    child.kill('SIGKILL');
    await once(child, 'close');

    expect(readFileSync(join(folder, 'target.qcow2'), 'utf8')).toBe('old');
  });
});

/** Overwrites everything behind the tables that qemu-img makes first: the L2 table follows the four clusters of those. */
function damageCompressedClusters(path: string): void {
  const map = JSON.parse(mustQemuImg('map', '--output=json', path)) as { compressed: boolean }[];
  expect(map.some(({ compressed }) => compressed)).toBe(true);
  const firstDataByte = 5 * 65536;
  const length = statSync(path).size - firstDataByte;
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, Buffer.alloc(length, 0xff), 0, length, firstDataByte);
  closeSync(descriptor);
}
