/** The shell prints and does what qemu-io does, in success and in failure. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Disks, expectSame, IMAGE, OVERLAY, RAW, shellHere } from './run-io.js';

function each(commands: readonly string[]): string[] {
  return commands.flatMap((command) => ['-c', command]);
}

const WITH_FILES: Disks = {
  ...IMAGE,
  make(folder) {
    IMAGE.make(folder);
    writeFileSync(join(folder, 'pattern'), 'hello\n');
    writeFileSync(join(folder, 'empty'), '');
  },
};

/** Commands that are run one after the other in one call. */
const ON_AN_IMAGE: Readonly<Record<string, readonly string[]>> = {
  'reads of all kinds': [
    'read 0 64k',
    'read -P 1 64k 1k',
    'read -P 2 64k 1k',
    'r -q 0 1k',
    'read -C 0 512',
    'read -v 65520 40',
    'read -qv 0 16',
    'read -pa 0 1',
    'read 1 511',
    'read 0 0',
    'read 10M 0',
    'read 0 1k -q',
    'read -qP1 64k 0x200',
  ],
  'patterns of a part': [
    'read -P 1 -s 64k -l 512 0 128k',
    'read -P 1 -s 64k 0 129k',
    'read -P 1 -s 63k 0 128k',
    'read -P 0 -s 512 -l 1k 0 1k',
    'read -P 0 -s 2k 0 1k',
    'read -P 0 -l 0 0 1k',
    'read -P 5 -l 512 0 1k',
    'read -s 512 0 1k',
    'read -l 512 0 1k',
    'read -P 0 -s x 0 1k',
    'read -P 0 -l x 0 1k',
  ],
  'reads that are wrong': [
    'read',
    'read 0',
    'read 0 1k 1k',
    'read 0 x',
    'read x 0',
    'read -Z 0 1k',
    'read -P',
    'read -P 256 0 1k',
    'read -P x 0 1k',
    'read -P -1 0 1k',
    'read -P 010 -q 0 1',
    'read -P 0x1f -q 0 1',
    'read -5 512',
    'read -- -5 512',
    'read 0 3G',
    'read 10M 512',
    'read 11M 512',
    'read 7E 512',
    'read 8E 512',
    'read 0 99999999999999999999',
    'read 0 1kB',
    'read 0 1e3',
    'read 0 +5',
    'read 0 .5k',
    'read 0 1.5k',
    'read 0 1.5',
    'read 0x 5',
    'read 1b 5',
    'read -b 100 512',
    'read -b 512 100',
    'read -n 0 512',
  ],
  'several buffers': [
    'readv 0 1k 1k 512',
    'readv -v 64k 16 5',
    'readv -P 1 64k 1k 1k',
    'readv -P 2 64k 1k 1k',
    'readv -C 0 1k',
    'readv 0',
    'readv 0 x',
    'readv 0 1k x',
    'readv -l 3 0 1k',
    'readv 20M 1k',
    'readv 0 2G',
    'readv 0 1G 1G',
    'writev 0 1k 1k',
    'writev -P 3 1M 1k 3',
    'writev -f 2M 512',
    'writev -q 2M 1k',
    'writev -z 0 1k',
    'writev 20M 1k',
    'writev x 1k',
    'writev -P 300 0 1k',
  ],
  'writes of all kinds': [
    'write 0 1k',
    'w -P 6 5M 100k',
    'write -P 7 100 200',
    'write -f 1M 64k',
    'write -q 2M 4k',
    'write -C 2M 4k',
    'write -z 128k 64k',
    'write -z 64k 1k',
    'write -zu 3M 64k',
    'write -zf 1M 64k',
    'write -zn 1M 128k',
    'write -p 0 1',
    'write -r 0 1k',
    'write 4M 0',
    'write -z 4M 0',
    'map',
  ],
  'saved states': [
    'write -b -P 5 0 100k',
    'read -b -P 5 0 100k',
    'read -b -v 99k 2k',
    'read -b -P 5 0 200k',
    'write -b -c -P 6 64k 64k',
    'read -b -P 6 -s 1k -l 63k 64k 64k',
    'write -b 3M 1M',
    'read -b -C 3M 512',
    'read -b 1T 512',
    'read 0 512',
    'map',
  ],
  'writes that are wrong': [
    'write',
    'write 0',
    'write 0 1k 1k',
    'write 0 x',
    'write x 0',
    'write -x 0 1k',
    'write -P 300 0 1k',
    'write -u 0 64k',
    'write -n 0 64k',
    'write -z -P 3 0 64k',
    'write -b -z 0 64k',
    'write -f -c 0 64k',
    'write -f -b 0 64k',
    'write -r -z 0 64k',
    'write 10M 1k',
    'write -z 10M 1k',
    'write 0 3G',
    'write -z 0 3G',
    'write -zn 0 5G',
    'write -s',
  ],
  'compressed writes': [
    'write -c -P 3 4M 64k',
    'write -c -P 4 5M 256k',
    'write -c 4M 64k',
    'write -c 64k 64k',
    'write -c 6M 1k',
    'write -c 6M 1000',
    'write -c 100 512',
    'write -c 9.5M 512k',
    'write -c -z 6M 64k',
    'read -P 3 4M 64k',
    'read -P 4 5M 256k',
    'map',
  ],
  'requests in the background': [
    'aio_write -q -P 4 0 1k',
    'aio_flush',
    'aio_read -P 4 0 1k',
    'aio_flush',
    'aio_read -P 5 0 1k',
    'aio_flush',
    'aio_read -v 0 16 16',
    'aio_flush',
    'aio_read -C 0 1k',
    'aio_flush',
    'aio_write -z 64k 64k',
    'aio_flush',
    'aio_write -zu 128k 64k',
    'aio_flush',
    'aio_write -f 64k 1k',
    'aio_flush',
    'aio_read 20M 1k',
    'aio_flush',
    'aio_write 20M 1k',
    'aio_flush',
    'aio_read -i 0 1k',
    'aio_write -i 0 1k',
    'aio_write 5M 1k 2k',
  ],
  'requests in the background that are wrong': [
    'aio_read 0',
    'aio_read 0 x',
    'aio_read x 1k',
    'aio_read -P 555 0 1k',
    'aio_read -x 0 1k',
    'aio_write -z 0 1k 1k',
    'aio_write -z -P 3 0 1k',
    'aio_write -u 0 1k',
    'aio_write 0 3G',
    'aio_flush 1',
  ],
  'a request in the background that fails': ['aio_write 20M 1k'],
  discards: [
    'discard 64k 64k',
    'd -q 64k 64k',
    'discard -C 64k 64k',
    'discard 1 1',
    'discard 0 100M',
    'discard 0 3G',
    'discard 0',
    'discard 0 1k 1k',
    'discard -x 0 1k',
    'map',
  ],
  'what is allocated': [
    'map',
    'alloc 0',
    'alloc 64k',
    'a 0 1M',
    'alloc 100k 512',
    'alloc 3M 1M',
    'alloc 9M 2M',
    'alloc 11M',
    'alloc',
    'alloc x',
    'alloc 0 x',
    'alloc 0 1 2',
    'map x',
  ],
  'lengths and facts': ['length', 'l', 'length x', 'info', 'i', 'info x', 'flush', 'f', 'flush x'],
  'other lengths': [
    'truncate 20M',
    'length',
    't 12M',
    'length',
    'truncate -m off 14M',
    'length',
    'truncate',
    'truncate x',
    'truncate 100',
    'truncate -m bogus 12M',
    'truncate 1 2',
    'truncate -m metadata 15M',
    'truncate -m full 16M',
    'truncate -m falloc 17M',
    'truncate -m metadata 16M',
    'map',
    'truncate -m',
    'length',
  ],
  'words of the shell': [
    'bogus',
    'h',
    '',
    '   ',
    '  length  ',
    'length\t',
    'sleep 1',
    'sleep x',
    'sleep',
    'sleep 1 2',
    'help bogus',
    'help read write',
    'help a b c',
    'help help',
    'help q',
    'help map',
    'help length',
    'help ?',
    'sigraise x',
    'sigraise',
    'sigraise 0',
    'abort 1',
    'zone_report 0 1',
    'zone_open 0 1',
    'zone_close 0 x',
    'zone_append 0',
    'close 1',
    'quit 3',
    'length',
  ],
  'closing and opening': [
    'close',
    'length',
    'read 0 1k',
    'close',
    'open -r {}/disk',
    'length',
    'write 0 1k',
    'aio_write 0 1k',
    'discard 0 1k',
    'truncate 1M',
    'write -x',
    'open {}/disk',
    'c',
    'o {}/disk',
    'write -P 9 0 1k',
    'close',
    'open {}/nothing',
    'open',
    'open -x {}/disk',
    'open -t bogus {}/disk',
    'open -d bogus {}/disk',
    'open {}/disk {}/disk',
  ],
};

