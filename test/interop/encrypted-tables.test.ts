/** The tables of encrypted images are walked without a key; QEMU, which has it, says the same. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { loadCore } from '../../host/node/core.js';
import { type Image, openImage, repairImage } from '../../host/node/index.js';
import { NodeFile } from '../../host/node/node-file.js';
import { madeOnce } from '../made-once.js';

const FORMATS = ['luks', 'aes'] as const;
const MIB = 1024 * 1024;
const SECRET = ['--object', 'secret,id=s,data=key'];

function optionsOf(format: string, path: string): string {
  return `driver=qcow2,encrypt.format=${format},encrypt.key-secret=s,file.filename=${path}`;
}

function qemu(program: string, ...words: string[]): string {
  return execFileSync(program, words, { encoding: 'utf8' });
}

/** With data, a snapshot, zeros, and data that only the snapshot still has. */
const imageOf = (format: string): string => madeOnce(format, (path) => make(format, path));

function make(format: string, path: string): void {
  const cheap = format === 'luks' ? ',encrypt.iter-time=10' : '';
  const creation = `encrypt.format=${format},encrypt.key-secret=s${cheap}`;
  qemu('qemu-img', 'create', '-q', ...SECRET, '-f', 'qcow2', '-o', creation, path, '8M');
  const io = (...commands: string[]): string =>
    qemu(
      'qemu-io',
      ...SECRET,
      '--image-opts',
      ...commands.flatMap((command) => ['-c', command]),
      optionsOf(format, path),
    );
  io('write -P 7 64k 300k', 'write -z 1M 128k');
  qemu('qemu-img', 'snapshot', '-c', 'one', ...SECRET, '--image-opts', optionsOf(format, path));
  io('write -P 8 128k 64k');
}

const openTables = (path: string, checkSize = MIB): Promise<Image> => openImage(path, { tablesOnly: true, checkSize });

describe.each(FORMATS)('an image encrypted with %s', (format) => {
  test('is sound, as QEMU counts with the key', async () => {
    const path = imageOf(format);
    await using image = await openTables(path);
    const judged = qemu('qemu-img', 'check', '--output=json', ...SECRET, '--image-opts', optionsOf(format, path));

    const report = await image.check();

    const { corruptions, leaks, checkErrors, allocatedClusters, imageEndOffset, findings } = report;
    const expected = JSON.parse(judged);
    expect({ corruptions, leaks, checkErrors, findings }).toEqual({
      corruptions: 0,
      leaks: 0,
      checkErrors: 0,
      findings: [],
    });
    expect(allocatedClusters).toBe(expected['allocated-clusters']);
    expect(imageEndOffset).toBe(expected['image-end-offset']);
  });

  test('has the map and the snapshots that QEMU sees', async () => {
    const path = imageOf(format);
    await using image = await openTables(path);
    const mapped = qemu('qemu-img', 'map', '--output=json', ...SECRET, '--image-opts', optionsOf(format, path));
    const expected = JSON.parse(mapped).map(({ start, length, data }: Record<string, unknown>) => ({
      start,
      length,
      data,
    }));

    const extents: { start: number; length: number; data: boolean }[] = [];
    for await (const { offset: start, length, kind } of image.map()) {
      const data = kind === 'data';
      const last = extents.at(-1);
      if (last?.data === data) last.length += length;
      else extents.push({ start, length, data });
    }
    const snapshots = await image.snapshots.list();

    expect(extents).toEqual(joined(expected));
    expect(snapshots.map(({ name }) => name)).toEqual(['one']);
  });

  test('keeps its bytes to itself: guest data is refused by name', async () => {
    const path = imageOf(format);
    await using image = await openTables(path);

    await expect(image.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(openImage(path)).rejects.toThrow(/encryption/);
    await image.close();
    await expect(openImage(path, { write: true })).rejects.toThrow(/encryption/);
  });

  test('gets rid of a leak, and QEMU still has the key', async () => {
    const path = imageOf(format);
    const bytes = readFileSync(path);
    const block = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))));
    const leaked = bytes.length / 65536;
    bytes.writeUInt16BE(1, block + 2 * leaked);
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(65536)]));
    const file = await NodeFile.open(path, { write: true });

    const { report } = await repairImage(file, 'leaks', { core: loadCore(), checkSize: MIB });
    await file.close();

    expect(report).toMatchObject({ leaksFixed: 1, leaks: 0, corruptions: 0 });
    const judged = qemu('qemu-img', 'check', ...SECRET, '--image-opts', optionsOf(format, path));
    expect(judged).toContain('No errors were found');
    const read = qemu('qemu-io', ...SECRET, '--image-opts', '-c', 'read -P 8 128k 64k', optionsOf(format, path));
    expect(read).toContain('read 65536/65536');
  });
});

test('new refcount structures count the LUKS header', async () => {
  const path = imageOf('luks');
  const bytes = readFileSync(path);
  bytes.fill(0, Number(bytes.readBigUInt64BE(48)), Number(bytes.readBigUInt64BE(48)) + 65536);
  writeFileSync(path, bytes);
  const file = await NodeFile.open(path, { write: true });

  const { report } = await repairImage(file, 'all', { core: loadCore(), checkSize: MIB });
  await file.close();

  expect(report).toMatchObject({ rebuilt: true, corruptions: 0, leaks: 0, checkErrors: 0 });
  expect(qemu('qemu-img', 'check', ...SECRET, '--image-opts', optionsOf('luks', path))).toContain(
    'No errors were found',
  );
});

test('a LUKS header that reaches beyond the file keeps its clusters, whatever a repair finds', async () => {
  const path = imageOf('luks');
  const bytes = readFileSync(path);
  bytes.writeBigUInt64BE(2n ** 40n, extensionOf(bytes) + 8);
  writeFileSync(path, bytes);
  const file = await NodeFile.open(path, { write: true });

  const { report } = await repairImage(file, 'all', { core: loadCore(), checkSize: MIB });
  await file.close();

  expect(report.leaksKept).toBe(true);
  expect(report.corruptions).toBe(1);
});

test.each([
  [
    'without an extension that names a LUKS header',
    'luks',
    (bytes: Buffer) => bytes.writeUInt32BE(1, extensionOf(bytes) - 8),
  ],
  [
    'whose LUKS header lies between clusters',
    'luks',
    (bytes: Buffer) => bytes.writeBigUInt64BE(512n, extensionOf(bytes)),
  ],
  ['with a LUKS header and another method', 'luks', (bytes: Buffer) => bytes.writeUInt32BE(1, 32)],
] as const)('an image %s is refused by name', async (_what, format, damage) => {
  const path = imageOf(format);
  const bytes = readFileSync(path);
  damage(bytes);
  writeFileSync(path, bytes);

  await expect(openTables(path)).rejects.toThrow(/LUKS header do not agree/);
});

/** Where the data of the LUKS header pointer lies. */
function extensionOf(bytes: Buffer): number {
  let at = bytes.readUInt32BE(100);
  while (bytes.readUInt32BE(at) !== 0x0537be77) at += 8 + ((bytes.readUInt32BE(at + 4) + 7) & ~7);
  return at + 8;
}

function joined(extents: { start: number; length: number; data: boolean }[]): typeof extents {
  const all: typeof extents = [];
  for (const extent of extents) {
    const last = all.at(-1);
    if (last?.data === extent.data) last.length += extent.length;
    else all.push({ ...extent });
  }
  return all;
}
