/** The error injector on the command line: as with qemu-io and blkdebug where both do the same I/O. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { mustQemuImg, qemuImg } from './run-corral.js';
import { type Disks, expectSame, IMAGE, makeDisks, OVERLAY, RAW, shellHere } from './run-io.js';

function each(commands: readonly string[]): string[] {
  return commands.flatMap((command) => ['-c', command]);
}

/** The disks, and a file with rules. */
function withRules(disks: Disks, rules: string): Disks {
  return {
    ...disks,
    make(folder) {
      makeDisks(disks, folder);
      writeFileSync(join(folder, 'rules'), rules);
    },
  };
}

const COMMANDS = ['write 64k 64k', 'write 192k 64k', 'read 64k 64k', 'read 192k 512', 'flush'];

describe('rules in a file act as in qemu-io', () => {
  test.each([
    ['an error, once', '[inject-error]\nevent = "write_aio"\nerrno = "28"\nonce = "on"\n'],
    ['an error from an event on', '[inject-error]\nevent = "read_aio"\n'],
    [
      'comments and named sections',
      '# one\n\n[inject-error "a"]\n  event = "write_aio"\n  errno = "7"\n  once = "on"\n',
    ],
    ['a sector that is not touched', '[inject-error]\nevent = "write_aio"\nsector = "1999999"\n'],
    [
      'reads only',
      '[inject-error]\nevent = "none"\niotype = "read"\nstate = "2"\n[set-state]\nevent = "read_aio"\nnew_state = "2"\n',
    ],
    [
      'states',
      '[set-state]\nevent = "write_aio"\nnew_state = "2"\n\n[inject-error]\nevent = "read_aio"\nstate = "2"\nonce = "on"\nimmediately = "on"\n',
    ],
    ['a state that never comes', '[inject-error]\nevent = "write_aio"\nstate = "9"\n'],
    ['no error', '[inject-error]\nevent = "write_aio"\nerrno = "0"\n'],
    ['an unknown section', '[bogus]\nevent = "write_aio"\n'],
    ['an unknown event', '[inject-error]\nevent = "bogus"\n'],
    ['an unknown key', '[inject-error]\nevent = "write_aio"\nfoo = "1"\n'],
    ['an error that is no number', '[inject-error]\nevent = "write_aio"\nerrno = "x"\n'],
    ['a switch that is none', '[inject-error]\nevent = "write_aio"\nonce = "maybe"\n'],
    ['no event', '[inject-error]\nerrno = "5"\n'],
    ['no section', 'event = "write_aio"\n'],
  ])('%s', async (_, rules) => {
    // What an image holds when its tables could not be written depends on when they are.
    await expectSame(withRules({ ...IMAGE, compared: {} }, rules), [...each(COMMANDS), 'blkdebug:{}/rules:{}/disk']);
    await expectSame(withRules(RAW, rules), ['-f', 'raw', ...each(COMMANDS), 'blkdebug:{}/rules:{}/disk']);
  });

  test.each([
    'blkdebug::{}/disk',
    'blkdebug:{}/disk',
    'blkdebug:::{}/disk',
    'blkdebug:{}/nothing:{}/disk',
    'blkdebug::{}/nothing',
  ])('the name %s', async (name) => {
    await expectSame(IMAGE, ['-c', 'write 64k 1k', name]);
  });
});

describe('rules as options act as in qemu-io', () => {
  const RAW_OPTIONS = 'driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={}/disk';

  test.each([
    'file.inject-error.0.event=read_aio,file.inject-error.0.errno=7',
    'file.inject-error.0.event=read_aio,file.inject-error.0.sector=1',
    'file.inject-error.0.event=read_aio,file.inject-error.0.once=on,file.inject-error.1.event=write_aio,file.inject-error.1.errno=28',
    'file.inject-error.0.event=write_aio,file.inject-error.0.state=2,file.set-state.0.event=read_aio,file.set-state.0.new_state=2',
    'file.inject-error.0.event=none,file.inject-error.0.iotype=read',
    'file.inject-error.0.event=none,file.inject-error.0.iotype=write',
    'file.inject-error.0.event=none,file.inject-error.0.iotype=write-zeroes',
    'file.inject-error.0.event=none,file.inject-error.0.sector=1',
    'file.inject-error.0.event=pwritev,file.inject-error.0.errno=122',
    'file.inject-error.0.event=pwritev_done,file.inject-error.0.once=on',
    'file.inject-error.0.event=flush_to_os',
    'file.set-state.0.event=read_aio',
    'file.config={}/rules,file.inject-error.0.event=read_aio,file.inject-error.0.errno=7',
    'file.align=512,file.max-transfer=1M',
    'file.inject-error.0.event=bogus',
    'file.inject-error.0.event=read_aio,file.inject-error.0.iotype=bogus',
    'file.inject-error.0.event=read_aio,file.inject-error.0.bogus=1',
    'file.inject-error.0.errno=5',
    'file.inject-error.1.event=none',
    'file.bogus=3',
    'file.image.bogus=3',
    'file.config={}/nothing',
    'bogus=3',
  ])('%s', async (options) => {
    const commands = ['write 0 512', 'read 0 512', 'read 512 512', 'write 0 512', 'flush', 'write -z 0 512'];

    await expectSame(withRules(RAW, '[inject-error]\nevent = "write_aio"\nonce = "on"\n'), [
      '--image-opts',
      ...each(commands),
      `${RAW_OPTIONS},${options}`,
    ]);
  });
});