describe('on an image, as qemu-io', () => {
  test.each(Object.entries(ON_AN_IMAGE))('%s', async (_, commands) => {
    await expectSame(IMAGE, [...each(commands), '{}/disk']);
  });

  test.each([
    [
      'writes out of a file',
      [
        'write -s {}/pattern 1M 1k',
        'read -v 1M 32',
        'write -s {}/nothing 0 1k',
        'write -s {}/empty 0 1k',
        'write -s {}/pattern -P 3 0 1k',
        'write -s {}/pattern -z 0 1k',
      ],
    ],
  ])('%s', async (_, commands) => {
    await expectSame(WITH_FILES, [...each(commands), '{}/disk']);
  });
});

describe('on other files, as qemu-io', () => {
  test.each([
    [
      'a raw file',
      [
        'read -P 7 0 1k',
        'write -P 3 0 1k',
        'write -c 0 64k',
        'write -z 64k 64k',
        'map',
        'alloc 0 2M',
        'info',
        'truncate 2M',
        'length',
        'truncate 777',
        'length',
        'read -v 770 20',
        'read 1M 1',
        'write 0 2M',
        'flush',
        'truncate -m metadata 1M',
        'write -P 5 64k 64k',
        'discard 64k 64k',
        'read -P 0 64k 64k',
      ],
    ],
  ])('%s', async (_, commands) => {
    await expectSame(RAW, ['-f', 'raw', ...each(commands), '{}/disk']);
  });

  test('a raw file whose format nobody named', async () => {
    await expectSame(RAW, ['-c', 'write 0 1k', '-c', 'write 1k 1k', '-c', 'read 0 1k', '{}/disk']);
    await expectSame(RAW, ['-r', '-c', 'read 0 1k', '{}/disk']);
  });

  test('an overlay', async () => {
    const commands = [
      'map',
      'alloc 0 3M',
      'read -P 1 0 64k',
      'read -P 3 64k 10k',
      'write -P 5 100k 1k',
      'write -z 1M 64k',
      'discard 128k 64k',
      'read -v 1048570 16',
      'map',
      'length',
      'info',
    ];
    await expectSame(OVERLAY, [...each(commands), '{}/disk']);
  });

  test.each([
    '-o extended_l2=on',
    '-o compat=0.10',
    '-o lazy_refcounts=on,compression_type=zstd',
    '-o cluster_size=512',
    '-o cluster_size=2M',
  ])('an image made with %s', async (made) => {
    const { mustQemuImg } = await import('./run-corral.js');
    const disks: Disks = {
      make: (folder) => {
        mustQemuImg('create', '-q', '-f', 'qcow2', ...made.split(' '), join(folder, 'disk'), '3M');
      },
      compared: { disk: 'qcow2' },
    };
    await expectSame(disks, [
      ...each(['info', 'write -P 3 100k 1M', 'write -z 1M 64k', 'map', 'read -P 3 100k 100k']),
      '{}/disk',
    ]);
  });
});

