/** Images that Corral makes with every option: QEMU reads the same options out of them, and writes to them. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createImage, openImage } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';
import { io, qemuCheck } from './check-fixture.js';

const MIB = 1 << 20;

interface Facts {
  'virtual-size': number;
  'cluster-size': number;
  'backing-filename'?: string;
  'backing-filename-format'?: string;
  'format-specific': { data: Record<string, unknown> };
}

function qemuInfo(path: string): Facts {
  return JSON.parse(execFileSync('qemu-img', ['info', '-f', 'qcow2', '--output=json', path], { encoding: 'utf8' }));
}

/** The types of the header extensions, in their order. */
function extensionTypes(bytes: Buffer): number[] {
  const types: number[] = [];
  let offset = bytes.readUInt32BE(4) === 2 ? 72 : bytes.readUInt32BE(100);
  while (bytes.readUInt32BE(offset) !== 0) {
    types.push(bytes.readUInt32BE(offset));
    offset += 8 + ((bytes.readUInt32BE(offset + 4) + 7) & ~7);
  }
  return types;
}

const FEATURE_NAMES = 0x6803f857;

describe('a new image has the options that were asked for, and QEMU writes to it', () => {
  test.each([
    { clusterSize: 512, refcountBits: 1, extendedL2: false, compressionType: 'zstd', lazyRefcounts: true },
    { clusterSize: 4096, refcountBits: 64, extendedL2: false, compressionType: 'zlib', lazyRefcounts: false },
    { clusterSize: 16384, refcountBits: 16, extendedL2: true, compressionType: 'zstd', lazyRefcounts: false },
    { clusterSize: 65536, refcountBits: 2, extendedL2: true, compressionType: 'zlib', lazyRefcounts: true },
    { clusterSize: 2 * MIB, refcountBits: 8, extendedL2: true, compressionType: 'zstd', lazyRefcounts: false },
  ] as const)(
    'clusters of $clusterSize, $refcountBits-bit refcounts, extended L2: $extendedL2, $compressionType',
    async (options) => {
      const path = join(temporaryFolder(), 'image.qcow2');

      await createImage(path, { virtualSize: 64 * MIB, ...options });

      const facts = qemuInfo(path);
      expect(facts['virtual-size']).toBe(64 * MIB);
      expect(facts['cluster-size']).toBe(options.clusterSize);
      expect(facts['format-specific'].data).toMatchObject({
        'refcount-bits': options.refcountBits,
        'extended-l2': options.extendedL2,
        'compression-type': options.compressionType,
        'lazy-refcounts': options.lazyRefcounts,
      });
      // In 512 bytes they would be in the way of every other extension.
      expect(extensionTypes(readFileSync(path))).toEqual(options.clusterSize === 512 ? [] : [FEATURE_NAMES]);
      io(path, ['write -P 5 1M 3M', 'write -c -P 6 32M 2M', 'read -P 5 1M 3M', 'read -P 0 0 1M']);
      expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    },
  );
});

describe('the names of a backing file', () => {
  test.each([
    { clusterSize: 512, compat: '0.10', length: 200 },
    { clusterSize: 1024, compat: '1.1', length: 300 },
    { clusterSize: 4096, compat: '1.1', length: 1000 },
    { clusterSize: 65536, compat: '0.10', length: 1023 },
  ] as const)('stand in the header (clusters of $clusterSize, compat $compat, $length bytes)', async (options) => {
    const { clusterSize, compat, length } = options;
    const path = join(temporaryFolder(), 'image.qcow2');
    const backingFile = 'b'.repeat(length);

    await createImage(path, { virtualSize: MIB, clusterSize, compat, backingFile, backingFormat: 'raw' });

    const facts = qemuInfo(path);
    expect(facts['backing-filename']).toBe(backingFile);
    expect(facts['backing-filename-format']).toBe('raw');
    const image = await openImage(path, { inspect: true });
    expect(image.info).toMatchObject({ backingFile, backingFormat: 'raw' });
    await image.close();
  });

  test('that do not fit the first cluster are refused, and the feature names give way first', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'image.qcow2');
    const options = { virtualSize: MIB, clusterSize: 512, backingFormat: 'raw' };

    await createImage(path, { ...options, backingFile: 'b'.repeat(300) });
    const refused = createImage(join(folder, 'other.qcow2'), { ...options, backingFile: 'b'.repeat(500) });

    await expect(refused).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect(extensionTypes(readFileSync(path))).not.toContain(FEATURE_NAMES);
    expect(qemuInfo(path)['backing-filename']).toBe('b'.repeat(300));
  });

  test('need a file that they are names of', async () => {
    const path = join(temporaryFolder(), 'image.qcow2');

    const refused = createImage(path, { virtualSize: MIB, backingFormat: 'raw' });

    await expect(refused).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });
});

test('the name of a data file and its flags stand in the header', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');

  await createImage(path, { virtualSize: MIB, dataFile: 'image.data', dataFileRaw: true });

  const image = await openImage(path, { inspect: true });
  expect(image.info).toMatchObject({ dataFile: 'image.data', hasDataFile: true, dataFileRaw: true });
  await image.close();
});

test.each([
  { name: 'version 2 with extended L2 entries', options: { compat: '0.10', extendedL2: true } },
  { name: 'version 2 with zstd', options: { compat: '0.10', compressionType: 'zstd' } },
  { name: 'version 2 with a data file', options: { compat: '0.10', dataFile: 'x' } },
  { name: 'subclusters of less than a sector', options: { clusterSize: 8192, extendedL2: true } },
  { name: 'a raw data file over a backing file', options: { dataFile: 'x', dataFileRaw: true, backingFile: 'y' } },
  { name: 'a raw data file that has no name', options: { dataFileRaw: true } },
] as const)('$name is refused', async ({ options }) => {
  const path = join(temporaryFolder(), 'image.qcow2');

  const refused = createImage(path, { virtualSize: MIB, ...options });

  await expect(refused).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
});
