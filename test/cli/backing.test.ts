/** Overlays on the command line: made, described, mapped and copied as by qemu-img. */

import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, mustQemuImg, qemuImg, qemuIo } from './run-corral.js';

/** A disk of 3 MiB over one of 2 MiB over one of 1 MiB, each partly written. */
function makeChain(): { folder: string; top: string } {
  const folder = temporaryFolder();
  const [base, middle, top] = ['base', 'middle', 'top'].map((name) => join(folder, `${name}.qcow2`)) as [
    string,
    string,
    string,
  ];
  mustQemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=off', base, '1M');
  qemuIo(base, 'write -P 1 0 320k', 'write -z 512k 64k');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', middle, '2M');
  qemuIo(middle, 'write -P 2 64k 64k', 'write -P 5 1M 128k');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', middle, '-F', 'qcow2', top, '3M');
  qemuIo(top, 'write -z 128k 64k', 'write -P 3 2500k 64k');
  return { folder, top };
}

describe('an overlay', () => {
  test('is mapped through all layers, as by qemu-img', async () => {
    const { top } = makeChain();

    const human = await corralHere('map', top);
    const json = await corralHere('map', '--output=json', top);

    expect(human).toEqual({ status: 0, stdout: mustQemuImg('map', top), stderr: '' });
    expect(json).toEqual({ status: 0, stdout: mustQemuImg('map', '--output=json', top), stderr: '' });
  });

  test.each(['human', 'json'])('is described with what lies behind it, as by qemu-img (%s)', async (output) => {
    const { top } = makeChain();

    const { status, stdout } = await corralHere('info', '--backing-chain', `--output=${output}`, top);

    expect(status).toBe(0);
    expect(stdout).toBe(mustQemuImg('info', '--backing-chain', `--output=${output}`, top));
  });

  test('is copied with what lies behind it', async () => {
    const { folder, top } = makeChain();
    const [ours, theirs] = [join(folder, 'ours.raw'), join(folder, 'theirs.raw')];

    const { status, stderr } = await corralHere('convert', '-O', 'raw', top, ours);

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    mustQemuImg('convert', '-f', 'qcow2', '-O', 'raw', top, theirs);
    expect(Buffer.compare(readFileSync(ours), readFileSync(theirs))).toBe(0);
  });

  test.each([
    ['map'],
    ['convert', 'x'],
    ['compare', 'x'],
    ['measure'],
    ['bench'],
    ['checksum'],
    ['resize', '+1M'],
    ['snapshot', '-c', 'one'],
  ])('is refused by %s --no-backing', async (verb, ...others) => {
    const { folder, top } = makeChain();
    const operands = others.map((word) => (word === 'x' ? join(folder, 'x') : word));

    const { status, stderr } = await corralHere(verb, '--no-backing', top, ...operands);

    expect(status).toBeGreaterThan(0);
    expect(stderr).toMatch(/backing file, '.*middle\.qcow2', which --no-backing keeps closed/);
  });

  test('in a loop is described as such', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    mustQemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', 'image.qcow2', '-F', 'qcow2', path, '1M');

    const { status, stderr } = await corralHere('info', '--backing-chain', path);

    expect(status).toBe(1);
    expect(stderr).toBe(`corral: Backing file '${path}' creates an infinite loop.\n`);
  });
});

