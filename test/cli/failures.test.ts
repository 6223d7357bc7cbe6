/** What cannot be written: one line that says which file and why, a status that is not 0, and nobody's bytes are lost. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { below, chooseSeed, randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, MAIN, mustQemuImg, type Outcome, qemuImg, qemuIo } from './run-corral.js';

const MIB = 1024 * 1024;
/** Bytes of the small file system, and of files where there can be none. */
const SPACE = 2 * MIB;
const NOBODY = 65534;

/** Images that all tests begin with: made once, by QEMU. */
const originals = mkdtempSync(join(tmpdir(), 'corral-'));

beforeAll(async () => {
  const at = (name: string): string => join(originals, name);
  writeFileSync(at('disk.raw'), Buffer.alloc(4 * MIB, 'incompressible? no, but not zeros'));
  mustQemuImg('convert', '-O', 'qcow2', '-f', 'raw', at('disk.raw'), at('disk.qcow2'));
  mustQemuImg('create', '-q', '-f', 'qcow2', at('empty.qcow2'), '4M');
  mustQemuImg('create', '-q', '-f', 'raw', at('short.raw'), '1M');
  mustQemuImg('create', '-q', '-f', 'qcow2', at('image.qcow2'), '8M');
  qemuIo(at('image.qcow2'), 'write -P 1 0 128k');
  mustQemuImg('snapshot', '-c', 'old', at('image.qcow2'));
  mustQemuImg('bitmap', '--add', at('image.qcow2'), 'b');
  qemuIo(at('image.qcow2'), 'write -P 2 64k 128k');
  // One cluster that nobody uses.
  mustQemuImg('create', '-q', '-f', 'qcow2', at('leaky.qcow2'), '1M');
  const leaky = readFileSync(at('leaky.qcow2'));
  leaky.writeUInt16BE(1, 2 * 65536 + 2 * 4);
  writeFileSync(at('leaky.qcow2'), Buffer.concat([leaky, Buffer.alloc(65536)]));
  mustQemuImg('create', '-q', '-f', 'qcow2', at('base.qcow2'), '4M');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', at('over.qcow2'));
  qemuIo(at('over.qcow2'), 'write -P 3 0 4M');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', at('thin.qcow2'));
  // Every module is loaded before somebody runs it who may not read it.
  for (const verb of Object.keys(VERBS)) await corralHere(verb, '--help');
});

afterAll(() => rmSync(originals, { recursive: true }));

/** Verbs that write to an image that is there, with what they are told besides its name, and the image. */
const VERBS = {
  convert: [['-n', '-O', 'qcow2', 'disk.raw'], 'empty.qcow2'],
  resize: [[], 'image.qcow2', '16M'],
  commit: [[], 'over.qcow2'],
  rebase: [['-b', ''], 'thin.qcow2'],
  amend: [['-o', 'refcount_bits=64'], 'empty.qcow2'],
  bitmap: [['--add'], 'image.qcow2', 'new'],
  snapshot: [['-c', 'new'], 'image.qcow2'],
  check: [['-r', 'all'], 'leaky.qcow2'],
} as const satisfies Record<string, readonly [args: readonly string[], image: string, after?: string]>;

/** Runs a command in a folder. */
async function runIn(folder: string, args: readonly string[]): Promise<Outcome> {
  const before = process.cwd();
  process.chdir(folder);
  try {
    return await corralHere(...args);
  } finally {
    process.chdir(before);
  }
}

function copyTo(folder: string, ...names: readonly string[]): void {
  for (const name of names) cpSync(join(originals, name), join(folder, name));
}

function hashes(folder: string): Record<string, string> {
  const hash = (name: string): string =>
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');
  return Object.fromEntries(readdirSync(folder).map((name) => [name, hash(name)]));
}

/** One line, in which the file stands. */
function expectRefusal({ status, stdout, stderr }: Outcome, file: string, reason: RegExp): void {
  expect(stderr).toMatch(/^corral: .*\n$/);
  expect(stderr).toMatch(reason);
  expect(stderr).toContain(`'${file}'`);
  expect(stdout).not.toMatch(/Image resized|Image committed/);
  expect(status).toBe(1);
}

/** What its disk holds is what the original's held, and QEMU finds nothing wrong with the image. */
function expectIntact(folder: string, name: string): void {
  expect(qemuImg(['check', '-q', join(folder, name)])).toMatchObject({ status: 0 });
  mustQemuImg('compare', '-s', join(folder, name), join(originals, name));
}

