import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { mustQemuImg, qemuIo, runHere } from './run-corral.js';
import { type Allowance, expectSame, expectSameDisk, settingOf } from './side-by-side.js';

/** A chain of three, images to put in the place of its layers, and one with a data file. */
const files = settingOf((folder) => {
  const at = (name: string): string => join(folder, name);
  const create = (...args: string[]): string => mustQemuImg('create', '-q', '-f', 'qcow2', ...args);
  create(at('base.qcow2'), '4M');
  qemuIo(at('base.qcow2'), 'write -P 1 0 256k');
  create('-u', '-b', 'base.qcow2', '-F', 'qcow2', at('mid.qcow2'), '4M');
  qemuIo(at('mid.qcow2'), 'write -P 2 64k 64k');
  create('-u', '-b', 'mid.qcow2', '-F', 'qcow2', at('top.qcow2'), '4M');
  qemuIo(at('top.qcow2'), 'write -P 3 1M 64k');
  create(at('alt.qcow2'), '4M');
  qemuIo(at('alt.qcow2'), 'write -P 9 0 128k');
  create('-o', 'compat=0.10', at('old.qcow2'), '4M');
  create('-u', '-b', 'gone.qcow2', '-F', 'qcow2', at('orphan.qcow2'), '4M');
  writeFileSync(at('disk.raw'), Buffer.alloc(1 << 20, 7));
  create('-o', `data_file=${at('data.raw')}`, at('split.qcow2'), '1M');
  qemuIo(at('split.qcow2'), 'write -P 4 0 64k', 'write -P 5 512k 64k');
  copyFileSync(at('data.raw'), at('other.raw'));
  truncateSync(at('other.raw'), 65536);
  truncateSync(at('other.raw'), 1 << 20);
  writeFileSync(at('text'), 'no image');
});

const TOP = 'driver=qcow2,file.filename=top.qcow2';
const OLD = 'driver=qcow2,file.filename=old.qcow2';
const SPLIT = 'driver=qcow2,file.filename=split.qcow2';

