/** `corral amend` says and does what `qemu-img amend` does. */

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, mustQemuImg, qemuImg, qemuIo } from './run-corral.js';

/** Options of the image, and of the change. */
const CALLS: [made: string, changes: string][] = [
  ['compat=1.1', 'compat=0.10'],
  ['compat=1.1', 'compat=v2'],
  ['compat=0.10', 'compat=1.1'],
  ['compat=0.10', 'compat=1.1,lazy_refcounts=on,refcount_bits=4'],
  ['compat=1.1', 'lazy_refcounts=on'],
  ['lazy_refcounts=on', 'lazy_refcounts=off'],
  ['refcount_bits=1', 'refcount_bits=64'],
  ['refcount_bits=8', 'compat=0.10'],
  ['refcount_bits=8', 'compat=0.10,refcount_bits=16'],
  ['compat=0.10', 'refcount_bits=64'],
  ['compat=0.10', 'lazy_refcounts=on'],
  ['compat=1.1', 'refcount_bits=3'],
  ['compat=1.1', 'size=20M'],
  ['compat=1.1', 'size=5M'],
  ['compat=1.1', 'data_file_raw=on'],
  ['compat=1.1', 'lazy_refcounts=maybe'],
  ['compat=1.1', 'colour=red'],
  ['compat=1.1', 'backing_file=x'],
  ['compat=1.1', 'cluster_size=4k'],
];

interface Info {
  'virtual-size': number;
  'format-specific': unknown;
}

function factsOf(path: string): unknown[] {
  const info = JSON.parse(mustQemuImg('info', '--output=json', path)) as Info;
  return [info['virtual-size'], info['format-specific']];
}

describe('corral amend does what qemu-img amend does', () => {
  test.each(CALLS)('an image with %s, -o %s', async (made, changes) => {
    const folder = temporaryFolder();
    const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', made, ours, '10M');
    qemuIo(ours, 'write -P 7 0 3M', 'write -z 1M 64k');
    copyFileSync(ours, theirs);

    const outcome = await corralHere('amend', '-o', changes, ours);

    const expected = qemuImg(['amend', '-o', changes, theirs]);
    expect(outcome.status).toBe(expected.status);
    expect(outcome.stdout).toBe(expected.stdout);
    const firstLine = (text: string) => text.replace(/^(corral|qemu-img): /, '').split('\n')[0] as string;
    expect(firstLine(outcome.stderr)).toContain(firstLine(expected.stderr));
    expect(factsOf(ours)).toEqual(factsOf(theirs));
    expect(qemuImg(['check', ours]).status).toBe(0);
    expect(qemuImg(['compare', ours, theirs]).status).toBe(0);
  });
});

test('something has to change', async () => {
  const { status, stderr } = await corralHere('amend', 'x');

  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: "corral: Must specify options (-o)\nTry 'corral amend --help' for more info\n",
  });
});
