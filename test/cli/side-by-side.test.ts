import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { mustQemuImg, qemuIo } from './run-corral.js';
import { type Allowance, expectSame, expectSameDisk, settingOf } from './side-by-side.js';

const MIB = 1024 * 1024;

/** A chain of three, a raw disk, and what is no image at all. */
const files = settingOf((folder) => {
  const at = (name: string): string => join(folder, name);
  const create = (...args: string[]): string => mustQemuImg('create', '-q', '-f', 'qcow2', ...args);
  create(at('base.qcow2'), '4M');
  qemuIo(at('base.qcow2'), 'write -P 1 0 256k', 'write -P 2 1M 128k');
  create('-u', '-b', 'base.qcow2', '-F', 'qcow2', at('mid.qcow2'), '4M');
  qemuIo(at('mid.qcow2'), 'write -P 3 64k 64k', 'write -z 1M 64k');
  create('-u', '-b', 'mid.qcow2', '-F', 'qcow2', at('top.qcow2'), '5M');
  qemuIo(at('top.qcow2'), 'write -P 4 2M 64k', 'write -P 5 4608k 64k', 'write -z 0 64k');
  create('-o', 'cluster_size=4k', at('other.qcow2'), '4M');
  qemuIo(at('other.qcow2'), 'write -P 1 0 256k', 'write -P 9 1M 128k');
  create('-u', '-b', 'gone.qcow2', '-F', 'qcow2', at('orphan.qcow2'), '4M');
  writeFileSync(at('disk.raw'), Buffer.alloc(MIB, 7));
  truncateSync(at('disk.raw'), 2 * MIB);
  makeSparse(at('sparse.raw'));
  create('-b', 'sparse.raw', '-F', 'raw', at('over.qcow2'), '9M');
  qemuIo(at('over.qcow2'), 'write -P 6 1M 64k');
  writeFileSync(at('text'), 'no image');
  writeFileSync(at('a:colon'), '');
  create('-u', '-b', 'base.qcow2', '-F', 'qcow2', at('strange.qcow2'), '1M');
  writeFileSync(at('strange.qcow2'), renamedFormat(readFileSync(at('strange.qcow2'))));
  writeFileSync(at('kibibytes.raw'), Buffer.alloc(1020 * 1024));
  create(at('marked.qcow2'), '4M');
  mustQemuImg('bitmap', '--add', '-g', '512', at('marked.qcow2'), 'fine');
  create(at('future.qcow2'), '1M');
  writeFileSync(
    at('future.qcow2'),
    withFeatures(readFileSync(at('future.qcow2')), [0, 63, 'third'], [1, 62, 'x'], [0, 61, 'first']),
  );
  create(at('renamed.qcow2'), '1M');
  writeFileSync(at('renamed.qcow2'), withFeatures(readFileSync(at('renamed.qcow2')), [0, 61, 'old'], [0, 61, 'new']));
  splitFeatureTable(at('renamed.qcow2'));
  create(at('kept.qcow2'), '1M');
  qemuIo(at('kept.qcow2'), 'write 0 64k');
  mustQemuImg('snapshot', '-c', 'one', at('kept.qcow2'));
  create('-o', `data_file=${at('split.raw')}`, at('split.qcow2'), '1M');
  writeFileSync(at('read-error'), '[inject-error]\nevent = "read_aio"\n');
});

/** The image says that it has the incompatible features 61 to 63, and what features are called. */
function withFeatures(
  image: Buffer,
  ...names: readonly (readonly [kind: number, bit: number, name: string])[]
): Buffer {
  image.writeUInt8(0xe0, 72);
  const table = names.map(([kind, bit, name]) =>
    Buffer.from(`\0\0${name}`.padEnd(48, '\0')).fill(kind, 0, 1).fill(bit, 1, 2),
  );
  const extension = Buffer.alloc(8);
  extension.writeUInt32BE(0x6803f857, 0);
  extension.writeUInt32BE(48 * names.length, 4);
  image.fill(0, 112, 1024);
  Buffer.concat([extension, ...table]).copy(image, 112);
  return image;
}

/** The format of its backing file is one that nobody knows. */
function renamedFormat(image: Buffer): Buffer {
  image.write('bogus', image.indexOf('qcow2'));
  return image;
}

/** Two tables of names in the place of one with two entries. */
function splitFeatureTable(path: string): void {
  const image = readFileSync(path);
  image.writeUInt32BE(48, 116);
  image.copy(image, 176, 168, 216);
  image.copy(image, 168, 112, 120);
  // The second one is cut off behind its name.
  image.writeUInt32BE(8, 172);
  writeFileSync(path, image);
}