describe('the command line, as of qemu-io', () => {
  test.each([
    ['no file', ['-c', 'read 0 1k', '-c', 'length', '-c', 'quit', '-c', 'length']],
    ['a file that is not there', ['-c', 'length', '{}/nothing']],
    ['an unknown format', ['-f', 'bogus', '{}/disk']],
    ['a raw file as an image', ['-f', 'qcow2', '-c', 'length', '{}/base']],
    ['an image as raw', ['-f', 'raw', '-c', 'read 0 1k', '-c', 'length', '{}/disk']],
    ['only for reading', ['-r', '-c', 'write 0 1k', '-c', 'flush', '-c', 'read 0 1k', '{}/disk']],
    ['long names', ['--cmd=length', '--cmd', 'read 0 1k', '--read-only', '--form', 'qcow2', '{}/disk']],
    ['options behind the file', ['{}/disk', '-rc', 'length', '-cread 0 1k']],
    ['shared by force', ['-r', '-U', '-c', 'length', '{}/disk']],
    ['shared by force, and written', ['-U', '-c', 'length', '{}/disk']],
    ['an unknown cache mode', ['-t', 'bogus', '{}/disk']],
    ['an unknown discard mode', ['-d', 'bogus', '{}/disk']],
    ['an unknown kind of asynchronous I/O', ['-i', 'bogus', '{}/disk']],
    ...['secret,id=a,data=b', 'secret,data=b', 'secret,id=a', 'bogus', 'tls,id=a'].map((object): [string, string[]] => [
      `the object ${object}`,
      ['--object', object, '-c', 'length', '{}/disk'],
    ]),
    ['options without effect', ['-m', '-i', 'threads', '-c', 'read 0 1k', '{}/disk']],
    ...['writeback', 'none', 'writethrough', 'directsync', 'unsafe'].map((mode): [string, string[]] => [
      `cache mode ${mode}`,
      ['-t', mode, '-c', 'write -P 3 0 1k', '-c', 'write -P 4 1 5', '-c', 'flush', '-c', 'read -v 0 16', '{}/disk'],
    ]),
    ...['unmap', 'on', 'ignore', 'off'].map((mode): [string, string[]] => [
      `discard mode ${mode}`,
      ['-d', mode, '-c', 'discard 64k 64k', '-c', 'map', '-c', 'read -P 1 128k 64k', '{}/disk'],
    ]),
  ])('%s', async (_, args) => {
    await expectSame(IMAGE, args);
  });

  test.each([
    ['lines', 'length\nread 0 512\nbogus\n\nquit\nlength\n'],
    ['a last line without an end', 'length'],
    ['nothing', ''],
    ['a line that fails', 'read 100M 1\n'],
  ])('standard input: %s', async (_, input) => {
    await expectSame(IMAGE, ['{}/disk'], input);
  });

  test.each([[['-x', 'a']], [['--bogus']], [['a', 'b']], [['-c']], [['--cmd']], [['-h']], [['--c', 'length']]])(
    '%j ends with the usage',
    async (args) => {
      const { stdout, stderr, status } = await shellHere(args);

      expect(stdout).toMatch(/^Usage: qemu-io \[OPTIONS\]\.\.\. \[-c STRING\]\.\.\. \[file\]\n/);
      expect(stderr).toMatch(args[0] === 'a' || args[0] === '-h' ? /^$/ : /^qemu-io: .*option.*\n$/);
      expect(status).toBe(args[0] === '-h' ? 0 : 1);
    },
  );
});
