import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, MAIN, mustQemuImg, qemuImg, qemuIo } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';
import { encryptedImage, KEY } from './untrusted-images.js';

const KINDS: Record<string, () => string> = {
  'version 3': () => writtenImage(),
  'version 2': () => writtenImage('compat=0.10'),
  'clusters of 512 bytes': () => writtenImage('cluster_size=512'),
  'clusters of 2 MiB': () => writtenImage('cluster_size=2M,preallocation=full'),
  'nothing written': () => newImage('compat=1.1', '3G'),
  'an odd size': () => newImage('compat=1.1', '1234567'),
};

describe('corral map prints what qemu-img map prints', () => {
  test.each(Object.entries(KINDS))('of an image with %s', async (_, make) => {
    const path = make();

    const human = await corralHere('map', path);
    const json = await corralHere('map', '--output=json', path);

    expect(human).toEqual({ status: 0, stdout: mustQemuImg('map', path), stderr: '' });
    expect(json).toEqual({ status: 0, stdout: mustQemuImg('map', '--output=json', path), stderr: '' });
  });

  test.each([
    ['64k', '64k'],
    ['100', '200'],
    ['1M', '8M'],
    ['5M', '100M'],
    ['9.5M', '1'],
    ['20M', '1M'],
    ['0', '0x30000'],
  ])('from %s on, at most %s', async (start, length) => {
    const path = writtenImage();
    const range = ['-s', start, '-l', length];

    const human = await corralHere('map', ...range, path);
    const json = await corralHere('map', '--output=json', `--start-offset=${start}`, `--max-length=${length}`, path);

    expect(human.stdout).toBe(mustQemuImg('map', ...range, path));
    expect(json.stdout).toBe(mustQemuImg('map', '--output=json', ...range, path));
  });

  test('of compressed clusters, which have no place of their own', async () => {
    const plain = writtenImage();
    const path = `${plain}.compressed`;
    mustQemuImg('convert', '-c', '-O', 'qcow2', plain, path);

    const human = await corralHere('map', path);
    const json = await corralHere('map', '--output=json', path);

    expect(json.stdout).toBe(mustQemuImg('map', '--output=json', path));
    expect(human).toEqual({
      status: 1,
      stdout: qemuImg(['map', path]).stdout,
      stderr: 'corral: File contains external, encrypted or compressed clusters.\n',
    });
  });
});

describe('holes of the file inside of clusters', () => {
  test.each([
    'preallocation=metadata',
    'preallocation=metadata,compat=0.10',
    'preallocation=metadata,cluster_size=512,refcount_bits=1',
    'preallocation=metadata,cluster_size=2M,refcount_bits=64',
    'preallocation=metadata,extended_l2=on',
    'preallocation=falloc',
    'preallocation=full',
    'preallocation=metadata,data_file=data',
    'preallocation=metadata,data_file=data,data_file_raw=on',
  ])('map and measure as qemu-img does: %s', async (options) => {
    const folder = temporaryFolder();
    const path = join(folder, 'image');
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', options.replace('=data', `=${folder}/data`), path, '4M');
    // Fewer clusters than there are, so that some of them are holes; the first one only in part.
    qemuIo(path, 'write -P 1 20k 4k', 'write -P 2 1M 100k');

    for (const args of [['map'], ['map', '--output=json'], ['measure', '-O', 'qcow2'], ['measure', '-O', 'raw']]) {
      expect(await corralHere(...args, path)).toEqual({ status: 0, stdout: mustQemuImg(...args, path), stderr: '' });
    }
  });

  test('of the layers of a chain, too', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'overlay');
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', join(folder, 'base'), '1M');
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', path, '2M');
    qemuIo(path, 'write -P 1 100k 100k');

    const json = await corralHere('map', '--output=json', path);

    expect(json.stdout).toBe(mustQemuImg('map', '--output=json', path));
    expect(json.stdout).toContain('"depth": 1, "present": true, "zero": true, "data": true');
  });
});

describe('corral map of an encrypted image', () => {
  test('needs no key to say what qemu-img says with it', async () => {
    const path = join(temporaryFolder(), 'image');
    writeFileSync(path, encryptedImage('aes'));
    const source = [...KEY, '--image-opts'];
    const image = `driver=qcow2,encrypt.format=aes,encrypt.key-secret=key,file.filename=${path}`;
    execFileSync('qemu-io', [...source, '-c', 'write 64k 100k', '-c', 'write -z 1M 64k', image]);

    const human = await corralHere('map', path);
    const json = await corralHere('map', '--output=json', path);

    expect(json).toEqual({ status: 0, stdout: mustQemuImg('map', '--output=json', ...source, image), stderr: '' });
    expect(human).toEqual({
      status: 1,
      stdout: qemuImg(['map', ...source, image]).stdout,
      stderr: 'corral: File contains external, encrypted or compressed clusters.\n',
    });
  });

  test('is refused by name where a part of the disk lies in a backing file', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'overlay');
    writeFileSync(join(folder, 'base'), new Uint8Array(65536));
    const backing = ['-b', 'base', '-F', 'raw'];
    const options = 'encrypt.format=aes,encrypt.key-secret=key';
    mustQemuImg('create', '-q', ...KEY, '-f', 'qcow2', ...backing, '-o', options, path, '1M');

    const { status, stderr } = await corralHere('map', path);

    expect(status).toBe(1);
    expect(stderr).toContain('encryption');
  });
});

describe('corral map of an overlay prints what qemu-img map prints', () => {
  test.each(['extended_l2=on,cluster_size=16k', 'cluster_size=64k'])('(%s)', async (options) => {
    const folder = temporaryFolder();
    const path = join(folder, 'overlay');
    // It ends in the middle of a sector, and of a cluster of the overlay.
    writeFileSync(join(folder, 'base'), new Uint8Array(300_700).fill(1));
    mustQemuImg('create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', 'base', '-o', options, path, '1M');
    qemuIo(path, 'write -P 2 20k 1k', 'write -P 3 290k 2k', 'write -P 4 600k 3k', 'write -z 700k 100k');

    const json = await corralHere('map', '--output=json', path);

    expect(json.stdout).toBe(mustQemuImg('map', '--output=json', path));
  });
});

describe('corral map', () => {
  test('ends quietly when its reader has seen enough', () => {
    // Every other cluster: that gives 200 KB of text, more than a pipe holds.
    const path = newImage('cluster_size=512', '1M');
    writeEveryOtherCluster(path);

    const script = '"$0" "$1" map --output=json "$2" | head -n 1; echo "${PIPESTATUS[0]}"';
    const { stdout, stderr, status } = spawnSync('bash', ['-c', script, process.execPath, MAIN, path], {
      encoding: 'utf8',
    });

    expect(stderr).toBe('');
    expect(stdout).toMatch(/^\[\{ "start": 0, .*\n141\n$/);
    expect(status).toBe(0);
  });

  test.each(['-1', 'x', '1Q', '1.5', '9E'])('refuses %s as a start offset in one line', async (text) => {
    const { status, stdout, stderr } = await corralHere('map', `--start-offset=${text}`, newImage());

    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^corral: Invalid start offset specified.*\n$/);
  });
});

/** One command of qemu-io for all of them would be too long. */
function writeEveryOtherCluster(path: string): void {
  for (let start = 0; start < 2048; start += 1024) {
    const writes = Array.from({ length: 512 }, (_, index) => `write -q ${(start + index * 2) * 512} 512`);
    qemuIo(path, ...writes);
  }
}