/** Holes, data, zeros that are written, and an end within a sector. */
function makeSparse(path: string): void {
  writeFileSync(path, '');
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, Buffer.alloc(12_288, 1), 0, 12_288, 409_600);
  writeSync(descriptor, Buffer.alloc(65_536), 0, 65_536, 2 * MIB);
  writeSync(descriptor, Buffer.alloc(5000, 2), 0, 5000, 8 * MIB - 5000 - 20);
  closeSync(descriptor);
}

/** Arguments, and what may differ. */
type Case = readonly [line: string, allowance?: Allowance];

function sameFor(title: string, cases: readonly Case[]): void {
  describe(title, () => {
    test.each(cases.map(([line, allowance]) => [line, allowance] as const))('%s', async (line, allowance) => {
      await expectSame(files, words(line), allowance);
    });
  });
}

/** Words of a line; '' is an empty one. */
function words(line: string): string[] {
  return line.split(' ').map((word) => (word === "''" ? '' : word));
}

sameFor('info', [
  ['info base.qcow2'],
  ['info --output=json base.qcow2'],
  ['info --backing-chain top.qcow2'],
  ['info --backing-chain --output=json top.qcow2'],
  ['info -f raw base.qcow2'],
  ['info -f foo base.qcow2'],
  ['info -f qcow2 text'],
  ['info text'],
  ['info -f raw kibibytes.raw'],
  ['info orphan.qcow2'],
  ['info --backing-chain orphan.qcow2'],
  ['info file:base.qcow2'],
  ['info foo:base.qcow2'],
  ['info file:a:colon'],
  ['info --backing-chain strange.qcow2'],
  ['info --image-opts driver=qcow2,file.driver=file,file.filename=base.qcow2'],
  ['info --image-opts driver=qcow2,file.filename=base.qcow2,l2-cache-size=1M,cache-size=1k'],
  ['info --image-opts driver=qcow2,file.filename=base.qcow2,foo=1'],
  ['info --image-opts driver=foo,file.filename=base.qcow2'],
  ['info --image-opts driver=qcow2'],
  ['info --image-opts -f qcow2 driver=qcow2,file.filename=base.qcow2'],
  ['info json:{"driver":"qcow2","file.filename":"base.qcow2"}'],
  ['info json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}'],
  ['info json:5'],
  ["info ''"],
  ['info .'],
  ['info --object secret,id=a base.qcow2'],
  ['info --object foo,id=a base.qcow2'],
  ['info --object secret,id=a,data=x base.qcow2'],
  ["info --object {'qom-type':'secret','id':'a','data':'x'} base.qcow2"],
  ["info --object {'qom-type':'secret','id':'a' base.qcow2"],
  ['info --object secret,id=1a,data=x base.qcow2'],
  ['info --object secret,id=a,data base.qcow2'],
  ['info --object id=a base.qcow2'],
  ['info --object secret,id=a,file=gone base.qcow2'],
  ['info --object throttle-group,id=a base.qcow2'],
]);

sameFor('compare', [
  ['compare base.qcow2 base.qcow2'],
  ['compare base.qcow2 other.qcow2'],
  ['compare other.qcow2 base.qcow2'],
  ['compare top.qcow2 mid.qcow2'],
  ['compare -s top.qcow2 mid.qcow2'],
  ['compare -s base.qcow2 other.qcow2'],
  ['compare -q base.qcow2 other.qcow2'],
  ['compare -p base.qcow2 base.qcow2', { progress: true }],
  ['compare -f raw -F raw disk.raw disk.raw'],
  ['compare -f raw -F raw sparse.raw disk.raw'],
  ['compare -f raw -F qcow2 sparse.raw over.qcow2'],
  ['compare blkdebug:read-error:base.qcow2 other.qcow2'],
  ['compare -f raw file:a:colon blkdebug:read-error:base.qcow2'],
  ['compare base.qcow2 gone'],
  ['compare gone base.qcow2'],
  ['compare base.qcow2 orphan.qcow2'],
  ['compare -F foo base.qcow2 base.qcow2'],
  ['compare -T foo base.qcow2 base.qcow2'],
  ['compare base.qcow2'],
]);

const INJECTED = 'driver=qcow2,file.driver=blkdebug,file.image.filename=base.qcow2';

