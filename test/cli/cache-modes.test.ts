/** `-t` and `-T`, and what `info --statistics` says. */

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, mustQemuImg, qemuImg, qemuIo } from './run-corral.js';

function makeImage(): string {
  const path = join(temporaryFolder(), 'x');
  mustQemuImg('create', '-q', '-f', 'qcow2', path, '10M');
  qemuIo(path, 'write -P 7 100k 3M');
  return path;
}

describe.each(['none', 'off', 'directsync', 'writeback', 'writethrough', 'unsafe'])('cache mode %s', (mode) => {
  test.each(['qcow2', 'raw'])('convert to %s copies every byte', async (format) => {
    const path = makeImage();

    const outcome = await corralHere('convert', '-t', mode, '-T', mode, '-O', format, path, `${path}.copy`);

    expect(outcome).toMatchObject({ status: 0, stderr: '' });
    expect(qemuImg(['compare', '-f', 'qcow2', '-F', format, path, `${path}.copy`])).toMatchObject({ status: 0 });
  });

  test('check and amend work as ever', async () => {
    const path = makeImage();

    expect(await corralHere('amend', '-t', mode, '-o', 'lazy_refcounts=on', path)).toMatchObject({ status: 0 });
    expect(await corralHere('check', '-T', mode, path)).toMatchObject({ status: 0 });

    expect(mustQemuImg('info', path)).toContain('lazy refcounts: true');
    expect(qemuImg(['check', path])).toMatchObject({ status: 0 });
  });
});

test.each([
  ['convert', '-t', 'fast', '-O', 'qcow2', 'x', 'y'],
  ['convert', '-T', 'fast', '-O', 'qcow2', 'x', 'y'],
  ['check', '-T', 'fast', 'x'],
  ['amend', '-t', 'fast', '-o', 'lazy_refcounts=on', 'x'],
])("%s %s: an unknown mode is refused in qemu-img's words", async (...args) => {
  const image = makeImage();
  const given = args.map((arg) => (arg === 'x' ? image : arg === 'y' ? `${image}.copy` : arg));

  const outcome = await corralHere(...given);

  const expected = qemuImg(given);
  expect(outcome.status).toBe(expected.status);
  expect(outcome.stderr.replace(/^corral: /, '')).toBe(expected.stderr.replace(/^qemu-img: /, ''));
});

test('info tells what the metadata cache would do, when it is asked', async () => {
  const path = makeImage();

  const plain = JSON.parse((await corralHere('info', '--output=json', path)).stdout);
  const json = JSON.parse((await corralHere('info', '--statistics', '--output=json', path)).stdout);
  const human = (await corralHere('info', '--statistics', path)).stdout;

  expect(plain).not.toHaveProperty('metadata-cache');
  expect(json['metadata-cache']).toMatchObject({ 'entry-size': 4096, 'size-for-whole-disk': 4096, evictions: 0 });
  expect(json['metadata-cache'].misses).toBeGreaterThan(0);
  expect(human).toMatch(/^Metadata cache:\n {4}size: \d+\n/m);
});
