import { chmodSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, mustQemuImg, qemuImg } from './run-corral.js';
import { newImage, withHeaderByte, writtenImage } from './sample-images.js';

const INCOMPATIBLE_FEATURES = 79;
const DIRTY = 1;
const CORRUPT = 2;

/** Images whose facts QEMU tells, all of which we know. */
const KINDS: Record<string, () => string> = {
  'version 3': () => writtenImage(),
  'version 2 with small clusters': () => newImage('compat=0.10,cluster_size=512'),
  'large clusters': () => newImage('cluster_size=2M', '100G'),
  'lazy refcounts': () => newImage('lazy_refcounts=on'),
  'wide refcounts': () => newImage('refcount_bits=64'),
  'narrow refcounts': () => newImage('refcount_bits=1'),
  'extended L2 entries': () => newImage('extended_l2=on'),
  zstd: () => newImage('compression_type=zstd'),
  'preallocated metadata': () => newImage('preallocation=metadata'),
  'no size': () => newImage('compat=1.1', '0'),
  'an odd size': () => newImage('compat=1.1', '1234567'),
  'a huge size': () => newImage('cluster_size=2M', '2000000T'),
  bitmaps: () => withBitmaps(),
  'internal snapshots': () => withSnapshots('compat=1.1'),
  'internal snapshots in version 2': () => withSnapshots('compat=0.10'),
  'the dirty bit': () => withHeaderByte(newImage('lazy_refcounts=on'), INCOMPATIBLE_FEATURES, DIRTY),
  'the corrupt bit': () => withHeaderByte(newImage(), INCOMPATIBLE_FEATURES, CORRUPT),
  'an external data file': () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    const options = `data_file=${join(dirname(path), 'data.raw')},data_file_raw=on`;
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, '10M');
    return path;
  },
  'a backing file': () => overlay('backing.qcow2'),
  'a backing file elsewhere': () => overlay('/somewhere/else.qcow2'),
  'a backing file over the network': () => overlay('nbd://localhost:10809/name'),
};

function withBitmaps(): string {
  const path = newImage();
  mustQemuImg('bitmap', '--add', path, 'enabled one');
  mustQemuImg('bitmap', '--add', '--disable', '-g', '4k', path, 'disabled one');
  return path;
}

function withSnapshots(options: string): string {
  const path = newImage(options);
  for (const name of ['first', 'zw\u00f6lf \u2603', 'a name that is longer than its column'])
    mustQemuImg('snapshot', '-c', name, path);
  return path;
}

function overlay(backing: string): string {
  const path = join(temporaryFolder(), 'image.qcow2');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', backing, '-F', 'qcow2', path, '10M');
  return path;
}

describe('corral info prints what qemu-img info prints', () => {
  test.each(Object.entries(KINDS))('of an image with %s', async (_, make) => {
    const path = make();

    const human = await corralHere('info', path);
    const json = await corralHere('info', '--output=json', path);

    expect(human).toEqual({ status: 0, stdout: mustQemuImg('info', path), stderr: '' });
    expect(json.stderr).toBe('');
    expect(exact(json.stdout)).toEqual(exact(mustQemuImg('info', '--output=json', path)));
  });

  test('byte by byte in JSON, whatever its name has', async () => {
    const path = join(temporaryFolder(), 'caf\u00e9 \x7f\x1b\n \u{1f600} \\u00e9.qcow2');
    mustQemuImg('create', '-q', '-f', 'qcow2', path, '1M');

    const { stdout } = await corralHere('info', '--output=json', path);

    expect(stdout).toBe(mustQemuImg('info', '--output=json', path));
  });

  test('when the image has a relative name, also for the backing file', () => {
    const path = overlay('backing.qcow2');
    const cwd = dirname(dirname(path));
    const name = join(basename(dirname(path)), basename(path));

    const found = corral(['info', name], { cwd });

    expect(found.stdout).toBe(qemuImg(['info', name], { cwd }).stdout);
    expect(found.stdout).toContain(`(actual path: ${dirname(name)}/backing.qcow2)`);
  });

  test('of a chain whose layers have snapshots', async () => {
    const base = withSnapshots('compat=1.1');
    const top = join(dirname(base), 'top.qcow2');
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', basename(base), '-F', 'qcow2', top);
    mustQemuImg('snapshot', '-c', 'of the top', top);

    const human = await corralHere('info', '--backing-chain', top);
    const json = await corralHere('info', '--backing-chain', '--output=json', top);

    expect(human.stdout).toBe(mustQemuImg('info', '--backing-chain', top));
    expect(exact(json.stdout)).toEqual(exact(mustQemuImg('info', '--backing-chain', '--output=json', top)));
  });

  test.each([0, 1, 512, 1000, 459_264, 1_023_488, 10 ** 9])('of a raw file of %i bytes', async (size) => {
    const path = join(temporaryFolder(), 'disk.raw');
    writeFileSync(path, '');
    truncateSync(path, size);

    const human = await corralHere('info', path);
    const json = await corralHere('info', '-f', 'raw', '--output', 'json', path);

    expect(human.stdout).toBe(mustQemuImg('info', '-f', 'raw', path));
    expect(exact(json.stdout)).toEqual(exact(mustQemuImg('info', '-f', 'raw', '--output=json', path)));
  });
});

