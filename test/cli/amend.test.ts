/** `corral amend` says and does what `qemu-img amend` does. */

import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { madeOnce } from '../made-once.js';
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
  // Small clusters: QEMU takes half a minute over what one block of a single bit counts with larger ones.
  ['cluster_size=4k,refcount_bits=1', 'refcount_bits=64'],
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
  ['compat=1.1', 'compression_type=zstd'],
  ['compat=1.1', 'encrypt.format=luks'],
  ['compat=1.1', 'encrypt.new-secret=x'],
  ['compat=1.1', 'keep_data_file=on'],
  ['compat=1.1', 'compat=zz,colour=red'],
  ['compat=1.1', 'refcount_bits=0x10'],
  ['compat=1.1', 'refcount_bits=1k'],
  ['compat=1.1', 'size=20M,refcount_bits=128'],
  ['compat=1.1', 'size=foo'],
  ['compat=1.1', 'size=20000001'],
  ['compat=1.1', 'size=20M,compat=0.10'],
  ['compat=1.1', 'size=5M,compat=0.10'],
  ['compat=1.1', 'data_file_raw=off'],
  ['compat=1.1', 'data_file=other'],
  ['compat=1.1', 'data_file='],
  ['compat=1.1', 'backing_fmt=raw'],
  ['compat=1.1', 'backing_file='],
  ['compression_type=zstd', 'compat=0.10'],
  ['extended_l2=on', 'compat=0.10'],
];

/** Over a backing file `base` of the format qcow2. */
const BACKED = [
  'backing_file=base,backing_fmt=qcow2',
  'backing_file=base',
  'backing_fmt=qcow2',
  'backing_file=other,backing_fmt=qcow2',
  'backing_file=base,backing_fmt=raw',
  'backing_file=',
  'backing_file=base,backing_fmt=qcow2,lazy_refcounts=on',
  'compat=0.10',
];

/** Of an image with snapshots, after commands of qemu-img and qemu-io. */
const SNAPSHOTS: [made: string, commands: string[], changes: string][] = [
  ['compat=1.1', ['snapshot'], 'compat=0.10'],
  ['compat=1.1', ['write -z -u 0 192k', 'snapshot', 'write -P 3 64k 64k'], 'compat=0.10'],
  ['compat=1.1', ['snapshot', 'write -z -u 0 192k'], 'compat=0.10,lazy_refcounts=off'],
  ['compat=1.1', ['snapshot', 'longer'], 'compat=0.10'],
  ['compat=1.1', ['snapshot'], 'size=20M'],
  ['compat=0.10', ['snapshot'], 'size=20M'],
  ['compat=0.10', ['snapshot'], 'compat=1.1'],
  ['compat=0.10', ['snapshot', 'write -P 1 2M 1M', 'snapshot'], 'compat=1.1,size=20M,refcount_bits=8'],
  ['compression_type=zstd', ['snapshot', 'write -c -P 3 4M 64k'], 'compat=0.10'],
];

/** Of an image with an external data file. */
const DATA_FILES: [made: string, changes: string][] = [
  ['data_file_raw=off', 'compat=0.10'],
  ['data_file_raw=off', 'data_file_raw=on'],
  ['data_file_raw=on', 'data_file_raw=on'],
  ['data_file_raw=on', 'data_file_raw=off'],
  ['data_file_raw=off', 'data_file=another-name'],
  ['data_file_raw=on', 'data_file=another-name,data_file_raw=off'],
  ['data_file_raw=off', 'data_file='],
];

interface Info {
  'virtual-size': number;
  'format-specific': unknown;
}

function factsOf(path: string): unknown[] {
  const info = JSON.parse(mustQemuImg('info', '--output=json', path)) as Info;
  return [info['virtual-size'], info['format-specific']];
}

