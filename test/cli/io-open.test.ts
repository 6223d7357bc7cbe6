/** Disks that are opened by options, opened anew, written to the side, or filled by reading: as by qemu-io. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { mustQemuImg } from './run-corral.js';
import { expectSame, IMAGE, OVERLAY, RAW, SUBCLUSTERS, shellHere } from './run-io.js';

function each(commands: readonly string[]): string[] {
  return commands.flatMap((command) => ['-c', command]);
}

describe('a list of options, as by qemu-io', () => {
  test.each([
    'driver=qcow2,file.driver=file,file.filename={}/disk',
    'driver=qcow2,file.filename={}/disk',
    'file.filename={}/disk',
    'driver=raw,file.filename={}/disk',
    'driver=file,filename={}/disk',
    'driver=raw,file.filename={}/disk,offset=64k,size=64k',
    'driver=raw,file.filename={}/disk,offset=20M',
    'driver=host_device,filename={}/gone',
    'driver=file,filename={}',
    'driver=blkdebug,image.filename={}/disk',
    'driver=qcow2,file.filename={}/disk,l2-cache-size=1M,lazy-refcounts=on,discard=unmap,cache.direct=off,overlap-check=all',
    'driver=qcow2,file.driver=file,file.filename={}/nothing',
    'driver=qcow2',
    'filename={}/disk',
    'driver=bogus,file.filename={}/disk',
    'driver=qcow2,file.filename={}/disk,bogus=3',
    'driver=qcow2,file={}/disk',
    'driver=qcow2,file.filename={}/disk,read-only=on',
    'driver=qcow2,file.filename={}/disk,discard=bogus',
    'driver=qcow2,file.filename={}/disk,discard=ignore',
    'driver=qcow2,file.filename={}/disk,lazy-refcounts=maybe',
    'driver=qcow2,file.filename={}/disk,l2-cache-size=x',
    'driver=qcow2,file.filename={}/disk,cache-size=1M,l2-cache-size=2M',
    'driver=qcow2,file.filename={}/disk,cache-size=1M,l2-cache-size=512k,refcount-cache-size=512k',
    'driver=qcow2,file.filename={}/disk,discard-no-unref=on,pass-discard-request=off',
    'driver=qcow2,file.filename={}/disk,overlap-check=bogus',
    'driver=qcow2,file.filename={}/disk,cache.no-flush=on',
    'driver=qcow2,file.filename={}/disk,cache.direct=on',
    'driver=qcow2,file.driver=file,file.filename={}/disk,file.bogus=1',
  ])('%s', async (options) => {
    // As a raw disk the image loses its refcounts with the discard.
    const compared = /qcow2|^file\./.test(options) ? IMAGE.compared : { disk: 'raw' as const };

    await expectSame({ ...IMAGE, compared }, [
      '--image-opts',
      ...each(['length', 'info', 'discard 64k 64k', 'alloc 64k']),
      options,
    ]);
  });

  test.each([
    'driver=qcow2,file.filename={}/disk,backing.driver=raw,backing.file.filename={}/other',
    'driver=qcow2,file.filename={}/disk,backing.driver=qcow2,backing.file.filename={}/gone',
    'driver=qcow2,file.filename={}/disk,backing.bogus=1',
    'driver=qcow2,file.filename={}/disk,data-file.filename={}/other',
    'json:{"driver":"qcow2","file.filename":"{}/disk","backing":null}',
  ])('with another disk behind the image: %s', async (name) => {
    const make = (folder: string): void => {
      OVERLAY.make(folder);
      writeFileSync(join(folder, 'other'), Buffer.alloc(1 << 20, 7));
    };
    const listed = name.startsWith('json:') ? [] : ['--image-opts'];

    await expectSame({ ...OVERLAY, make }, [...listed, ...each(['read -v 0 4k', 'write -P 9 512k 3k', 'map']), name]);
  });

  test('with another one besides the name of the image', async () => {
    const raw = 'open -o backing.driver=raw {}/disk';

    await expectSame(OVERLAY, each([raw, 'info', 'read -v 0 16', 'close', 'open -o backing.bogus=1 {}/disk']));
  });

  test.each([
    'json:{"driver":"qcow2","file":{"driver":"file","filename":"{}/disk"}}',
    'json:{"driver":"raw","file.filename":"{}/disk"}',
    'json:{"file.filename":"{}/disk"}',
    "json:{'driver':'raw','file':{'driver':'file','filename':'{}/disk'}}",
    'json:{',
    'json:[]',
    'json:{"a":[1]}',
    'json:{"driver":"qcow2","file":{"driver":"file","filename":"{}/disk"},"bogus":1}',
    'file:{}/disk',
    'bogus:{}/disk',
  ])('in a name: %s', async (name) => {
    await expectSame(IMAGE, [...each(['length', 'read -P 1 64k 1k']), name]);
  });

  test('and a format exclude each other', async () => {
    await expectSame(IMAGE, ['--image-opts', '-f', 'qcow2', 'driver=qcow2,file.filename={}/disk']);
  });
});

describe('open and reopen, as of qemu-io', () => {
  test.each([
    [
      'options of open',
      [
        'open -o driver=raw,file.filename={}/disk',
        'length',
        'close',
        'open -o file.filename={}/disk',
        'length',
        'close',
        'open -o driver=raw {}/disk',
        'length',
        'close',
        'open -o driver=bogus {}/disk',
        'open -o driver=qcow2,bogus=3 {}/disk',
        'open -o lazy-refcounts=on {}/disk',
        'info',
        'open -o driver=raw {}/disk',
        'close',
        'open -o driver=raw blkdebug::{}/disk',
        'read 0 1k',
        'close',
        'open -o driver=qcow2,file.align=4k blkdebug::{}/disk',
        'info',
        'close',
        'open -o driver=blkdebug,align=4k blkdebug::{}/disk',
        'info',
        'close',
        'open -o driver=qcow2,file.locking=off {}/disk',
        'close',
        'open -o driver=qcow2,file.bogus=1 {}/disk',
        'open -o driver=qcow2 json:{"driver":"raw","file.filename":"{}/disk"}',
        'info',
        'close',
        'open -r {}',
        'open -k {}/disk',
        'help bogus',
        'open -s {}/disk',
        'write -P 9 64k 1k',
        'read -P 9 64k 1k',
        'close',
        'open -C {}/disk',
        'read -P 1 64k 1k',
        'close',
        'open -r -C {}/disk',
        'open -U {}/disk',
        'open -U -r {}/disk',
        'length',
      ],
    ],
  ])('%s', async (_, commands) => {
    await expectSame(IMAGE, each(commands));
  });

  test('reopen', async () => {
    const commands = [
      'length',
      'write 0 1k',
      'reopen -w',
      'write -P 7 0 1k',
      'reopen -r',
      'write 0 1k',
      'reopen -x',
      'reopen -rw',
      'reopen -r -w',
      'reopen -c none',
      'reopen -c',
      'reopen -c bogus',
      'reopen -o lazy-refcounts=on',
      'reopen -o bogus=3',
      'reopen -o cluster_size=3',
      'reopen x',
      'reopen',
      'reopen -o read-only=on -r',
      'reopen -o cache.direct=on -c none',
      'reopen -o driver=raw',
      'reopen -o node-name=x',
      'reopen -o file.filename=x',
      'reopen -o read-only=maybe',
      'reopen -o l2-cache-size=x',
      'reopen -o read-only=off',
      'write -P 8 1M 1k',
      'reopen -o discard=ignore',
      'read -P 8 1M 1k',
    ];

    await expectSame(IMAGE, ['-r', ...each(commands), '{}/disk']);
  });

  test('a disk that can only be read stays open when it cannot be written', async () => {
    await expectSame(IMAGE, ['-r', ...each(['reopen -o read-only=on', 'write 0 1k', 'read 0 1k']), '{}/disk']);
  });
});

describe('writes to the side, as by qemu-io', () => {
  test.each([
    ['an image', IMAGE, []],
    ['an overlay', OVERLAY, []],
    ['a raw file', RAW, ['-f', 'raw']],
  ] as const)('over %s', async (_, disks, format) => {
    const commands = [
      'write -P 9 0 1k',
      'read -P 9 0 1k',
      'read -v 64k 16',
      'length',
      'info',
      'map',
      'write -z 128k 64k',
      'read -P 0 128k 64k',
      'discard 0 64k',
      'flush',
    ];

    await expectSame(disks, [...format, '-s', ...each(commands), '{}/disk']);
  });

  test('leave no file behind', async () => {
    const folder = temporaryFolder();
    IMAGE.make(folder);
    const ours = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('corral-io-'));
    const before = statSync(join(folder, 'disk')).mtimeMs;

    const { status } = await shellHere(['-s', ...each(['write 0 1M', 'flush']), join(folder, 'disk')]);

    expect(status).toBe(0);
    expect(statSync(join(folder, 'disk')).mtimeMs).toBe(before);
    expect(ours().filter((name) => existsSync(join(tmpdir(), name, 'overlay.qcow2')))).toEqual([]);
  });
});

test('a part of a file is written, and nothing beside it, as by qemu-io', async () => {
  const part = 'driver=raw,file.filename={}/disk,offset=64k,size=1k';
  const commands = ['length', 'write -P 9 512 512', 'write 0 2k', 'read -P 9 512 512', 'truncate 4k'];

  await expectSame(RAW, ['--image-opts', ...each(commands), part]);
});

describe('what is read is kept, as by qemu-io', () => {
  test.each([
    [
      'an overlay',
      OVERLAY,
      ['read -P 1 0 1k', 'map', 'read 60k 20k', 'map', 'read 1M 1M', 'map', 'read 3100k 1', 'read -v 65520 32'],
    ],
    ['an image', IMAGE, ['read 0 1k', 'map', 'read -P 1 64k 64k', 'read 5M 1M', 'map', 'read 11M 1k']],
    ['an overlay with subclusters', SUBCLUSTERS, ['read 30k 4k', 'map', 'read 100k 1', 'map']],
    ['a request of many clusters', OVERLAY, ['read 0 3M', 'map', 'write -P 5 0 100k', 'read -P 5 0 100k']],
    [
      'requests in the background',
      OVERLAY,
      ['aio_read -q 0 512k', 'aio_write -q -P 6 100k 100k', 'aio_flush', 'read -P 6 100k 100k', 'map'],
    ],
  ] as const)('%s', async (_, disks, commands) => {
    await expectSame(disks, ['-C', ...each(commands), '{}/disk']);
  });

  test('not in a disk that is only read', async () => {
    await expectSame(IMAGE, ['-C', '-r', '-c', 'length', '{}/disk']);
  });
});

test('a disk that somebody else writes to is refused in the words of qemu-io, and -U reads it', async () => {
  const holders: ChildProcess[] = [];

  const outcomes = await Promise.all(
    [
      ['-c', 'length'],
      ['-r', '-c', 'length'],
      ['-r', '-U', '-c', 'length'],
    ].map(async (args) => {
      const folder = temporaryFolder();
      IMAGE.make(folder);
      const path = join(folder, 'disk');
      const holder = spawn('qemu-io', [path], { stdio: ['pipe', 'pipe', 'ignore'] });
      holders.push(holder);
      await once(holder.stdout, 'data');
      const { status, stdout, stderr } = spawnSync('qemu-io', [...args, path], { encoding: 'utf8' });
      expect(await shellHere([...args, path])).toEqual({ status, stdout, stderr });
      return status;
    }),
  );

  for (const holder of holders) holder.stdin?.end();
  expect(outcomes).toEqual([1, 1, 0]);
});

describe('detect-zeroes: writes of zeros leave the space that qemu-io leaves', () => {
  test.each(['qcow2', 'raw'].flatMap((format) => ['off', 'on', 'unmap'].map((mode) => [format, mode] as const)))(
    '%s, %s',
    async (format, mode) => {
      const commands = ['write -P 0 64k 1M', 'write -P 0 2M 3k', 'write -P 2 3M 64k', 'aio_write -P 0 3200k 64k'];
      const left = async (run: (args: readonly string[]) => Promise<unknown> | unknown): Promise<unknown> => {
        const path = join(temporaryFolder(), 'disk');
        mustQemuImg('create', '-q', '-f', format, path, '4M');
        qemuIoRun(['-f', format, '-c', 'write -P 1 0 4M', path]);
        const options = `driver=${format},file.filename=${path},discard=unmap,detect-zeroes=${mode}`;
        await run(['--image-opts', ...each([...commands, 'write -z -u 3500k 64k']), options]);
        // What of a raw file are holes depends on what its file system can do.
        const map = format === 'raw' ? '' : mustQemuImg('map', '--output=json', path);
        return { blocks: statSync(path).blocks, map };
      };

      const ours = await left(shellHere);

      expect(ours).toEqual(await left(qemuIoRun));
    },
  );
});

function qemuIoRun(args: readonly string[]): void {
  const { status, stdout } = spawnSync('qemu-io', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stdout);
}