/** Numbers as text: the largest do not fit into one of JavaScript's. */
function exact(json: string): unknown {
  return JSON.parse(json.replaceAll(/: (\d+)/g, ': "$1"'));
}

describe('corral info', () => {
  test('says of encryption at least that it is there', async () => {
    const locked = join(temporaryFolder(), 'locked.qcow2');
    const encryption = ['-o', 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10'];
    mustQemuImg('create', '-q', '-f', 'qcow2', '--object', 'secret,id=key,data=x', ...encryption, locked, '1M');

    const ofLocked = await corralHere('info', locked);

    expect(ofLocked.stdout).toMatch(/^encrypted: yes$/m);
    expect(ofLocked.stdout).toMatch(/^ {8}format: luks$/m);
  });

  test('opens nothing that the image names', async () => {
    const path = overlay('/nowhere/at/all.qcow2');

    const { status, stdout } = await corralHere('info', path);

    expect(status).toBe(0);
    expect(stdout).toContain('backing file: /nowhere/at/all.qcow2\n');
  });

  test('shows names that would deceive a terminal in plain characters', async () => {
    const path = overlay('XXXXXXXXXXXXXXXXXXXXX');
    const bytes = readFileSync(path);
    const name = Buffer.from('\x1b[2J\r\n\u202egnp.\u009b\u200b\xff', 'utf8');
    name[name.length - 1] = 0xff;
    name.copy(bytes, bytes.indexOf('XXXXXXXXX'));
    bytes.writeUInt32BE(name.length, 16);
    writeFileSync(path, bytes);

    const human = await corralHere('info', path);
    const json = await corralHere('info', '--output', 'json', path);

    expect(human.stdout).toContain('backing file: \\x1b[2J\\x0d\\x0a\\u{202e}gnp.\\x9b\\u{200b}');
    expect(human.stdout).toMatch(/^[ -~\n]*$/);
    expect(json.stdout).toMatch(/^[ -~\n]*$/);
    expect(JSON.parse(json.stdout)['backing-filename']).toMatch(/^\x1b\[2J\r\n\u202egnp\.\u009b\u200b/);
  });

  test('takes part in locking: an image that is being written needs -U', async () => {
    const path = newImage();
    const { NodeFile } = await import('../../host/node/index.js');
    const writer = await NodeFile.open(path, { write: true });

    const refused = corral(['info', path]);
    const shared = corral(['info', '-U', path]);
    await writer.close();

    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(
      /^corral: Could not open '.*': Failed to get shared "write" lock\nIs another process using the image \[.*\]\?\n$/,
    );
    expect(shared.status).toBe(0);
  });

  test.each([
    ['a missing file', 'missing', /No such file or directory/],
    ['a folder', '.', /to be a regular file/],
    ['a device of characters', '/dev/null', /to be a regular file/],
    ['a name that is too long', 'x'.repeat(300), /[Nn]ame too long/],
  ])('has one line for %s', (_, path, reason) => {
    const { status, stdout, stderr } = corral(['info', path], { cwd: temporaryFolder() });

    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^corral: Could not open '.*': .*\n$/);
    expect(stderr).toMatch(reason);
  });

  test('-f qcow2 refuses what is none', async () => {
    const path = join(temporaryFolder(), 'disk.raw');
    writeFileSync(path, 'no image at all');
    chmodSync(path, 0o444);

    const { status, stderr } = await corralHere('info', '-f', 'qcow2', path);

    expect(status).toBe(1);
    expect(stderr).toBe(`corral: Could not open '${path}': Image is not in qcow2 format\n`);
  });
});