/** Amends copies of `image` by both, which have to say and to do the same; with the paths of the copies. */
async function amendByBoth(image: string, changes: string, isWhole = true): Promise<[ours: string, theirs: string]> {
  const [ours, theirs] = [`${image}.ours`, `${image}.theirs`];
  copyFileSync(image, ours);
  copyFileSync(image, theirs);

  const outcome = await corralHere('amend', '-o', changes, ours);

  const expected = qemuImg(['amend', '-o', changes, theirs]);
  const firstLine = (text: string) => text.replace(/^(corral|qemu-img): /, '').split('\n')[0] as string;
  expect(firstLine(outcome.stderr)).toContain(firstLine(expected.stderr));
  expect(outcome.status).toBe(expected.status);
  expect(outcome.stdout).toBe(expected.stdout);
  expect(factsOf(ours)).toEqual(factsOf(theirs));
  if (isWhole) {
    expect(qemuImg(['check', ours]).status).toBe(0);
    expect(qemuImg(['compare', ours, theirs]).status).toBe(0);
  }
  return [ours, theirs];
}

describe('corral amend does what qemu-img amend does', () => {
  test.each(CALLS)('an image with %s, -o %s', async (made, changes) => {
    const image = madeOnce(made, (path) => {
      mustQemuImg('create', '-q', '-f', 'qcow2', '-o', made, path, '10M');
      qemuIo(path, 'write -P 7 0 3M', 'write -z 1M 64k');
    });

    await amendByBoth(image, changes);
  });

  test.each(BACKED)('an image over a backing file, -o %s', async (changes) => {
    const folder = temporaryFolder();
    const image = join(folder, 'image');
    mustQemuImg('create', '-q', '-f', 'qcow2', join(folder, 'base'), '10M');
    qemuIo(join(folder, 'base'), 'write -P 4 0 3M');
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', image);
    qemuIo(image, 'write -P 7 1M 1M', 'write -z -u 2M 192k', 'write -z 1M 64k', 'write -z -u 9M 1M');

    await amendByBoth(image, changes);
  });

  test.each(SNAPSHOTS)('an image with %s after %j, -o %s', async (made, commands, changes) => {
    const image = join(temporaryFolder(), 'image');
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', made, image, '10M');
    qemuIo(image, 'write -P 7 0 3M');
    for (const command of commands) {
      if (command === 'snapshot') mustQemuImg('snapshot', '-c', 'one', image);
      else if (command === 'longer') mustQemuImg('resize', '-q', image, '20M');
      else qemuIo(image, command);
    }

    const [ours] = await amendByBoth(image, changes);

    for (const path of [image, ours]) {
      mustQemuImg('convert', '-l', 'snapshot.name=one', '-O', 'raw', path, `${path}.one`);
    }
    // QEMU shows as much of a snapshot as the disk is long now.
    const [before, after] = [image, ours].map((path) => readFileSync(`${path}.one`).subarray(0, 10 << 20));
    expect(after?.equals(before as Buffer)).toBe(true);
  });

  test.each(DATA_FILES)('an image with a data file and %s, -o %s', async (made, changes) => {
    const folder = temporaryFolder();
    const [image, data] = [join(folder, 'image'), join(folder, 'data')];
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${data},${made}`, image, '1M');
    qemuIo(image, 'write -P 7 0 512k');

    const [ours] = await amendByBoth(image, changes, false);

    // Named here, whatever the image says.
    const options = `driver=qcow2,file.filename=${ours},data-file.driver=file,data-file.filename=${data}`;
    expect(qemuImg(['check', '--image-opts', options]).status).toBe(0);
  });
});

test('nothing changes when one of the changes is impossible, not even what QEMU changes first', async () => {
  const image = join(temporaryFolder(), 'image');
  mustQemuImg('create', '-q', '-f', 'qcow2', image, '10M');
  mustQemuImg('snapshot', '-c', 'one', image);
  const before = readFileSync(image);

  const { status, stderr } = await corralHere('amend', '-o', 'compat=0.10,size=20M', image);

  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: 'corral: Internal snapshots prevent downgrade of image\n',
  });
  expect(readFileSync(image).equals(before)).toBe(true);
});

test('something has to change', async () => {
  const { status, stderr } = await corralHere('amend', 'x');

  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: "corral: Must specify options (-o)\nTry 'corral amend --help' for more info\n",
  });
});