sameFor('names of error injectors:', [
  ['info blkdebug:read-error:base.qcow2'],
  ['info --output=json blkdebug::base.qcow2'],
  ['info -f raw blkdebug::base.qcow2'],
  ['info blkdebug:base.qcow2'],
  ['info blkdebug:gone:base.qcow2'],
  ['info blkdebug::gone'],
  ['info --image-opts driver=qcow2,file.driver=blkdebug'],
  [`info --image-opts ${INJECTED},file.bogus=1`],
  ['info --image-opts driver=qcow2,file.filename=blkdebug::base.qcow2'],
  ['map blkdebug::base.qcow2'],
  ['map --output=json -f raw blkdebug::sparse.raw'],
  ['check blkdebug:read-error:base.qcow2'],
  ['measure -O qcow2 blkdebug::base.qcow2'],
  ['compare base.qcow2 blkdebug::base.qcow2'],
  ['create -f qcow2 blkdebug::new 1M'],
  ['convert -O qcow2 base.qcow2 blkdebug::new'],
  ['dd if=base.qcow2 of=blkdebug::new'],
  [`snapshot -c new --image-opts ${INJECTED},file.inject-error.0.event=write_aio`],
]);

sameFor('features that nobody knows:', [
  ['info renamed.qcow2'],
  ['info future.qcow2'],
  ['check future.qcow2'],
  ['snapshot -l future.qcow2'],
]);

sameFor('measure', [
  ['measure -O qcow2 marked.qcow2'],
  ['measure -O qcow2 -o cluster_size=2M --output=json marked.qcow2'],
  ['measure -O qcow2 -o compat=0.10 marked.qcow2'],
  ['measure -O raw marked.qcow2'],
  ['measure -O qcow2 -f raw text'],
  ['measure'],
  ['measure --size 1G'],
  ['measure --size 1G -O qcow2'],
  ['measure --size 5G -O qcow2 -o extended_l2=on,refcount_bits=64'],
  ['measure --size 3000001 -O qcow2 -o cluster_size=512,refcount_bits=1'],
  ['measure --size 100T -O qcow2 -o cluster_size=2M'],
  ['measure --size 7E -O qcow2'],
  ['measure --size 16E -O qcow2'],
  ['measure --size 1x'],
  ['measure -O foo --size 1'],
  ['measure -O qcow2 base.qcow2'],
  ['measure -O qcow2 --output=json top.qcow2'],
  ['measure -O qcow2 -o cluster_size=4k mid.qcow2'],
  ['measure -O qcow2 -o preallocation=full base.qcow2'],
  ['measure -O qcow2 -o help --size 1'],
  ['measure -O raw -o help base.qcow2'],
  ['measure -O qcow2 -o foo=1 --size 1'],
  ['measure -O qcow2 -o preallocation=foo --size 1'],
  ['measure base.qcow2'],
  ['measure -f raw disk.raw'],
  ['measure -f raw sparse.raw'],
  ['measure -f raw -O qcow2 sparse.raw'],
  ['measure -O qcow2 -o cluster_size=4k over.qcow2'],
  ['measure -f qcow2 --size 1'],
  ['measure base.qcow2 mid.qcow2'],
  ['measure --size 1G base.qcow2'],
  ['measure -O qcow2 gone'],
  ['measure -O qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 top.qcow2'],
]);

