import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CopyOut } from '../../host/cli/copy-out.js';
import { parseGuestName } from '../../host/cli/guest-files.js';
import type { FoundEntry } from '../../host/node/sandbox-filesystem.js';
import { contentsOf, makeExt, makeTree } from '../interop/trees.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, mustQemuImg, type Outcome, qemuIo } from './run-corral.js';

const PARTITION_OFFSET = 2 ** 20;

let folder: string;
let tree: string;
/** A disk with two partitions, of which the first holds the tree, and a snapshot from before it was damaged. */
let image: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'corral-test-'));
  tree = join(folder, 'tree');
  mkdirSync(tree);
  makeTree(tree);
  const part = join(folder, 'part');
  makeExt(tree, part, []);
  const disk = join(folder, 'disk');
  writeFileSync(disk, '');
  truncateSync(disk, 32 * 2 ** 20);
  execFileSync('sgdisk', ['-n', '1:2048:+16M', '-c', '1:data', '-n', '2:0:0', disk], { stdio: 'pipe' });
  execFileSync('dd', [`if=${part}`, `of=${disk}`, 'bs=1M', 'seek=1', 'conv=notrunc'], { stdio: 'pipe' });
  image = join(folder, 'disk.qcow2');
  mustQemuImg('convert', '-f', 'raw', '-O', 'qcow2', disk, image);
  mustQemuImg('snapshot', '-c', 'whole', image);
  qemuIo(image, `write -P 0 ${PARTITION_OFFSET} 4k`);
}, 60_000);

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** In this process; `sandbox.test.ts` shows what the sandbox does. */
function here(verb: string, ...args: string[]): Promise<Outcome> {
  return corralHere(verb, '--sandbox=wasm', ...args);
}

describe('partitions', () => {
  test('are listed with what they hold', async () => {
    const { status, stdout } = await here('partitions', `${image}@whole`);

    expect(status).toBe(0);
    expect(stdout).toMatch(/^1 +1048576 +16 MiB +ext4 +a label +data$/m);
    expect(stdout).toMatch(/^2 .* unknown/m);
  });

  test('are told to programs as JSON', async () => {
    const { stdout } = await here('partitions', '--output=json', '--snapshot=whole', image);

    const { table, partitions } = JSON.parse(stdout);
    expect(table).toBe('gpt');
    expect(partitions[0]).toMatchObject({ number: 1, offset: PARTITION_OFFSET, fileSystem: 'ext4', label: 'a label' });
  });
});

describe('ls', () => {
  test('lists names', async () => {
    const { status, stdout } = await here('ls', `${image}@whole:1`, '/deep');

    expect({ status, names: stdout.split('\n').sort() }).toEqual({
      status: 0,
      names: ['', 'absolute', 'er', 'upwards'],
    });
  });

  test('lists everything with -R, and in detail with --long', async () => {
    const { stdout } = await here('ls', '-R', '--long', `${image}@whole:1`, '/deep');

    expect(stdout).toMatch(/^-rw-r--r-- +0 +0 +300000 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d er\/est\/bytes$/m);
    expect(stdout).toMatch(/^lrwxrwxrwx .* absolute -> \/short$/m);
  });

  test('gives programs JSON', async () => {
    const { stdout } = await here('ls', '--output=json', `${image}@whole:1`, 'short');

    expect(JSON.parse(stdout)).toMatchObject([{ path: '', kind: 'file', size: 12, mode: 0o100644 }]);
  });

  test.each([
    ['/nowhere', /^corral: '\/nowhere': No such file or directory\n$/],
    ['/short/x', /^corral: '\/short\/x': Not a directory\n$/],
  ])('complains in one line of %s', async (path, complaint) => {
    const { status, stdout, stderr } = await here('ls', `${image}@whole:1`, path);

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(complaint);
  });

  test.each([
    [':1', /No file system was recognised/],
    [':2', /No file system was recognised/],
    [':7', /There is no partition 7, but 1, 2/],
    ['', /several partitions \(1, 2\): say which/],
    ['@never:1', /Failed to load snapshot/],
  ])('complains in one line of the part %s', async (part, complaint) => {
    const { status, stderr } = await here('ls', `${image}${part}`);

    expect(status).toBe(1);
    expect(stderr).toMatch(complaint);
    expect(stderr.trimEnd()).not.toContain('\n');
  });
});