describe('requests are held as by qemu-io', () => {
  const disks = withRules(IMAGE, '');

  test.each([
    [
      'and go on',
      [
        'break write_aio A',
        'aio_write -P 3 64k 64k',
        'wait_break A',
        'length',
        'resume A',
        'aio_flush',
        'read -P 3 64k 64k',
      ],
    ],
    [
      'a read',
      ['break read_aio A', 'aio_read -P 1 64k 64k', 'wait_break A', 'read -P 1 128k 1k', 'resume A', 'aio_flush'],
    ],
    [
      'under two names',
      [
        'break write_aio A',
        'break write_aio B',
        'aio_write -P 3 64k 64k',
        'wait_break A',
        'wait_break B',
        'resume B',
        'resume A',
        'aio_flush',
      ],
    ],
    [
      'until the break is removed',
      ['break write_aio A', 'aio_write -P 3 64k 64k', 'wait_break A', 'remove_break A', 'aio_flush'],
    ],
    ['unless the break is removed before', ['break write_aio A', 'remove_break A', 'write -P 3 64k 64k']],
    [
      'never, without a break of that name',
      ['resume A', 'remove_break A', 'break bogus A', 'break write_aio', 'wait_break', 'resume', 'remove_break 1 2'],
    ],
  ])('%s', async (_, commands) => {
    await expectSame(disks, [...each(commands), 'blkdebug::{}/disk']);
  });

  test.each([
    ['a read', ['break read_backing_aio A', 'aio_read -P 1 0 64k', 'wait_break A', 'resume A', 'aio_flush']],
    [
      'a write of a part of a cluster',
      ['break read_backing_aio A', 'aio_write -P 9 1k 1k', 'wait_break A', 'resume A', 'aio_flush'],
    ],
    [
      'what is copied',
      ['break cow_read A', 'aio_write -P 9 1k 1k', 'wait_break A', 'resume A', 'aio_flush', 'read -P 1 0 1k'],
    ],
    ['a new cluster', ['break cluster_alloc A', 'aio_write -P 9 1k 1k', 'wait_break A', 'resume A', 'aio_flush']],
    [
      'a part of an own cluster',
      ['break write_aio A', 'aio_write -P 9 65k 1k', 'wait_break A', 'read -P 3 64k 1k', 'resume A', 'aio_flush'],
    ],
  ])('over a backing file: %s', async (_, commands) => {
    await expectSame(OVERLAY, [...each(commands), 'blkdebug::{}/disk']);
  });

  test('or the wait ends when no request is left that could be', async () => {
    const folder = temporaryFolder();
    IMAGE.make(folder);

    const outcome = await shellHere([
      ...each(['break l1_update A', 'aio_read -q 0 1k', 'wait_break A']),
      `blkdebug::${join(folder, 'disk')}`,
    ]);

    expect(outcome).toEqual({
      status: 1,
      stdout: 'Could not wait for request: No such file or directory\n',
      stderr: '',
    });
  });

  test('not at all without an injector', async () => {
    await expectSame(IMAGE, [...each(['break write_aio A', 'resume A', 'remove_break A', 'read 0 1k']), '{}/disk']);
  });
});

/** Exit status 3: clusters are lost, and nothing else is wrong. */
function expectAtMostLeaks(path: string): void {
  expect([0, 3]).toContain(qemuImg(['check', path]).status);
}