sameFor('convert', [
  ['convert'],
  ['convert base.qcow2'],
  ['convert gone new'],
  ['convert -O foo base.qcow2 new'],
  ['convert base.qcow2 gone/new'],
  ['convert -O qcow2 base.qcow2 gone/new'],
  ['convert -O qcow2 -o foo=1 base.qcow2 new'],
  ['convert -c base.qcow2 new'],
  ['convert -m 17 base.qcow2 new'],
  ['convert -m x base.qcow2 new'],
  ['convert -S 100 base.qcow2 new'],
  ['convert -S 1x base.qcow2 new'],
  ['convert --target-is-zero base.qcow2 new'],
  ['convert --target-image-opts base.qcow2 new'],
  ['convert -n base.qcow2 gone'],
  ['convert -n -o a=b base.qcow2 disk.raw'],
  ['convert -n base.qcow2 disk.raw'],
  ['convert -O qcow2 -B base.qcow2 mid.qcow2 new'],
  ['convert -O raw -B base.qcow2 -F qcow2 mid.qcow2 new'],
  ['convert -O qcow2 -B base.qcow2 -F qcow2 mid.qcow2 mid.qcow2 new'],
  ['convert -l foo base.qcow2 new'],
  ['convert -l snapshot.foo=1 base.qcow2 new'],
  ['convert -l foo base.qcow2 base.qcow2 new'],
  ['convert base.qcow2 base.qcow2'],
  ['convert -T foo base.qcow2 new'],
  ['convert -r foo base.qcow2 new'],
  ['convert -C -c base.qcow2 new'],
  ['convert --image-opts -f qcow2 driver=qcow2,file.filename=base.qcow2 new'],
  ['convert -O qcow2 -o cluster_size=1000 base.qcow2 new'],
  ["convert -O qcow2 -o '' base.qcow2 new"],
  ['convert -O qcow2 -o compat=1.1, base.qcow2 new'],
  ['convert -O foo -o help base.qcow2 new'],
  ['convert -O qcow2 base.qcow2 file:new'],
  ['convert -O qcow2 base.qcow2 json:{}'],
  ['convert -O qcow2 base.qcow2 foo:new'],
  ['convert -O raw -o preallocation=foo base.qcow2 new'],
  ['convert -O raw -o nocow=on base.qcow2 new'],
  ['convert -O qcow2 -B base.qcow2 -F foo mid.qcow2 new'],
  ['convert --salvage -C base.qcow2 new'],
  ['convert -c -O qcow2 -o preallocation=metadata base.qcow2 new'],
  ['convert -c -O qcow2 -o preallocation=off base.qcow2 new'],
  ['convert --target-image-opts -O qcow2 base.qcow2 driver=qcow2,file.filename=other.qcow2'],
  ['convert -S -1 base.qcow2 new'],
  ['convert -O qcow2 base.qcow2 .'],
  ['convert -n --target-image-opts -O qcow2 base.qcow2 driver=raw,file.filename=disk.raw'],
]);

describe('convert makes the same disk', () => {
  test.each([
    ['convert top.qcow2 new', 'raw'],
    ['convert -O qcow2 top.qcow2 new', 'qcow2'],
    ['convert -O qcow2 -c top.qcow2 new', 'qcow2'],
    ['convert -f raw -O qcow2 disk.raw new', 'qcow2'],
    ['convert -O qcow2 disk.raw new', 'qcow2'],
    ['convert -O qcow2 -W -m 2 -S 0 top.qcow2 new', 'qcow2'],
    ['convert -O qcow2 base.qcow2 disk.raw other.qcow2 new', 'qcow2'],
    ['convert base.qcow2 disk.raw new', 'raw'],
    ['convert -f raw -O raw sparse.raw new', 'raw'],
    ['convert -f raw -O qcow2 sparse.raw new', 'qcow2'],
    ['convert -S 0 -f raw sparse.raw new', 'raw'],
    ['convert over.qcow2 new', 'raw'],
    ['convert over.qcow2 sparse.raw new', 'raw'],
    ['convert -O qcow2 -B base.qcow2 -F qcow2 mid.qcow2 new', 'qcow2'],
    ['convert -O qcow2 -B mid.qcow2 -F qcow2 top.qcow2 new', 'qcow2'],
    ['convert -O qcow2 -o backing_file=mid.qcow2,backing_fmt=qcow2,cluster_size=4k top.qcow2 new', 'qcow2'],
    ['convert -O qcow2 -r 100M --salvage base.qcow2 new', 'qcow2'],
    ['convert -n -O qcow2 base.qcow2 other.qcow2', 'qcow2', 'other.qcow2'],
    ['convert -n -O qcow2 -B base.qcow2 mid.qcow2 other.qcow2', 'qcow2', 'other.qcow2'],
    ['convert -n -O raw -f raw disk.raw disk.raw', 'raw', 'disk.raw'],
    ['convert --image-opts driver=qcow2,file.filename=base.qcow2 new', 'raw'],
    ['convert --image-opts driver=raw,file.filename=disk.raw,offset=512,size=4096 new', 'raw'],
    ['convert -n --target-image-opts base.qcow2 driver=qcow2,file.filename=other.qcow2', 'qcow2', 'other.qcow2'],
  ])('%s', async (line, format, target = 'new') => {
    const { ours, theirs } = await expectSame(files, words(line));

    expectSameDisk(join(ours, target), join(theirs, target), format);
  });
});

test.each(['-S 1M', '-S 4k -o cluster_size=512'])(
  'convert -c %s leaves out as many clusters as qemu-img does',
  async (options) => {
    const { ours, theirs } = await expectSame(files, words(`convert -c -O qcow2 ${options} top.qcow2 new`));

    expectSameDisk(join(ours, 'new'), join(theirs, 'new'));
    expect(clustersIn(join(ours, 'new'))).toBe(clustersIn(join(theirs, 'new')));
  },
);

