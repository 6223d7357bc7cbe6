import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { qemuBitmaps, qemuRanges } from '../interop/bitmap-fixture.js';
import { mustQemuImg, qemuIo } from './run-corral.js';
import { type Allowance, expectSame, expectSameDisk, settingOf } from './side-by-side.js';

/** Bits of the flags in an entry of the bitmap directory, and where they are. */
const IN_USE = 1;
const FLAGS_OFFSET = 12;

const files = settingOf((folder) => {
  const at = (name: string): string => join(folder, name);
  for (const name of ['marked.qcow2', 'lost.qcow2']) {
    mustQemuImg('create', '-q', '-f', 'qcow2', at(name), '4M');
    mustQemuImg('bitmap', '--add', at(name), 'first');
    mustQemuImg('bitmap', '--add', '-g', '4k', at(name), 'second');
    qemuIo(at(name), 'write -P 1 64k 100k', 'write -P 2 3M 4k');
    mustQemuImg('bitmap', '--disable', at(name), 'second');
    qemuIo(at(name), 'write -P 3 0 4k');
    mustQemuImg('snapshot', '-c', 'one', at(name));
  }
  markInUse(at('lost.qcow2'), 'second');
  mustQemuImg('create', '-q', '-f', 'qcow2', at('same.qcow2'), '4M');
  mustQemuImg('bitmap', '--add', at('same.qcow2'), 'second');
  mustQemuImg('create', '-q', '-f', 'qcow2', at('empty.qcow2'), '4M');
  mustQemuImg('create', '-q', '-f', 'qcow2', at('large.qcow2'), '8M');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', at('old.qcow2'), '4M');
  writeFileSync(at('disk.raw'), Buffer.alloc(1 << 20, 7));
});

/** As if whoever changed the bitmap had never come to store it. */
function markInUse(path: string, name: string): void {
  const bytes = readFileSync(path);
  const entry = bytes.lastIndexOf(Buffer.from(name)) - 24;
  const flags = entry + FLAGS_OFFSET;
  bytes.writeUInt32BE(bytes.readUInt32BE(flags) | IN_USE, flags);
  writeFileSync(path, bytes);
}

describe('convert --bitmaps', () => {
  test.each<[line: string, target: string]>([
    ['convert --bitmaps -O qcow2 marked.qcow2 new', 'new'],
    ['convert --bitmaps -c -O qcow2 -o cluster_size=4k marked.qcow2 new', 'new'],
    ['convert --bitmaps -l one -O qcow2 marked.qcow2 new', 'new'],
    ['convert --bitmaps -n -O qcow2 marked.qcow2 empty.qcow2', 'empty.qcow2'],
    ['convert --bitmaps --skip-broken-bitmaps -O qcow2 marked.qcow2 new', 'new'],
    ['convert --bitmaps --skip-broken-bitmaps -O qcow2 lost.qcow2 new', 'new'],
    ['convert --bitmaps -O qcow2 empty.qcow2 new', 'new'],
  ])('takes the bitmaps along as qemu-img does: %s', async (line, target) => {
    const { ours, theirs } = await expectSame(files, line.split(' '));

    const [mine, expected] = [join(ours, target), join(theirs, target)];
    expectSameDisk(mine, expected);
    expect(qemuBitmaps(mine)).toEqual(qemuBitmaps(expected));
    for (const { name } of qemuBitmaps(mine))
      expect(await qemuRanges(mine, name)).toEqual(await qemuRanges(expected, name));
  });

  test.each<[line: string, allowance?: Allowance]>([
    ['convert --skip-broken-bitmaps -O qcow2 marked.qcow2 new'],
    ['convert --bitmaps -O qcow2 marked.qcow2 marked.qcow2 new'],
    ['convert --bitmaps -O qcow2 lost.qcow2 new'],
    ['convert --bitmaps -O qcow2 disk.raw new'],
    ['convert --bitmaps -O qcow2 old.qcow2 new'],
    ['convert --bitmaps -l gone -O qcow2 marked.qcow2 new'],
    ['convert --bitmaps marked.qcow2 new', { remains: true }],
    ['convert --bitmaps -O qcow2 -o compat=0.10 marked.qcow2 new', { remains: true }],
    ['convert --bitmaps -n -O raw marked.qcow2 disk.raw'],
    ['convert --bitmaps -n -O qcow2 marked.qcow2 same.qcow2'],
    ['convert --bitmaps -n -O qcow2 marked.qcow2 large.qcow2'],
  ])('refuses what qemu-img refuses, in the same words: %s', async (line, allowance) => {
    await expectSame(files, line.split(' '), allowance);
  });

  test('changes nothing of an existing image that cannot take the bitmaps', async () => {
    const { ours } = await expectSame(files, 'convert --bitmaps -n -O qcow2 marked.qcow2 same.qcow2'.split(' '));

    const map: { data: boolean }[] = JSON.parse(mustQemuImg('map', '--output=json', join(ours, 'same.qcow2')));
    expect(map.some(({ data }) => data)).toBe(false);
  });
});
