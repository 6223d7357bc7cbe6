/** Properties that change while the disk keeps what it holds: QEMU sees the new ones, and the same bytes. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { AmendImageOptions } from '../../host/amend.js';
import { openImage, pathGate } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { shortenExtraData } from '../snapshot-extra-data.js';
import { temporaryFolder } from '../temporary-folder.js';
import { Damage, io, makeImage, qemuCheck, snapshot } from './check-fixture.js';

const CLEAN = { corruptions: 0, leaks: 0, checkErrors: 0 };
const FEATURE_NAMES = 0x6803f857;
const UNKNOWN = 0x12345678;

interface Facts {
  'backing-filename'?: string;
  'backing-filename-format'?: string;
  'format-specific': { data: Record<string, unknown> };
}

function qemuInfo(path: string): Facts {
  return JSON.parse(execFileSync('qemu-img', ['info', '-f', 'qcow2', '--output=json', path], { encoding: 'utf8' }));
}

function bytesOf(path: string): Buffer {
  const raw = join(temporaryFolder(), 'raw');
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

async function amend(path: string, options: AmendImageOptions): Promise<void> {
  const image = await openImage(path, { write: true, tablesOnly: true });
  try {
    await image.amend(options);
  } finally {
    await image.close();
  }
}

/** Header extensions by type. */
function extensionsOf(path: string): Map<number, Buffer> {
  const bytes = readFileSync(path);
  const found = new Map<number, Buffer>();
  let offset = bytes.readUInt32BE(4) === 2 ? 72 : bytes.readUInt32BE(100);
  while (bytes.readUInt32BE(offset) !== 0) {
    const length = bytes.readUInt32BE(offset + 4);
    found.set(bytes.readUInt32BE(offset), bytes.subarray(offset + 8, offset + 8 + length));
    offset += 8 + ((length + 7) & ~7);
  }
  return found;
}

/** Puts an extension that nobody knows in front of the others. */
function addUnknown(path: string, data: string): void {
  const bytes = readFileSync(path);
  const start = bytes.readUInt32BE(4) === 2 ? 72 : bytes.readUInt32BE(100);
  const length = 8 + ((data.length + 7) & ~7);
  bytes.copy(bytes, start + length, start, start + 1024);
  bytes.fill(0, start, start + length);
  bytes.writeUInt32BE(UNKNOWN, start);
  bytes.writeUInt32BE(data.length, start + 4);
  bytes.write(data, start + 8);
  writeFileSync(path, bytes);
}

/** How an image is made that version 2 cannot hold. */
interface Refused {
  refcountBits?: number;
  more?: string[];
  snapshot?: boolean;
  bitmap?: boolean;
  /** Commands after the snapshot. */
  after?: string[];
}

