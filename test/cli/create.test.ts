import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, mustQemuImg, qemuImg } from './run-corral.js';

const ACCEPTED: string[][] = [
  ['-f', 'qcow2', 'x', '1G'],
  ['-f', 'qcow2', 'x', '0'],
  ['-f', 'qcow2', 'x', '1000'],
  ['-f', 'qcow2', 'x', '1.5G'],
  ['-f', 'qcow2', 'x', '0x100000'],
  ['-f', 'qcow2', 'x', '100b'],
  ['-f', 'qcow2', 'x', '2t'],
  ['-f', 'qcow2', '-o', 'cluster_size=2M', 'x', '100T'],
  ['-f', 'qcow2', '-o', 'cluster_size=512,compat=0.10', 'x', '10M'],
  ['-f', 'qcow2', '-o', 'compat=1.1,lazy_refcounts=on', 'x', '10M'],
  ['-f', 'qcow2', '-o', 'cluster_size=4k', '-o', 'preallocation=off,refcount_bits=16', 'x', '10M'],
  ['-f', 'qcow2', '-o', 'extended_l2=on,compression_type=zstd,refcount_bits=1', 'x', '100G'],
  ['-f', 'qcow2', '-o', 'cluster_size=512,refcount_bits=64', 'x', '10M'],
  ['-f', 'qcow2', '-o', 'size=5M', 'x'],
  ['-f', 'raw', 'x', '1M'],
  ['-f', 'qcow2', '-o', 'preallocation=metadata', 'x', '10M'],
  ['-f', 'qcow2', '-o', 'preallocation=falloc,compat=0.10', 'x', '10M'],
  ['-f', 'qcow2', '-o', 'preallocation=full,extended_l2=on', 'x', '10M'],
  ['-f', 'raw', '-o', 'preallocation=falloc', 'x', '1M'],
  ['-f', 'raw', '-o', 'preallocation=full', 'x', '1M'],
  ['-f', 'raw', 'x', '1000'],
  ['-q', '-f', 'qcow2', 'x', '1M'],
];

describe('corral create makes what qemu-img create makes', () => {
  test.each(ACCEPTED.map((args) => [args.join(' '), args] as const))('with %s', async (_, args) => {
    const format = args.includes('raw') ? 'raw' : 'qcow2';
    const [ours, theirs] = [temporaryFolder(), temporaryFolder()];

    const made = corral(['create', ...args], { cwd: ours });

    const expected = qemuImg(['create', ...args], { cwd: theirs });
    expect(made).toEqual(expected);
    const info = (folder: string) =>
      JSON.parse(qemuImg(['info', '-f', format, '--output=json', 'x'], { cwd: folder }).stdout);
    const facts = ({ 'virtual-size': size, 'cluster-size': cluster, 'format-specific': specific }: Info) => [
      size,
      cluster,
      specific,
    ];
    expect(facts(info(ours))).toEqual(facts(info(theirs)));
    if (format === 'qcow2') {
      expect(qemuImg(['check', 'x'], { cwd: ours })).toMatchObject({ status: 0, stderr: '' });
    }
  });
});

interface Info {
  'virtual-size': number;
  'cluster-size': number;
  'format-specific': unknown;
}

const REFUSED: [args: string[], reason: RegExp][] = [
  [['x'], /Image creation needs a size parameter/],
  [['x', 'big'], /Invalid image size specified: 'big'\./],
  [['x', '1e3'], /Invalid image size specified: '1e3'\./],
  [['x', '1KiB'], /Invalid image size specified: '1KiB'\./],
  [['x', '9E'], /Must be between 0 and 9223372036854775807/],
  [['x', '1E'], /too large for file format 'qcow2' \(try using a larger cluster size\)/],
  [['-f', 'vmdk', 'x', '1M'], /Unknown file format 'vmdk'/],
  [['-o', 'size=1M', 'x', '1M'], /size must be specified only once/],
  [['-o', 'colour=red', 'x', '1M'], /Invalid parameter 'colour'/],
  [['-f', 'raw', '-o', 'cluster_size=4k', 'x', '1M'], /Invalid parameter 'cluster_size'/],
  [['-o', 'cluster_size=1000', 'x', '1M'], /Cluster size must be a power of two between 512 and 2048k/],
  [['-o', 'cluster_size=4M', 'x', '1M'], /Cluster size must be a power of two between 512 and 2048k/],
  [['-o', 'cluster_size=big', 'x', '1M'], /'cluster_size' expects a non-negative number below 2\^64/],
  [['-o', 'compat=0.9', 'x', '1M'], /'version' does not accept value '0.9'/],
  [['-o', 'refcount_bits=3', 'x', '1M'], /Refcount width must be a power of two and may not exceed 64 bits/],
  [['-o', 'compat=0.10,refcount_bits=32', 'x', '1M'], /Different refcount widths than 16 bits require/],
  [['-o', 'compat=0.10,lazy_refcounts=on', 'x', '1M'], /Lazy refcounts only supported with/],
  [['-o', 'lazy_refcounts=perhaps', 'x', '1M'], /'lazy_refcounts' expects 'on' or 'off'/],
  [['-o', 'extended_l2=on,compat=0.10', 'x', '1M'], /Extended L2 entries are only supported with compat.* level 1.1/],
  [['-o', 'extended_l2=on,cluster_size=8k', 'x', '1M'], /cluster sizes of at least 16384 bytes/],
  [['-F', 'qcow2', 'x', '1M'], /Backing format cannot be used without backing file/],
  [['-o', 'encrypt.format=luks', 'x', '1M'], /'encrypt.format' is not supported yet/],
  [['-o', 'compression_type=zstd,compat=0.10', 'x', '1M'], /Non-zlib compression type is only supported with/],
  [['-o', 'compression_type=lz4', 'x', '1M'], /'compression-type' does not accept value 'lz4'/],
  [['-o', 'preallocation=some', 'x', '1M'], /'preallocation' does not accept value 'some'/],
  [['-f', 'raw', '-o', 'preallocation=metadata', 'x', '1M'], /Unsupported preallocation mode: metadata/],
  [['-u', '-b', 'y', '-F', 'qcow2', '-o', 'preallocation=full', 'x', '1M'], /at the same time if extended_l2 is on/],
  [['-b', '/nowhere/y', '-F', 'raw', 'x', '1M'], /Could not open '\/nowhere\/y': No such file or directory/],
];