sameFor('dd', [
  ['dd'],
  ['dd if=base.qcow2'],
  ['dd if=gone of=new'],
  ['dd if=base.qcow2 of=new bs=0'],
  ['dd if=base.qcow2 of=new bs=1x'],
  ['dd if=base.qcow2 of=new foo=1'],
  ['dd if=base.qcow2 of=new foo'],
  ['dd if=base.qcow2 of=new count=x'],
  ['dd -O foo if=base.qcow2 of=new'],
  ['dd if=base.qcow2 of=gone/new'],
  ['dd if=base.qcow2 of=new count=1k'],
  ['dd if=base.qcow2 of=new count=0x10'],
  ['dd if=base.qcow2 of=new count=-1'],
  ['dd if=base.qcow2 of=new bs=-1'],
  ['dd if=base.qcow2 of=foo:new'],
]);

describe('dd makes the same disk', () => {
  test.each([
    ['dd if=base.qcow2 of=new', 'raw'],
    ['dd -O qcow2 if=top.qcow2 of=new bs=1M', 'qcow2'],
    ['dd if=base.qcow2 of=new bs=100k count=3', 'raw'],
    ['dd if=base.qcow2 of=new bs=64k skip=2', 'raw'],
    ['dd if=base.qcow2 of=new bs=64k skip=2 count=5', 'raw'],
    ['dd if=base.qcow2 of=new skip=1000000', 'raw'],
  ])('%s', async (line, format) => {
    const { ours, theirs } = await expectSame(files, words(line));

    if (format === 'raw') expect(readFileSync(join(ours, 'new')).equals(readFileSync(join(theirs, 'new')))).toBe(true);
    else expectSameDisk(join(ours, 'new'), join(theirs, 'new'), format);
  });
});

sameFor('rebase', [
  ['rebase'],
  ['rebase top.qcow2'],
  ['rebase -b gone -F qcow2 top.qcow2'],
  ['rebase -b base.qcow2 -F foo top.qcow2'],
  ['rebase -u -b base.qcow2 top.qcow2'],
  ['rebase -b base.qcow2 -F qcow2 orphan.qcow2'],
  ['rebase -b base.qcow2 -F qcow2 gone'],
  ['rebase -f raw -b base.qcow2 -F qcow2 top.qcow2'],
  ["rebase -c -f raw -b '' disk.raw"],
  ['rebase -u -b base.qcow2 -F qcow2 split.qcow2'],
]);

describe('rebase leaves the same disk', () => {
  test.each([
    'rebase -b base.qcow2 -F qcow2 top.qcow2',
    'rebase -b other.qcow2 -F qcow2 top.qcow2',
    'rebase -b other.qcow2 -F qcow2 base.qcow2',
    'rebase -c -b other.qcow2 -F qcow2 top.qcow2',
    'rebase -b disk.raw -F raw mid.qcow2',
    "rebase -b '' top.qcow2",
    'rebase -u -b other.qcow2 -F qcow2 top.qcow2',
    'rebase -u -b other.qcow2 -F qcow2 orphan.qcow2',
    "rebase -u -b '' top.qcow2",
  ])('%s', async (line) => {
    const name = line.split(' ').at(-1) as string;

    const { ours, theirs } = await expectSame(files, words(line));

    expectSameDisk(join(ours, name), join(theirs, name));
    expect(backingOf(join(ours, name))).toEqual(backingOf(join(theirs, name)));
  });
});

function backingOf(path: string): unknown[] {
  const facts = JSON.parse(mustQemuImg('info', '--output=json', path));
  return [facts['backing-filename'], facts['backing-filename-format']];
}

sameFor('commit', [
  ['commit'],
  ['commit gone'],
  ['commit base.qcow2'],
  ['commit -f raw top.qcow2'],
  ['commit -b gone top.qcow2'],
  ['commit -b top.qcow2 top.qcow2'],
  ['commit -t foo top.qcow2'],
  ['commit orphan.qcow2'],
  ['commit -r x top.qcow2'],
  ['commit disk.raw'],
]);