describe('cat', () => {
  test('writes the bytes of a file, out of the strongest sandbox', () => {
    const { status, stdout } = corral(['cat', `${image}@whole:1`, '/deep/er/est/bytes'], { encoding: 'buffer' });

    expect(status).toBe(0);
    expect(Buffer.from(stdout).length).toBeGreaterThan(0);
    const bytes = execFileSync(process.execPath, [mainPath(), 'cat', `${image}@whole:1`, '/to bytes']);
    expect(bytes.equals(readFileSync(join(tree, 'deep/er/est/bytes')))).toBe(true);
  });

  test('refuses directories', async () => {
    const { status, stderr } = await here('cat', `${image}@whole:1`, '/deep');

    expect({ status, stderr }).toEqual({ status: 1, stderr: "corral: '/deep': Is a directory\n" });
  });
});

describe('cp', () => {
  test('copies a tree, without its links', async () => {
    const target = join(temporaryFolder(), 'copy');

    const { status, stderr } = await here('cp', '-r', `${image}@whole:1`, '/', target);

    const wanted = Object.fromEntries(Object.entries(contentsOf(tree)).filter(([, what]) => !what.startsWith('-> ')));
    const { '/lost+found': _, ...copied } = contentsOf(target);
    expect(status).toBe(0);
    expect(stderr.trimEnd().split('\n')).toHaveLength(6);
    expect(copied).toEqual(wanted);
  });

  test('copies a file into a folder, with its time', async () => {
    const target = temporaryFolder();

    const { status } = await here('cp', `${image}@whole:1`, '/long/../short', target);

    expect(status).toBe(0);
    expect(readFileSync(join(target, 'short'), 'utf8')).toBe('a few bytes\n');
    expect(statSync(join(target, 'short')).mtimeMs).toBe(
      Math.floor(statSync(join(tree, 'short')).mtimeMs / 1000) * 1000,
    );
  });

  test('overwrites nothing', async () => {
    const target = join(temporaryFolder(), 'mine');
    writeFileSync(target, 'mine');

    const { status, stderr } = await here('cp', `${image}@whole:1`, '/short', target);

    expect(status).toBe(1);
    expect(stderr).toMatch(/File already exists/);
    expect(readFileSync(target, 'utf8')).toBe('mine');
  });

  test('leaves no file that is not whole', async () => {
    const folder = temporaryFolder();
    const silent = { program: 'corral', print: () => {}, complain: () => {}, note: () => {} };
    const copy = await CopyOut.to(folder, '/etc/name', silent);
    const nothing = { modified: undefined, mode: undefined, uid: undefined, gid: undefined };
    const entry: FoundEntry = { path: [], kind: 'file', id: 1, size: 100, ...nothing };

    await copy.entry(entry);
    await copy.data(new Uint8Array(50));

    await expect(copy.finish()).rejects.toThrow(/shorter or longer/);
    await copy.abandon();
    expect(existsSync(join(folder, 'name'))).toBe(false);
  });
});

test.each([
  ['a.qcow2', 'a.qcow2', undefined, undefined],
  ['a.qcow2:1', 'a.qcow2', undefined, 1],
  ['a.qcow2@monday', 'a.qcow2', 'monday', undefined],
  ['d@x/a.qcow2@monday:12', 'd@x/a.qcow2', 'monday', 12],
  ['http://host:8080/a.qcow2', 'http://host:8080/a.qcow2', undefined, undefined],
  ['http://host:8080/a.qcow2@1:2', 'http://host:8080/a.qcow2', '1', 2],
])('%s names an image, a snapshot and a partition', (given, named, snapshot, partition) => {
  expect(parseGuestName(given)).toEqual({ image: named, snapshot, partition });
});

test('a file that is called like that is meant itself', () => {
  const path = join(temporaryFolder(), 'a@b:1');
  writeFileSync(path, '');

  expect(parseGuestName(path)).toEqual({ image: path, snapshot: undefined, partition: undefined });
});

function mainPath(): string {
  return join(import.meta.dirname, '../../dist/host/cli/main.js');
}