describe('create -b', () => {
  test.each(['raw', 'qcow2'])('over a %s file has its size and says what qemu-img says', async (format) => {
    const folder = temporaryFolder();
    mustQemuImg('create', '-q', '-f', format, join(folder, 'base'), '3M');
    const path = join(folder, 'overlay');
    const args = ['create', '-f', 'qcow2', '-b', 'base', '-F', format, path];

    const ours = await corralHere(...args);
    const information = mustQemuImg('info', '--output=json', path);
    const theirs = qemuImg(args);

    expect(ours).toEqual({ status: 0, stdout: theirs.stdout, stderr: '' });
    expect(JSON.parse(information)).toMatchObject({
      'virtual-size': 3 * 1024 * 1024,
      'backing-filename': 'base',
      'backing-filename-format': format,
    });
  });

  test('needs the format of the backing file', async () => {
    const folder = temporaryFolder();
    mustQemuImg('create', '-q', '-f', 'qcow2', join(folder, 'base'), '3M');

    const { status, stderr } = await corralHere('create', '-b', 'base', join(folder, 'overlay'));

    expect(status).toBe(1);
    expect(stderr).toMatch(/Backing file specified without backing format\nDetected format of qcow2\.\n$/);
  });

  test('-u does not look, and needs a size', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'overlay');
    const args = ['create', '-u', '-b', 'nowhere', '-F', 'raw', path];

    expect((await corralHere(...args)).stderr).toMatch(/needs a size/);
    expect((await corralHere(...args, '1M')).status).toBe(0);
  });

  test('what is written to the overlay stays out of the backing file', async () => {
    const folder = temporaryFolder();
    const base = join(folder, 'base');
    writeFileSync(base, new Uint8Array(1 << 20).fill(4));
    const path = join(folder, 'overlay');
    await corralHere('create', '-q', '-b', 'base', '-F', 'raw', path);
    const source = join(folder, 'source');
    writeFileSync(source, new Uint8Array(1 << 20).fill(6));

    const { status } = await corralHere('convert', '-n', '-f', 'raw', '-O', 'qcow2', source, path);

    expect(status).toBe(0);
    expect(readFileSync(base).every((byte) => byte === 4)).toBe(true);
    expect(mustQemuImg('compare', '-f', 'qcow2', '-F', 'raw', path, source)).toMatch(/identical/);
  });
});

describe('corral commit', () => {
  test('empties an image with a snapshot and bitmaps, which stay, as by qemu-img', async () => {
    const { folder, top } = makeChain();
    const middle = join(folder, 'middle.qcow2');
    mustQemuImg('snapshot', '-c', 'before', top);
    mustQemuImg('bitmap', '--add', top, 'enabled');
    mustQemuImg('bitmap', '--add', '--disable', top, 'disabled');
    qemuIo(top, 'write -P 8 256k 300k', 'write -P 7 2M 64k');
    const before = join(folder, 'before.raw');
    mustQemuImg('convert', '-O', 'raw', top, before);

    const { status, stderr } = await corralHere('commit', top);

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    mustQemuImg('compare', '-f', 'raw', before, top);
    mustQemuImg('compare', '-f', 'raw', before, middle);
    for (const path of [top, middle]) mustQemuImg('check', path);
    const facts = JSON.parse(mustQemuImg('info', '--output=json', top));
    expect(facts.snapshots.map(({ name }: { name: string }) => name)).toEqual(['before']);
    const { bitmaps } = facts['format-specific'].data;
    expect(bitmaps.map(({ name, flags }: { name: string; flags: string[] }) => [name, flags])).toEqual([
      ['enabled', ['auto']],
      ['disabled', []],
    ]);
    const map: { depth: number; data: boolean }[] = JSON.parse(mustQemuImg('map', '--output=json', top));
    expect(map.some(({ depth, data }) => depth === 0 && data)).toBe(false);
  });

  test('looks for the base from the folder of the image, as qemu-img does', async () => {
    const { folder, top } = makeChain();
    const elsewhere = join(basename(folder), 'middle.qcow2');

    const missing = await corralHere('commit', '-b', elsewhere, top);
    const beside = await corralHere('commit', '-b', 'middle.qcow2', top);

    expect(missing).toMatchObject({
      status: 1,
      stderr: `corral: Did not find '${elsewhere}' in the backing chain of '${top}'\n`,
    });
    expect(beside.status).toBe(0);
  });

  test('writes no faster than it is told to', async () => {
    const { top } = makeChain();
    const start = performance.now();

    const { status } = await corralHere('commit', '-r', '128k', top);

    expect(status).toBe(0);
    expect(performance.now() - start).toBeGreaterThan(450);
  });
});