describe('commit leaves the same disks', () => {
  test.each([
    'commit top.qcow2',
    'commit -q top.qcow2',
    'commit mid.qcow2',
    'commit -d top.qcow2',
    'commit -r 100M top.qcow2',
    'commit --image-opts driver=qcow2,file.filename=top.qcow2',
    'commit -b base.qcow2 top.qcow2',
    'commit -b mid.qcow2 top.qcow2',
  ])('%s', async (line) => {
    const { ours, theirs } = await expectSame(files, words(line));

    for (const name of ['base.qcow2', 'mid.qcow2', 'top.qcow2']) {
      expectSameDisk(join(ours, name), join(theirs, name));
      expect(dataOf(join(ours, name)), name).toEqual(dataOf(join(theirs, name)));
      expect(clustersIn(join(ours, name)), name).toBe(clustersIn(join(theirs, name)));
    }
  });
});

/** How many clusters of the disk have space. */
function clustersIn(path: string): number {
  return JSON.parse(mustQemuImg('check', '--output=json', path))['allocated-clusters'] ?? 0;
}

/** What holds data, and how far behind. Zeros may be there in several ways. */
function dataOf(path: string): unknown[] {
  const map: { start: number; length: number; depth: number; data: boolean }[] = JSON.parse(
    mustQemuImg('map', '--output=json', path),
  );
  return map.filter(({ data }) => data).map(({ start, length, depth }) => [start, length, depth]);
}

sameFor('bench', [
  ['bench -c 10 base.qcow2', { seconds: true }],
  ['bench -c 10 -d 2 -s 8k -S 16k -o 64k base.qcow2', { seconds: true }],
  ['bench -w -c 10 -f raw disk.raw', { seconds: true }],
  ['bench --flush-interval 10 base.qcow2'],
  ['bench -i foo base.qcow2'],
  ['bench gone'],
  ['bench -t foo base.qcow2'],
  ['bench -c x base.qcow2'],
  ['bench -c 0 base.qcow2'],
  ['bench -c 3000000000 base.qcow2'],
  ['bench -d -1 base.qcow2'],
  ['bench -s 0 base.qcow2'],
  ['bench -s 1x base.qcow2'],
  ['bench -S 3G base.qcow2'],
  ['bench -S 0 -c 1 base.qcow2', { seconds: true }],
  ['bench -o x base.qcow2'],
  ['bench -o 100M -c 1 base.qcow2'],
  ['bench -w --pattern=300 base.qcow2'],
  ['bench -w --flush-interval=2 --no-drain -c 2 base.qcow2'],
  ['bench -n -c 1 base.qcow2'],
  ['bench -t none -n -c 1 base.qcow2', { seconds: true }],
  ['bench -q -c 1 base.qcow2', { seconds: true }],
  ['bench -w -U -c 1 base.qcow2'],
]);