describe('corral create refuses, and leaves an existing file alone,', () => {
  test.each(REFUSED.map(([args, reason]) => [args.join(' '), args, reason] as const))('%s', async (_, args, reason) => {
    const path = join(temporaryFolder(), 'x');
    writeFileSync(path, 'precious');

    const { status, stdout, stderr } = await corralHere('create', ...args.map((arg) => (arg === 'x' ? path : arg)));

    expect(status).toBe(1);
    // What is about to be made is said first, as by QEMU.
    expect(stdout).toMatch(/^(Formatting .*\n)?$/);
    expect(stderr).toMatch(/^corral: .*\n/);
    expect(stderr).toMatch(reason);
    expect(readFileSync(path, 'utf8')).toBe('precious');
  });
});

describe('corral create', () => {
  test('overwrites an existing file, as qemu-img does', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    writeFileSync(path, Buffer.alloc(1 << 20, 0xff));

    await corralHere('create', path, '1M');

    expect(statSync(path).size).toBeLessThan(1 << 20);
    expect(mustQemuImg('check', path)).toContain('No errors were found');
  });

  test('does not overwrite an image that somebody uses', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');
    mustQemuImg('create', '-q', '-f', 'qcow2', path, '1M');
    const before = readFileSync(path);
    const { NodeFile } = await import('../../host/node/index.js');
    const user = await NodeFile.open(path, { write: true });

    const { status, stderr } = corral(['create', path, '2M']);
    await user.close();

    expect(status).toBe(1);
    expect(stderr).toMatch(/^corral: .*Failed to get "write" lock\nIs another process using the image \[.*\]\?\n$/);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test.each([
    ['the data file has no folder', 'gone/data', 'image.qcow2', 'gone/data', 'No such file or directory'],
    ['the data file is a folder', '.', 'image.qcow2', '.', 'Is a directory'],
    ['the image has no folder', 'data', 'gone/image.qcow2', 'gone/image.qcow2', 'No such file or directory'],
    ['the image has no folder and the data file is new', 'new', 'gone/x', 'gone/x', 'No such file or directory'],
  ])('touches neither an image nor a data file when %s', (_, data, image, which, reason) => {
    const folder = temporaryFolder();
    const names = ['data', 'image.qcow2'];
    for (const name of names) writeFileSync(join(folder, name), name);

    const { status, stderr } = corral(['create', '-q', '-o', `data_file=${data}`, image, '1M'], { cwd: folder });

    expect(status).toBe(1);
    expect(stderr).toBe(`corral: ${image}: Could not create '${which}': ${reason}\n`);
    expect(readdirSync(folder).sort()).toEqual(names);
    expect(names.map((name) => readFileSync(join(folder, name), 'utf8'))).toEqual(names);
  });

  test('does not empty a data file that is the image itself, nor one that somebody uses', async () => {
    const folder = temporaryFolder();
    const [image, data] = [join(folder, 'image.qcow2'), join(folder, 'data')];
    for (const path of [image, data]) writeFileSync(path, 'precious');
    const { NodeFile } = await import('../../host/node/index.js');
    const user = await NodeFile.open(data, { write: true });

    const itself = corral(['create', '-q', '-o', `data_file=${image}`, image, '1M']);
    const used = corral(['create', '-q', '-o', `data_file=${data}`, image, '1M']);
    await user.close();

    expect([itself.status, used.status]).toEqual([1, 1]);
    expect([image, data].map((path) => readFileSync(path, 'utf8'))).toEqual(['precious', 'precious']);
  });

  test('leaves nothing behind when the folder is missing', async () => {
    const path = join(temporaryFolder(), 'missing', 'image.qcow2');

    const { status, stderr } = await corralHere('create', path, '1M');

    expect(status).toBe(1);
    expect(stderr).toBe(`corral: ${path}: Could not create '${path}': No such file or directory\n`);
    expect(existsSync(path)).toBe(false);
  });
});

test('metadata alone takes no space in an external data file', async () => {
  const folder = temporaryFolder();
  const [image, data] = [join(folder, 'image'), join(folder, 'data')];
  writeFileSync(data, new Uint8Array(1 << 20).fill(1));

  await corralHere('create', '-q', '-o', `data_file=${data},preallocation=metadata`, image, '4M');

  const { size, blocks } = statSync(data);
  expect([size, blocks * 512 < 65536]).toEqual([4 << 20, true]);
  expect(JSON.parse(mustQemuImg('check', '--output=json', image))['allocated-clusters']).toBe(64);
});