describe('without space', () => {
  let small: string | undefined;

  beforeAll(() => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-'));
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SPACE}`, 'tmpfs', folder]);
    if (mounted.status === 0) small = folder;
    else rmSync(folder, { recursive: true });
  });

  afterAll(() => {
    if (small === undefined) return;
    spawnSync('umount', [small]);
    rmSync(small, { recursive: true });
  });

  /** A folder in which no file can become longer than the space, and with what a command is run there. */
  function smallSpace(): { folder: string; run(args: readonly string[]): Promise<Outcome> } {
    const folder = small ?? temporaryFolder();
    for (const name of readdirSync(folder)) rmSync(join(folder, name));
    const limited = async (args: readonly string[]): Promise<Outcome> => {
      const words = [`--fsize=${SPACE}`, process.execPath, MAIN, ...args];
      const { status, stdout, stderr } = spawnSync('prlimit', words, { cwd: folder, encoding: 'utf8' });
      return { status, stdout, stderr };
    };
    return { folder, run: small === undefined ? limited : (args) => runIn(folder, args) };
  }

  const NO_SPACE = /No space left on device|File too large/;
  const source = (name: string): string => join(originals, name);

  test.each<[what: string, args: () => readonly string[]]>([
    ['create of all zeros in qcow2', () => ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=full', 'new', '8M']],
    ['create of space in qcow2', () => ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=falloc', 'new', '8M']],
    ['create of all zeros in raw', () => ['create', '-q', '-f', 'raw', '-o', 'preallocation=full', 'new', '8M']],
    ['convert to qcow2', () => ['convert', '-O', 'qcow2', source('disk.qcow2'), 'new']],
    ['convert to raw', () => ['convert', '-O', 'raw', source('disk.qcow2'), 'new']],
    [
      'convert with a data file',
      () => ['convert', '-O', 'qcow2', '-o', 'data_file=new', source('disk.qcow2'), 'image'],
    ],
    ['dd', () => ['dd', '-O', 'qcow2', `if=${source('disk.qcow2')}`, 'of=new']],
  ])('%s names the file, and leaves nothing', async (_, args) => {
    const { folder, run } = smallSpace();
    const before = hashes(originals);

    const outcome = await run(args());

    expectRefusal(outcome, 'new', NO_SPACE);
    expect(readdirSync(folder)).toEqual([]);
    expect(hashes(originals)).toEqual(before);
  });

  test.each<[what: string, args: () => readonly string[]]>([
    ['the target', () => ['convert', '-O', 'raw', source('disk.qcow2'), 'old']],
    ['the data file', () => ['convert', '-O', 'qcow2', '-o', 'data_file=old', source('disk.qcow2'), 'image']],
  ])('convert leaves what was in %s', async (_, args) => {
    const { folder, run } = smallSpace();
    writeFileSync(join(folder, 'old'), 'old');

    const outcome = await run(args());

    expectRefusal(outcome, 'old', NO_SPACE);
    expect(readdirSync(folder)).toEqual(['old']);
    expect(readFileSync(join(folder, 'old'), 'utf8')).toBe('old');
  });

  test.each([
    ['an image', 'empty.qcow2', []],
    ['a raw disk', 'short.raw', ['-f', 'raw']],
  ] as const)('resize of %s leaves it as long as it was', async (_, name, format) => {
    const { folder, run } = smallSpace();
    copyTo(folder, name);

    const outcome = await run(['resize', ...format, '--preallocation=full', name, '16M']);

    expectRefusal(outcome, name, NO_SPACE);
    if (name === 'empty.qcow2') expectIntact(folder, name);
    else expect(hashes(folder)[name]).toBe(hashes(originals)[name]);
  });

  test('rebase leaves the backing file that was there', async () => {
    const { folder, run } = smallSpace();
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', source('disk.qcow2'), '-F', 'qcow2', join(folder, 'thin.qcow2'));

    const outcome = await run(['rebase', '-b', '', 'thin.qcow2']);

    expectRefusal(outcome, 'thin.qcow2', NO_SPACE);
    expectIntact(folder, 'thin.qcow2');
  });

  test('commit names the file behind, and leaves the disk', async () => {
    const { folder, run } = smallSpace();
    const base = join(folder, 'base.qcow2');
    const over = join(temporaryFolder(), 'over.qcow2');
    copyTo(folder, 'base.qcow2');
    cpSync(source('over.qcow2'), over);
    mustQemuImg('rebase', '-u', '-F', 'qcow2', '-b', base, over);

    const outcome = await run(['commit', over]);

    expectRefusal(outcome, base, NO_SPACE);
    expect(qemuImg(['check', '-q', base])).toMatchObject({ status: 0 });
    mustQemuImg('compare', '-s', over, source('over.qcow2'));
  });
});

describe.each([
  ['EIO', 5, 'Input/output error'],
  ['ENOSPC', 28, 'No space left on device'],
])('%s in the middle of', (_, errno, reason) => {
  test.each(Object.entries(VERBS))('%s names the file, and leaves the disk', async (verb, [args, image, after]) => {
    const folder = temporaryFolder();
    copyTo(folder, ...readdirSync(originals));
    const rule = `file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.errno=${errno}`;
    const name = `driver=qcow2,file.driver=blkdebug,file.image.filename=${image},${rule}`;
    const option = verb === 'convert' ? ['--target-image-opts'] : ['--image-opts'];
    const words = args.filter((word, index) => verb !== 'convert' || (word !== '-O' && args[index - 1] !== '-O'));

    const outcome = await runIn(folder, [verb, ...option, ...words, name, ...(after === undefined ? [] : [after])]);

    expect(outcome.stderr).toContain(reason);
    expect(outcome.stderr).toMatch(/^corral: .*\n$/);
    expect(outcome.stderr).toContain(image);
    expect(outcome.status).toBe(1);
    if (verb !== 'check') expectIntact(folder, image);
    const changed = Object.entries(hashes(folder)).filter(([file, hash]) => hashes(originals)[file] !== hash);
    expect(changed.map(([file]) => file).filter((file) => file !== image && file !== 'base.qcow2')).toEqual([]);
  });
});

test('EIO where a disk is read: the file is named, and nothing is made', async () => {
  const folder = temporaryFolder();
  copyTo(folder, 'disk.raw', 'disk.qcow2');
  writeFileSync(join(folder, 'rules'), '[inject-error]\nevent = "read_aio"\n');

  for (const [name, reads] of [
    ['blkdebug:rules:disk.qcow2', ['convert', '-O', 'raw']],
    ['blkdebug:rules:disk.raw', ['convert', '-f', 'raw', '-O', 'qcow2']],
  ] as const) {
    expectRefusal(await runIn(folder, [...reads, name, 'new']), name, /Input\/output error/);
  }
  const compared = await runIn(folder, ['compare', 'disk.qcow2', 'blkdebug:rules:disk.qcow2']);

  expect(readdirSync(folder).sort()).toEqual(['disk.qcow2', 'disk.raw', 'rules']);
  expect(compared.status).toBe(4);
  expect(compared.stderr).toMatch(
    /^corral: Error while reading offset 0 of blkdebug:rules:disk\.qcow2: Input\/output error.*\n$/,
  );
});

describe('where nothing may be written', () => {
  /** Runs this as somebody whom files that belong to root say no to. */
  async function asNobody<T>(work: () => Promise<T>): Promise<T> {
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(NOBODY);
    try {
      return await work();
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  }

  /** A folder with the images that nobody may write to. */
  function protectedFolder(): string {
    const folder = join(temporaryFolder(), 'protected');
    mkdirSync(folder);
    copyTo(folder, ...readdirSync(originals));
    for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o444);
    chmodSync(folder, 0o555);
    chmodSync(join(folder, '..'), 0o755);
    return folder;
  }

  const NEW = {
    create: ['create', '-q', '-f', 'qcow2', 'new', '1M'],
    convert: ['convert', '-O', 'qcow2', 'disk.qcow2', 'new'],
    'convert over a file': ['convert', '-O', 'qcow2', 'disk.raw', 'empty.qcow2'],
    dd: ['dd', '-O', 'qcow2', 'if=disk.qcow2', 'of=new'],
  };
  const there = Object.entries(VERBS).map(
    ([verb, [args, image, after]]) =>
      [`${verb} of ${image}`, [verb, ...args, image, ...(after ? [after] : [])]] as const,
  );
  const all = [...Object.entries(NEW), ...there] as const;

  test.each(all)('%s: no permission', async (_, args) => {
    const folder = protectedFolder();
    const before = hashes(folder);

    const outcome = await asNobody(() => runIn(folder, args));

    chmodSync(folder, 0o755);
    expect(outcome.stderr).toMatch(/^corral: .*'(new|\S+\.qcow2)': Permission denied\n$/);
    expect(outcome.status).toBe(1);
    expect(hashes(folder)).toEqual(before);
  });

  test('a read-only file system says so, whatever the verb', async () => {
    const folder = protectedFolder();
    const bound = spawnSync('mount', ['--bind', folder, folder]).status === 0;
    if (bound) spawnSync('mount', ['-o', 'remount,ro,bind', folder]);
    const before = hashes(folder);

    const outcomes: [name: string, outcome: Outcome][] = [];
    for (const [name, args] of all) outcomes.push([name, await runIn(folder, args)]);

    const after = hashes(folder);
    if (bound) spawnSync('umount', [folder]);
    chmodSync(folder, 0o755);
    for (const [name, { status, stderr }] of outcomes) {
      expect(stderr, name).toMatch(/^corral: .*'(new|\S+\.qcow2)': (Read-only file system|Permission denied)\n$/);
      expect(status, name).toBe(1);
    }
    expect(after).toEqual(before);
  });
});

describe('bad options change nothing', () => {
  test.each([
    ['convert', ['-n', '-O', 'qcow2', '-t', 'bogus', 'disk.raw', 'empty.qcow2']],
    ['convert', ['-O', 'qcow2', '-o', 'cluster_size=3', 'disk.raw', 'empty.qcow2']],
    ['create', ['-f', 'qcow2', '-o', 'bogus=1', 'empty.qcow2', '1M']],
    ['resize', ['--preallocation=bogus', 'empty.qcow2', '16M']],
    ['commit', ['-t', 'bogus', 'over.qcow2']],
    ['rebase', ['-b', 'nowhere.qcow2', '-F', 'qcow2', 'over.qcow2']],
    ['amend', ['-o', 'compat=bogus', 'empty.qcow2']],
    ['bitmap', ['--add', '-g', '3', 'image.qcow2', 'new']],
    ['snapshot', ['-a', 'nobody', 'image.qcow2']],
    ['dd', ['if=disk.raw', 'of=empty.qcow2', 'bs=bogus']],
    ['check', ['-r', 'bogus', 'leaky.qcow2']],
  ])('%s %s', async (verb, args) => {
    const folder = temporaryFolder();
    copyTo(folder, ...readdirSync(originals));
    const before = hashes(folder);

    const { status, stderr } = await runIn(folder, [verb, ...args]);

    expect(stderr).toMatch(/^corral( \w+)?: .*\n(Try '.*\n)?$/);
    expect(status).toBe(1);
    expect(hashes(folder)).toEqual(before);
  });
});

describe('killed at any moment', () => {
  /** Starts the command, and kills it after so many milliseconds; false when it had ended. */
  async function killed(args: readonly string[], milliseconds: number, signal: NodeJS.Signals): Promise<boolean> {
    const child: ChildProcess = spawn(process.execPath, [MAIN, ...args], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    await wait(milliseconds);
    const alive = child.kill(signal);
    await ended;
    return alive && child.exitCode !== 0;
  }

  test('convert leaves no target, and commit the disk', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const folder = temporaryFolder();
    copyTo(folder, ...readdirSync(originals));
    const at = (name: string): string => join(folder, name);

    for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGKILL'] as const) {
      const delay = below(random, 400);
      const converting = killed(['convert', '-O', 'qcow2', '-r', '4M', at('disk.raw'), at('new')], delay, signal);
      const committing = killed(['commit', '-r', '4M', at('over.qcow2')], delay, signal);

      const about = `CORRAL_SEED=${seed}, ${signal} after ${delay} ms`;
      if (await converting) expect(existsSync(at('new')), about).toBe(false);
      await committing;
      expect(corral(['check', '-q', at('base.qcow2')]).status, about).toBeLessThanOrEqual(3);
      expect(qemuImg(['compare', at('over.qcow2'), join(originals, 'over.qcow2')]).status, about).toBe(0);
      copyTo(folder, 'over.qcow2', 'base.qcow2');
      rmSync(at('new'), { force: true });
    }
    expect(statSync(at('disk.raw')).size).toBe(4 * MIB);
  });
});