sameFor('create', [
  ['create'],
  ['create new'],
  ['create new 1M'],
  ['create -f qcow2 new 1.5G'],
  ['create -f qcow2 new 1x'],
  ['create -f qcow2 new 16E'],
  ['create -f qcow2 new 1E'],
  ['create -f foo new 1M'],
  ['create -f qcow2 gone/new 1M'],
  ['create gone/new 1M'],
  ['create -q -f qcow2 new 1M'],
  ['create -f qcow2 -o size=2M new'],
  ['create -f qcow2 -o size=2M new 1M'],
  ['create -f qcow2 -o foo=1 new 1M'],
  ['create -o cluster_size=4k new 1M'],
  ['create -f qcow2 -o cluster_size=1000 new 1M'],
  ['create -f qcow2 -o cluster_size=x new 1M'],
  ['create -f qcow2 -o compat=3 new 1M'],
  ['create -f qcow2 -o compat=v2,cluster_size=4k new 1M'],
  ['create -f qcow2 -o lazy_refcounts=maybe new 1M'],
  ['create -f qcow2 -o refcount_bits=3 new 1M'],
  ['create -f qcow2 -o compat=0.10,refcount_bits=8 new 1M'],
  ['create -f qcow2 -o compat=0.10,lazy_refcounts=on new 1M'],
  ['create -f qcow2 -o compat=0.10,compression_type=zstd new 1M'],
  ['create -f qcow2 -o compression_type=lz4 new 1M'],
  ['create -f qcow2 -o extended_l2=on,cluster_size=8k new 1M'],
  ['create -f qcow2 -o data_file_raw=on new 1M'],
  ['create -f qcow2 -o preallocation=foo new 1M'],
  ['create -f qcow2 -o preallocation=metadata new 1M'],
  ['create -f qcow2 -o encryption=off new 1M'],
  ['create -f qcow2 -b base.qcow2 -F qcow2 new'],
  ['create -f qcow2 -b base.qcow2 -F qcow2 new 10M'],
  ['create -f qcow2 -b disk.raw -F raw new'],
  ['create -f qcow2 -b base.qcow2 new'],
  ['create -f qcow2 -b gone -F qcow2 new'],
  ['create -f qcow2 -b gone new 1M'],
  ['create -f qcow2 -b new -F qcow2 new'],
  ['create -f qcow2 -F qcow2 new 1M'],
  ['create -f qcow2 -u -b gone -F raw new'],
  ['create -f qcow2 -u -b gone -F raw new 1M'],
  ['create -b base.qcow2 new 1M'],
  ['create --object secret,id=a new 1M'],
  ['create -f qcow2 new +1M'],
  ['create -f qcow2 new 1024.0'],
  ['create -f qcow2 new 1024.5'],
  ['create -f qcow2 new .5M'],
  ['create -f qcow2 new 7.99999E'],
  ['create -f qcow2 new -- -1'],
  ['create -f qcow2 new -- -1k'],
  ['create -f qcow2 -o size=-1024 new'],
  ['create -f qcow2 -o size=-1k new'],
  ['create -f qcow2 -o cluster_size=-65536 new 1M'],
  ['create -f qcow2 -o refcount_bits=0x10 new 1M'],
  ['create -f qcow2 -o refcount_bits=-1 new 1M'],
  ['create -f qcow2 -o lazy_refcounts=yes new 1M'],
  ['create -f qcow2 -o nolazy_refcounts new 1M'],
  ['create -f qcow2 -o , new 1M'],
  ['create -f qcow2 -o compat=1.1,,x new 1M'],
  ['create -f qcow2 -o nocow=on,extent_size_hint=0,preallocation=off new 1M'],
  ['create -o extent_size_hint=0,nocow=on,preallocation=off new 1M'],
  ['create -f qcow2 -o nocow=foo new 1M'],
  ["create -f qcow2 -b '' new 1M"],
  ['create -f qcow2 -b base.qcow2 -F foo new 1M'],
  ['create -f qcow2 -u -b gone new 1M'],
  ['create -F qcow2 new 1M'],
  ['create -f qcow2 -o data_file=d,data_file_raw=on -b base.qcow2 -F qcow2 new 1M'],
  ['create -f qcow2 json:{} 1M'],
  ['create -f qcow2 file:new 1M'],
  ['create -f qcow2 foo:new 1M'],
  ['create -o preallocation=foo new 1M'],
  ['create -f foo -o help new'],
]);

sameFor('resize', [
  ['resize base.qcow2 6M'],
  ['resize -q base.qcow2 +1M'],
  ['resize --shrink base.qcow2 -1M'],
  ['resize base.qcow2 -1M'],
  ['resize base.qcow2 1x'],
  ['resize base.qcow2 +'],
  ['resize base.qcow2 99E'],
  ['resize base.qcow2 0'],
  ['resize base.qcow2 -20M'],
  ['resize base.qcow2 +1000'],
  ['resize --preallocation=foo base.qcow2 1M'],
  ['resize --preallocation=full --shrink base.qcow2 1M'],
  ['resize disk.raw 3M'],
  ['resize -f raw disk.raw 3M'],
  ['resize -f foo disk.raw 3M'],
  ['resize gone 1M'],
  ['resize --object secret,id=x base.qcow2 6M'],
  ['resize --image-opts driver=qcow2,file.driver=file,file.filename=base.qcow2 6M'],
  ['resize --image-opts driver=qcow2,file.filename=base.qcow2,cache-size=1x 6M'],
  ['resize json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}} 6M'],
  ['resize -f raw disk.raw +1'],
  ['resize -f raw --shrink disk.raw 1'],
  ['resize base.qcow2 ++1M'],
]);

sameFor('map', [
  ['map base.qcow2', { offsets: true }],
  ['map --output=json base.qcow2', { offsets: true }],
  ['map top.qcow2', { offsets: true }],
  ['map --output=json top.qcow2', { offsets: true }],
  ['map --output=json -s 100k -l 1M top.qcow2', { offsets: true }],
  ['map --output=json -s 100M base.qcow2'],
  ['map -s 100M base.qcow2'],
  ['map -f raw sparse.raw'],
  ['map -f raw --output=json sparse.raw'],
  ['map -f raw --output=json -s 411000 -l 2M sparse.raw'],
  ['map --output=json over.qcow2'],
  ['map gone'],
  ['map -f foo base.qcow2'],
  ['map orphan.qcow2'],
  ['map --image-opts driver=qcow2,file.filename=base.qcow2', { offsets: true }],
  ['map --start-offset=-1 base.qcow2'],
]);