describe('options of nodes mean what they mean to qemu-img', () => {
  test.each<[line: string, allowance?: Allowance]>([
    [`map --image-opts ${TOP},backing.driver=qcow2,backing.file.filename=alt.qcow2`],
    [`map --image-opts ${TOP},backing.file.filename=alt.qcow2`],
    [`map --image-opts ${TOP},backing.backing.file.filename=alt.qcow2`],
    [`map --output=json --image-opts ${TOP},backing.driver=raw,backing.file.filename=disk.raw`],
    ['map json:{"driver":"qcow2","file.filename":"top.qcow2","backing":null}'],
    ['map --output=json json:{"driver":"qcow2","file.filename":"orphan.qcow2","backing":null}'],
    [
      'map json:{"driver":"qcow2","file.filename":"top.qcow2","backing":{"driver":"qcow2","file":{"driver":"file","filename":"mid.qcow2"},"backing":null}}',
    ],
    [`map --image-opts ${TOP},backing.driver=qcow2,backing.file.filename=gone`],
    [`map --image-opts ${TOP},backing.foo=1`],
    [`map --image-opts ${TOP},backing.file.foo=1`],
    [`map --image-opts ${TOP},backing.file.filename=disk.raw`],
    [`map --image-opts ${TOP},backing=node`],
    ['map --image-opts driver=raw,file.filename=disk.raw,backing.file.filename=alt.qcow2'],
    [`map --image-opts ${SPLIT},data-file.driver=file,data-file.filename=gone`],
    [`map --image-opts ${SPLIT},data-file.foo=1`],
    [`map --image-opts ${SPLIT},data-file=node`],
    [`map --image-opts ${TOP},data-file.filename=other.raw`],
    [`info --image-opts ${TOP},backing.driver=qcow2,backing.file.filename=alt.qcow2`, { diskSize: true }],
    [`info --image-opts ${TOP},lazy-refcounts=x`],
    [`info --image-opts ${OLD},lazy-refcounts=on`],
    [`info --image-opts ${OLD},discard-no-unref=on`],
    [`info --image-opts ${TOP},overlap-check=foo`],
    [`info --image-opts ${TOP},overlap-check=none,overlap-check.template=all`],
    [`info --image-opts ${TOP},l2-cache-entry-size=1000`],
    [`info --image-opts ${TOP},l2-cache-entry-size=1M`],
    [`info --image-opts ${TOP},l2-cache-size=1x`],
    [`info --image-opts ${TOP},cache-clean-interval=x`],
    [`info --image-opts ${TOP},discard=foo`],
    [`info --image-opts ${TOP},detect-zeroes=foo`],
    [`info --image-opts ${TOP},detect-zeroes=unmap`],
    [`info --image-opts ${TOP},file.locking=foo`],
    [`info --image-opts ${TOP},read-only=x`],
    [`info --image-opts ${TOP},cache.direct=x`],
    ['info --image-opts driver=raw,file.filename=disk.raw,offset=4096,size=8k'],
    ['info --output=json --image-opts driver=raw,file.filename=disk.raw,offset=4096'],
    ['info json:{"driver":"raw","size":512,"offset":4096,"file.filename":"disk.raw"}'],
    ['info --image-opts driver=raw,file.filename=disk.raw,offset=2M'],
    ['info --image-opts driver=raw,file.filename=disk.raw,offset=512,size=1M'],
    ['map --image-opts driver=raw,file.filename=disk.raw,offset=2M'],
    ['map --image-opts driver=raw,file.filename=disk.raw,size=1000'],
    ['resize --image-opts driver=raw,file.filename=disk.raw,offset=64k,size=64k 2M'],
    ['resize --image-opts driver=raw,file.filename=disk.raw,offset=64k 2M'],
    ['info -f raw json:{"driver":"qcow2","file.filename":"top.qcow2"}', { diskSize: true }],
    ['info --image-opts filename=top.qcow2'],
    ['info --image-opts top.qcow2'],
    ['info json:{}'],
    ['resize --image-opts driver=qcow2,file.filename=base.qcow2,read-only=on 5M'],
    ['resize --image-opts driver=qcow2,file.filename=base.qcow2,force-share=on 5M'],
    ['check --image-opts driver=qcow2,file.filename=base.qcow2'],
    [`measure -O qcow2 --image-opts ${TOP},backing.driver=qcow2,backing.file.filename=alt.qcow2`],
    [`compare --image-opts ${TOP},backing.file.filename=alt.qcow2 driver=qcow2,file.filename=alt.qcow2`],
    ['bitmap --add --image-opts driver=qcow2,file.filename=base.qcow2 b'],
    ['bitmap --add orphan.qcow2 b'],
    ['bitmap --add -f foo base.qcow2 b'],
    ['bitmap --object foo,id=a --add base.qcow2 b'],
    ['amend --image-opts -o lazy_refcounts=on driver=qcow2,file.filename=base.qcow2'],
    ['amend -p -o lazy_refcounts=on base.qcow2'],
    ['amend --force -o lazy_refcounts=on base.qcow2'],
    ['amend -t foo -o lazy_refcounts=on base.qcow2'],
    ['amend -f foo -o lazy_refcounts=on base.qcow2'],
    ['amend -o lazy_refcounts=on disk.raw'],
  ])('%s', async (line, allowance) => {
    await expectSame(files, line.split(' '), allowance);
  });

  test.each([
    `convert -O qcow2 --image-opts ${TOP},backing.driver=qcow2,backing.file.filename=alt.qcow2 new`,
    'convert -O qcow2 json:{"driver":"qcow2","file.filename":"top.qcow2","backing":null} new',
    `convert -O qcow2 --image-opts ${SPLIT},data-file.filename=other.raw new`,
    `convert -O qcow2 --image-opts ${TOP},cache-size=1M,overlap-check=all,lazy-refcounts=on new`,
  ])('%s', async (line) => {
    const { ours, theirs } = await expectSame(files, line.split(' '));

    expectSameDisk(join(ours, 'new'), join(theirs, 'new'));
  });

  test('another data file is written, and the one that the image names stays as it is', async () => {
    const line = `bench -w -c 1 -s 64k --pattern=8 --image-opts ${SPLIT},data-file.filename=other.raw`;

    const { ours, theirs } = await expectSame(files, line.split(' '), { seconds: true });

    for (const name of ['data.raw', 'other.raw']) {
      expect(readFileSync(join(ours, name)).equals(readFileSync(join(theirs, name))), name).toBe(true);
    }
    expect(readFileSync(join(ours, 'other.raw'))[0]).toBe(8);
  });

  test('lazy refcounts are left behind by a writer that was killed only when they are asked for', async () => {
    const { openDisk } = await import('../../host/cli/disk.js');
    const dirty = await Promise.all(
      ['on', 'off'].map(async (value) => {
        const path = join(files(value), 'base.qcow2');
        const text = `driver=qcow2,file.filename=${path},file.locking=off,lazy-refcounts=${value}`;
        const disk = await openDisk(text, { imageOpts: true, write: true });
        for (let cluster = 16; cluster < 20; cluster++) {
          await disk.write(cluster * 65536, new Uint8Array(65536).fill(1));
          await disk.flush();
        }
        return JSON.parse(mustQemuImg('info', '-U', '--output=json', path))['dirty-flag'];
      }),
    );

    expect(dirty).toEqual([true, false]);
  });

  test('what the image names stays closed with --no-backing, a data file too, but not what the user names', async () => {
    const folder = files('a');
    const at = (name: string): string => join(folder, name);

    const named = await runHere('corral', ['map', '--no-backing', at('split.qcow2')]);
    const chosen = `driver=qcow2,file.filename=${at('split.qcow2')},data-file.filename=${at('other.raw')}`;
    const given = await runHere('corral', ['map', '--no-backing', '--image-opts', chosen]);

    expect(named.stderr).toMatch(/has a data file, '.*data.raw', which --no-backing keeps closed/);
    expect(given).toMatchObject({ status: 0, stderr: '' });
  });
});