describe('what the engine does is known by its events', () => {
  test.each([
    ['l2_load', ['read 0 512']],
    ['refblock_load', ['write 0 512']],
    ['reftable_load', ['write 0 512']],
    ['cluster_alloc', ['write 5M 64k']],
    ['l2_update', ['write 5M 64k', 'flush']],
    ['l2_alloc_write', ['write 600M 64k', 'flush']],
    ['l1_update', ['write 600M 64k', 'flush']],
    ['refblock_update', ['write 5M 64k', 'flush']],
    ['cow_read', ['write 7M 512']],
    ['read_compressed', ['read 8M 64k']],
    ['write_compressed', ['write -c 9M 64k']],
    ['flush_to_disk', ['write 5M 64k', 'flush']],
  ])('%s', async (event, commands) => {
    const path = join(temporaryFolder(), 'disk');
    mustQemuImg('create', '-q', '-f', 'qcow2', path, '1G');
    await shellHere([...each(['write 0 64k', 'write 7M 64k', 'write -c 8M 64k']), path]);
    mustQemuImg('snapshot', '-c', 'a', path);

    const options = `driver=qcow2,file.driver=blkdebug,file.image.filename=${path},file.inject-error.0.event=${event}`;
    const clean = await shellHere([...each(commands), path]);
    const { status, stdout } = await shellHere(['--image-opts', ...each(commands), options]);

    expect(clean.status).toBe(0);
    expect({ status, stdout }).not.toEqual({ status: 0, stdout: clean.stdout });
    expectAtMostLeaks(path);
  });

  test('an error before an L2 table is written leaves an image without errors, and later writes work', async () => {
    const path = join(temporaryFolder(), 'disk');
    mustQemuImg('create', '-q', '-f', 'qcow2', path, '1G');
    const options = `driver=qcow2,file.driver=blkdebug,file.image.filename=${path},file.inject-error.0.event=l2_update,file.inject-error.0.once=on`;

    const outcome = await shellHere(['--image-opts', ...each(['write -P 3 0 64k', 'flush']), options]);

    expect(outcome.status).toBe(1);
    expectAtMostLeaks(path);
    expect((await shellHere([...each(['write -P 4 0 64k', 'read -P 4 0 64k']), path])).status).toBe(0);
    expectAtMostLeaks(path);
  });
});

test('a request that is held when the program ends goes on', async () => {
  const folder = temporaryFolder();
  IMAGE.make(folder);
  const path = join(folder, 'disk');

  const outcome = await shellHere([
    ...each(['break write_aio A', 'aio_write -P 9 64k 64k', 'wait_break A']),
    `blkdebug::${path}`,
  ]);

  expect(outcome.stdout).toMatch(
    /^blkdebug: Suspended request 'A'\nblkdebug: Resuming request 'A'\nwrote 65536\/65536/,
  );
  expect((await shellHere(['-c', 'read -P 9 64k 64k', path])).status).toBe(0);
});

test('a data file may have an injector of its own; what it had been given is no leak', async () => {
  const disks: Disks = {
    make(folder) {
      mustQemuImg(
        'create',
        '-q',
        '-f',
        'qcow2',
        '-o',
        `data_file=${join(folder, 'data')}`,
        join(folder, 'disk'),
        '64k',
      );
      writeFileSync(join(folder, 'rules'), '[inject-error]\nevent = "write_aio"\nonce = "on"\n');
    },
    compared: {},
  };
  const data = { driver: 'raw', file: { driver: 'blkdebug', config: '{}/rules', image: { filename: '{}/data' } } };
  const name = JSON.stringify({ driver: 'qcow2', file: { filename: '{}/disk' }, 'data-file': data });

  const outcome = await expectSame(disks, ['-c', 'write 0 64k', '-c', 'write -P 1 0 64k', `json:${name}`]);

  expect(outcome.stdout).toMatch(/^write failed: Input\/output error\nwrote 65536/);
});

/** QEMU puts the refcount table at 1, a block of it at 2, the L1 table at 3 and the first L2 table at 4 times 64 KiB. */
const ENTRY_OF_L1 = 0x30000;
const ENTRY_OF_L2 = 0x40008;

describe('what a corrupt image is told to be, as by qemu-io:', () => {
  test.each([
    ['data in the L2 table', ENTRY_OF_L2, '8000000000040000', 'write 64k 512'],
    ['data in the L1 table', ENTRY_OF_L2, '8000000000030000', 'write 64k 512'],
    ['data in a refcount block', ENTRY_OF_L2, '8000000000020000', 'write 64k 512'],
    ['data in the refcount table', ENTRY_OF_L2, '8000000000010000', 'write 64k 512'],
    ['unaligned data', ENTRY_OF_L2, '8000000000050200', 'write 64k 512'],
    ['an unaligned L2 table', ENTRY_OF_L1, '8000000000040200', 'write 64k 512'],
    ['an unaligned refcount block', 0x10000, '0000000000020200', 'write 5M 512'],
  ])('%s', async (_, offset, entry, command) => {
    const disks: Disks = {
      make(folder) {
        IMAGE.make(folder);
        const path = join(folder, 'disk');
        const image = readFileSync(path);
        image.write(entry, offset, 'hex');
        writeFileSync(path, image);
      },
      compared: {},
    };

    await expectSame(disks, ['-c', command, '{}/disk']);
    await expectSame(disks, ['-r', '-c', 'read 64k 512', '-c', 'read 64k 512', '{}/disk']);
  });
});