sameFor('check', [
  ['check base.qcow2'],
  ['check -q base.qcow2'],
  ['check --output=json base.qcow2'],
  ['check -r all base.qcow2'],
  ['check -U -r all base.qcow2'],
  ['check disk.raw'],
  ['check gone'],
  ['check -f foo base.qcow2'],
  ['check --image-opts driver=qcow2,file.filename=base.qcow2'],
  ['check --image-opts driver=qcow2,file.filename=disk.raw'],
]);

sameFor('snapshot', [
  ['snapshot base.qcow2'],
  ['snapshot -c one base.qcow2'],
  ['snapshot -a one base.qcow2'],
  ['snapshot -d one base.qcow2'],
  ['snapshot -U -c one base.qcow2'],
  ['snapshot -c one disk.raw'],
  ['snapshot -d one -f raw disk.raw'],
  ['snapshot -a one -f raw disk.raw'],
  ['snapshot -c one -f raw disk.raw'],
  ['snapshot -l disk.raw'],
  ['snapshot -l gone'],
  ['snapshot -c one -c two base.qcow2'],
  ['snapshot -l -l base.qcow2'],
]);

sameFor('amend', [
  ['amend'],
  ['amend base.qcow2'],
  ['amend -o compat=0.10 base.qcow2'],
  ['amend -o foo=1 base.qcow2'],
  ['amend -f raw -o foo=1 disk.raw'],
  ['amend -o cluster_size=4k base.qcow2'],
  ['amend -o compat=0.9 base.qcow2'],
  ['amend -o refcount_bits=5 base.qcow2'],
  ['amend -o size=1x base.qcow2'],
  ['amend -o lazy_refcounts=foo base.qcow2'],
  ['amend -o lazy_refcounts=on base.qcow2'],
  ['amend -t none -o lazy_refcounts=yes base.qcow2'],
  ['amend -o backing_fmt=raw top.qcow2'],
  ['amend -o help'],
  ['amend -o help gone'],
  ['amend -o compat=0.10,refcount_bits=8 base.qcow2'],
  ['amend -o refcount_bits=1 kept.qcow2'],
  ['amend -o help disk.raw'],
  ["amend -o '' base.qcow2"],
]);

sameFor('bitmap', [
  ['bitmap --add base.qcow2 b'],
  ['bitmap --add --disable -g 4k base.qcow2 b'],
  ['bitmap --remove base.qcow2 b'],
  ['bitmap --add -g 5 base.qcow2 b'],
  ['bitmap --add base.qcow2'],
  ['bitmap --add base.qcow2 b c'],
  ['bitmap base.qcow2 b'],
  ['bitmap base.qcow2'],
  ['bitmap --enable -g 1k base.qcow2 b'],
  ['bitmap --add gone b'],
]);

/** Fields of a header: where, and bytes that are refused. */
const DAMAGES: readonly (readonly [field: string, offset: number, bytes: string])[] = [
  ['backing file offset', 8, 'ffffffffffffffff'],
  ['backing file size', 16, '00000400'],
  ['backing file at the end of its cluster', 8, '0000000000010000'],
  ['cluster bits', 20, '00000016'],
  ['size', 24, '1000000000000000'],
  ['size for the L1 table', 24, '0000001000000000'],
  ['encryption', 32, '00000003'],
  ['L1 size', 36, '00400001'],
  ['L1 offset', 40, '1234567890abcdef'],
  ['refcount table offset', 48, 'ffffffffffff0000'],
  ['refcount table size', 56, '00000081'],
  ['no refcount table', 56, '00000000'],
  ['snapshots', 60, '00010001'],
  ['refcount order', 96, '00000007'],
  ['header length', 100, '00010008'],
  ['short header', 100, '00000067'],
  ['compression type', 104, '03'],
  ['extension length', 112, 'ffffffff7fffffff'],
];

const damaged = settingOf((folder) => {
  const path = join(folder, 'image.qcow2');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', 'base', '-F', 'raw', path, '1M');
  const image = readFileSync(path);
  for (const [index, [, offset, bytes]] of DAMAGES.entries()) {
    const bad = Buffer.from(image);
    bad.write(bytes, offset, 'hex');
    writeFileSync(join(folder, `bad${index}`), bad);
  }
});

describe('a header is refused in the same words:', () => {
  test.each(DAMAGES.map(([field], index) => [field, index] as const))('%s', async (_, index) => {
    const { status } = await expectSame(damaged, ['info', '-f', 'qcow2', `bad${index}`]);

    expect(status).toBe(1);
  });
});