/** What snapshot `name` holds, for QEMU. */
function bytesOfSnapshot(path: string, name: string): Buffer {
  const raw = join(temporaryFolder(), 'raw');
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-l', `snapshot.name=${name}`, '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

/** Writes and zeros, kept and not, of whole clusters and parts, often in the same places. */
function drawCommands(random: () => number): string[] {
  return Array.from({ length: 12 }, (_, index) => {
    const verb = ['write -z', 'write -z -u', `write -P ${index + 1}`][below(random, 3)];
    const length = 1024 * (1 + below(random, 150));
    return `${verb} ${512 * below(random, (2 ** 20 - length) / 512)} ${length}`;
  });
}

/** The entries of the snapshot table, each as it stands there; the L1 tables may lie anywhere. */
function snapshotTableOf(path: string): string[] {
  const bytes = readFileSync(path);
  const entries: string[] = [];
  let start = Number(bytes.readBigUInt64BE(64));
  for (let index = bytes.readUInt32BE(60); index > 0; index--) {
    const end =
      start + 40 + bytes.readUInt32BE(start + 36) + bytes.readUInt16BE(start + 12) + bytes.readUInt16BE(start + 14);
    entries.push(bytes.toString('hex', start + 8, end));
    start = (end + 7) & ~7;
  }
  return entries;
}

const WRITES = ['write -P 7 0 300k', 'write -P 8 700k 4k', 'write -P 9 1020k 4k'];

describe('refcounts of another width', () => {
  const widths = [1, 2, 4, 8, 16, 32, 64];
  test.each(widths.flatMap((from) => [512, 65536].map((clusterSize) => ({ from, clusterSize }))))(
    'from $from bits to every other and back, clusters of $clusterSize',
    async ({ from, clusterSize }) => {
      const path = makeImage({ clusterSize, refcountBits: from }, WRITES);
      const before = bytesOf(path);

      for (const refcountBits of [...widths.filter((bits) => bits !== from), from]) {
        await amend(path, { refcountBits });

        expect(qemuCheck(path), `${refcountBits} bits`).toMatchObject(CLEAN);
        expect(qemuInfo(path)['format-specific'].data['refcount-bits']).toBe(refcountBits);
      }
      expectSameBytes(bytesOf(path), before);
      io(path, ['write -P 5 300k 400k']);
      expect(qemuCheck(path)).toMatchObject(CLEAN);
    },
  );

  test('are refused when a count does not fit, and nothing has changed', async () => {
    const path = makeImage({ clusterSize: 4096 }, WRITES);
    for (let index = 0; index < 4; index++) snapshot(path, `${index}`);
    const before = qemuCheck(path);

    const refused = amend(path, { refcountBits: 2 });

    await expect(refused).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    expect(qemuCheck(path)).toEqual(before);
    await amend(path, { refcountBits: 4 });
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test('count what is written while the image is open', async () => {
    const path = makeImage({ clusterSize: 512 }, WRITES);
    const image = await openImage(path, { write: true });

    await image.amend({ refcountBits: 64 });
    await image.write(300_000, new Uint8Array(700_000).fill(3));
    await image.discard(0, 200_000);
    await image.amend({ refcountBits: 1 });
    await image.write(0, new Uint8Array(100_352).fill(4));
    await image.close();

    expect(qemuCheck(path)).toMatchObject(CLEAN);
    io(path, ['read -P 3 300032 699392', 'read -P 4 0 100352', 'read -P 0 100352 99328']);
  });
});

describe('another version', () => {
  test.each([512, 4096, 65536])('down and up again, clusters of %i', async (clusterSize) => {
    const path = makeImage({ clusterSize }, [...WRITES, 'write -z 8k 64k', 'write -z -u 100k 64k']);
    const before = bytesOf(path);

    await amend(path, { compat: '0.10' });

    expect(qemuInfo(path)['format-specific'].data.compat).toBe('0.10');
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectSameBytes(bytesOf(path), before);
    await amend(path, { compat: '1.1', lazyRefcounts: true });
    expect(qemuInfo(path)['format-specific'].data).toMatchObject({ compat: '1.1', 'lazy-refcounts': true });
    // In 512 bytes they would be in the way of every other extension.
    expect(extensionsOf(path).get(FEATURE_NAMES)?.length).toBe(clusterSize === 512 ? undefined : 384);
    io(path, ['write -P 5 0 1M']);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test.each([512, 65536])('keeps snapshots, down and up again, clusters of %i', async (clusterSize) => {
    const path = makeImage({ clusterSize }, [...WRITES, 'write -z -u 64k 128k']);
    snapshot(path, 'one');
    io(path, ['write -P 3 100k 30k', 'write -z -u 700k 64k']);
    snapshot(path, 'two');
    io(path, ['write -P 4 0 1M', 'write -z -u 300k 300k']);
    const before = [bytesOf(path), bytesOfSnapshot(path, 'one'), bytesOfSnapshot(path, 'two')];

    for (const compat of ['0.10', '1.1'] as const) {
      await amend(path, { compat });

      expect(qemuInfo(path)['format-specific'].data.compat).toBe(compat);
      expect(qemuCheck(path)).toMatchObject(CLEAN);
      const after = [bytesOf(path), bytesOfSnapshot(path, 'one'), bytesOfSnapshot(path, 'two')];
      for (const [index, bytes] of after.entries()) expectSameBytes(bytes, before[index] as Buffer);
    }
    execFileSync('qemu-img', ['snapshot', '-d', 'one', path]);
    execFileSync('qemu-img', ['snapshot', '-a', 'two', path]);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectSameBytes(bytesOf(path), before[2] as Buffer);
  });

  test('is refused before the refcounts get another width', async () => {
    const path = makeImage({ clusterSize: 65536, refcountBits: 8 }, ['write -P 1 0 64k']);
    snapshot(path, 'one');
    execFileSync('qemu-img', ['resize', '-q', path, '2M']);
    const before = readFileSync(path);

    const refused = amend(path, { compat: '0.10', refcountBits: 16 });

    await expect(refused).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test.each([
    { clusterSize: 512, tablesOnly: true },
    { clusterSize: 65536, tablesOnly: true },
    { clusterSize: 65536, tablesOnly: false },
  ])('over a backing file has the zeros written that hid it: %j', async ({ clusterSize, tablesOnly }) => {
    const path = makeImage({ clusterSize }, ['write -P 1 0 64k']);
    const backing = makeImage({ clusterSize: 65536 }, ['write -P 9 0 768k']);
    execFileSync('qemu-img', ['rebase', '-u', '-b', backing, '-F', 'qcow2', path]);
    io(path, [
      'write -z -u 64k 128k',
      'write -z 320k 64k',
      'write -P 4 512k 64k',
      'write -z 512k 64k',
      'write -z -u 960k 64k',
    ]);
    const before = bytesOf(path);

    const image = await openImage(path, { write: true, tablesOnly, gate: pathGate() });
    await image.amend({ compat: '0.10' });
    await image.close();

    expect(qemuInfo(path)['format-specific'].data.compat).toBe('0.10');
    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectSameBytes(bytesOf(path), before);
    io(path, ['write -P 6 0 1M']);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test('with a backing file since just now has the zeros written that hide it', async () => {
    const path = makeImage({ clusterSize: 65536 }, ['write -z -u 0 64k']);
    const backing = makeImage({ clusterSize: 65536 }, ['write -P 9 0 1M']);

    await amend(path, { backingFile: backing, backingFormat: 'qcow2', compat: '0.10' });

    io(path, ['read -P 0 0 64k', 'read -P 9 64k 960k']);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test('does not touch what a snapshot holds where the disk has kept the cluster for zeros', async () => {
    const path = makeImage({ clusterSize: 65536 }, ['write -P 7 0 256k']);
    snapshot(path, 'one');
    io(path, ['write -z 0 64k']);
    const other = join(temporaryFolder(), 'other.qcow2');
    writeFileSync(other, readFileSync(path));
    const before = bytesOfSnapshot(path, 'one');

    await amend(path, { compat: '0.10' });

    expect(qemuCheck(path)).toMatchObject(CLEAN);
    expectSameBytes(bytesOfSnapshot(path, 'one'), before);
    // QEMU 10 zeroes the cluster that they share.
    execFileSync('qemu-img', ['amend', '-f', 'qcow2', '-o', 'compat=0.10', other]);
    expect(bytesOfSnapshot(other, 'one').equals(before)).toBe(false);
  });

  test.each([512, 4096, 65536].flatMap((clusterSize) => [false, true].map((covers) => ({ clusterSize, covers }))))(
    'with zeros of all kinds that snapshots share: %j',
    async ({ clusterSize, covers }) => {
      const seed = chooseSeed();
      const random = randomFrom(seed);
      const path = makeImage({ clusterSize });
      if (covers) {
        const backing = makeImage({ clusterSize: 65536 }, ['write -P 9 0 1M']);
        execFileSync('qemu-img', ['rebase', '-u', '-b', backing, '-F', 'qcow2', path]);
      }
      const names = ['one', 'two', 'three'];
      for (const name of [...names, undefined]) {
        io(path, drawCommands(random));
        if (name !== undefined) snapshot(path, name);
      }
      const before = [bytesOf(path), ...names.map((name) => bytesOfSnapshot(path, name))];

      // Other clusters wait in the smallest cache: nothing that is resident helps.
      const image = await openImage(path, { write: true, tablesOnly: true, cacheSize: 0 });
      await image.amend({ compat: '0.10' });
      await image.close();

      expect(qemuCheck(path), `seed ${seed}`).toMatchObject(CLEAN);
      const after = [bytesOf(path), ...names.map((name) => bytesOfSnapshot(path, name))];
      for (const [index, bytes] of after.entries()) expectSameBytes(bytes, before[index] as Buffer, `seed ${seed}:`);
      execFileSync('qemu-img', ['snapshot', '-d', 'two', path]);
      execFileSync('qemu-img', ['snapshot', '-a', 'one', path]);
      io(
        path,
        drawCommands(random).filter((command) => !command.includes('-z')),
      );
      expect(qemuCheck(path), `seed ${seed}`).toMatchObject(CLEAN);
      expectSameBytes(bytesOfSnapshot(path, 'three'), before[3] as Buffer, `seed ${seed}:`);
    },
  );

  test('is refused where refcounts have to sink that are wrong', async () => {
    const path = makeImage({ clusterSize: 65536 }, ['write -P 7 0 64k']);
    snapshot(path, 'one');
    io(path, ['write -z 0 64k']);
    const damage = new Damage(path);
    damage.setRefcount((damage.number(damage.l1(0)) % 2 ** 48) / 65536, 2);
    damage.save();
    const before = readFileSync(path);

    const refused = amend(path, { compat: '0.10' });

    await expect(refused).rejects.toThrow(/wrong refcounts: the cluster at file offset \d+ has 2, and 1 references/);
    expect(readFileSync(path).equals(before)).toBe(true);
    execFileSync('qemu-img', ['check', '-q', '-r', 'leaks', path], { stdio: 'pipe' });
    await amend(path, { compat: '0.10' });
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test.each([
    { clusterSize: 512, extra: 0 },
    { clusterSize: 65536, extra: 0 },
    { clusterSize: 4096, extra: 8 },
  ])('upwards, with snapshots that do not say how large the disk was: %j', async ({ clusterSize, extra }) => {
    const path = makeImage({ clusterSize, compat: '0.10' }, WRITES);
    const names = ['one', 'another one', 'three'];
    for (const [index, name] of names.entries()) {
      io(path, [`write -P ${index + 20} ${index * 100}k 50k`]);
      snapshot(path, name);
    }
    const shortened = readFileSync(path);
    shortenExtraData(shortened, extra);
    writeFileSync(path, shortened);
    const other = join(temporaryFolder(), 'other.qcow2');
    writeFileSync(other, readFileSync(path));
    const before = names.map((name) => bytesOfSnapshot(path, name));

    await amend(path, { compat: '1.1' });

    expect(qemuCheck(path)).toMatchObject(CLEAN);
    for (const [index, name] of names.entries()) {
      expectSameBytes(bytesOfSnapshot(path, name), before[index] as Buffer);
    }
    // Both have written the same table.
    execFileSync('qemu-img', ['amend', '-f', 'qcow2', '-o', 'compat=1.1', other]);
    expect(snapshotTableOf(path)).toEqual(snapshotTableOf(other));
    execFileSync('qemu-img', ['resize', '-q', path, '2M']);
    execFileSync('qemu-img', ['snapshot', '-a', 'one', path]);
    expectSameBytes(bytesOf(path), before[0] as Buffer);
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test('knows no zero clusters behind the end of the disk either', async () => {
    const path = makeImage({ clusterSize: 65536 }, ['write -P 1 0 64k', 'write -z 512k 64k']);
    const image = readFileSync(path);
    image.writeBigUInt64BE(131_072n, 24);
    writeFileSync(path, image);

    await amend(path, { compat: '0.10' });

    expect(qemuInfo(path)['format-specific'].data.compat).toBe('0.10');
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test.each([
    { name: 'another refcount width', make: { refcountBits: 8 }, commands: [] },
    { name: 'subclusters', make: { more: ['extended_l2=on'] }, commands: [] },
    {
      name: 'compressed clusters of type zstd',
      make: { more: ['compression_type=zstd'] },
      commands: ['write -c 448k 64k'],
    },
    {
      name: 'compressed clusters of type zstd in a snapshot only',
      make: { more: ['compression_type=zstd'], snapshot: true, after: ['write -P 1 448k 64k'] },
      commands: ['write -c 448k 64k'],
    },
    { name: 'bitmaps', make: { bitmap: true }, commands: [] },
  ] as { name: string; make: Refused; commands: string[] }[])(
    'version 2 cannot have $name',
    async ({ make, commands }) => {
      const { refcountBits = 16, more = [], after = [] } = make;
      const path = makeImage({ clusterSize: 65536, refcountBits, more }, WRITES);
      io(path, commands);
      if (make.snapshot) snapshot(path, 'one');
      if (make.bitmap) execFileSync('qemu-img', ['bitmap', '--add', path, 'bitmap']);
      io(path, after);
      const before = readFileSync(path);

      const refused = amend(path, { compat: '0.10' });

      await expect(refused).rejects.toMatchObject({
        code: expect.stringMatching(/ERR_(UNSUPPORTED|INVALID_ARGUMENT)/),
      });
      expect(readFileSync(path).equals(before)).toBe(true);
    },
  );
});

describe('another backing file', () => {
  test.each([
    { clusterSize: 512, compat: '0.10' as const, lengths: [60, 100, 30] },
    { clusterSize: 1024, compat: '1.1' as const, lengths: [200, 180, 10, 250, 220] },
    { clusterSize: 4096, compat: '1.1' as const, lengths: [1000, 900, 1, 1023, 1022, 500, 1023] },
    { clusterSize: 65536, compat: '1.1' as const, lengths: [1000, 900, 1, 1023, 1022, 500, 1023] },
    { clusterSize: 65536, compat: '0.10' as const, lengths: [1000, 900, 1, 1023, 1022] },
  ])('many times, clusters of $clusterSize, compat $compat', async ({ clusterSize, compat, lengths }) => {
    const path = makeImage({ clusterSize, compat }, WRITES);
    if (clusterSize > 1024) addUnknown(path, 'nobody knows what this is');

    for (const [index, length] of lengths.entries()) {
      const backingFile = String.fromCharCode(97 + index).repeat(length);
      const backingFormat = index % 2 === 0 ? 'raw' : 'qcow2';
      await amend(path, { backingFile, backingFormat });

      const facts = qemuInfo(path);
      expect(facts['backing-filename']).toBe(backingFile);
      expect(facts['backing-filename-format']).toBe(backingFormat);
      const extensions = extensionsOf(path);
      if (clusterSize > 1024) expect(extensions.get(UNKNOWN)?.toString()).toBe('nobody knows what this is');
      if (clusterSize > 1024 && compat === '1.1') expect(extensions.get(FEATURE_NAMES)?.length).toBe(384);
    }
    await amend(path, { backingFile: null });
    expect(qemuInfo(path)['backing-filename']).toBeUndefined();
    expect(qemuCheck(path)).toMatchObject(CLEAN);
  });

  test('that does not fit the first cluster is refused', async () => {
    const path = makeImage({ clusterSize: 512 });
    const before = readFileSync(path);

    const refused = amend(path, { backingFile: 'x'.repeat(500) });

    await expect(refused).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('leaves an open image to be closed only', async () => {
    const path = makeImage({ clusterSize: 4096 }, WRITES);
    const image = await openImage(path, { write: true });

    await image.amend({ backingFile: 'other', backingFormat: 'raw' });

    await expect(image.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await image.close();
    expect(qemuInfo(path)['backing-filename']).toBe('other');
  });
});

test.each([
  [{ refcountBits: 3 }],
  [{ refcountBits: 128 }],
  [{ compat: '0.10' as const, refcountBits: 8 }],
  [{ compat: '0.10' as const, lazyRefcounts: true }],
  [{ backingFormat: 'raw' }],
  [{ backingFile: null, backingFormat: 'raw' }],
  [{ backingFile: 'x'.repeat(1024) }],
])('%j is refused before anything changes', async (options) => {
  const path = makeImage({ clusterSize: 65536 }, WRITES);
  const before = readFileSync(path);

  const refused = amend(path, options);

  await expect(refused).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  expect(readFileSync(path).equals(before)).toBe(true);
});
