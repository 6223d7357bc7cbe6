/** Snapshot tables whose entries have too much or too little extra data, checked and repaired by Corral and by QEMU. */

import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { MemoryFile } from '../../host/index.js';
import { loadCore, openImage } from '../../host/node/index.js';
import { repairImage } from '../../host/repair.js';
import { corralHere } from '../cli/run-corral.js';
import { madeOnce } from '../made-once.js';
import { expectSameBytes } from '../same-bytes.js';
import { io, makeImage, qemuCheck, snapshot } from './check-fixture.js';
import { checkWithQemu, readWithQemu } from './guest-steps.js';

const HEADER_SIZE = 40;
const NAMES = ['a', 'b', 'c'];

interface Entry {
  header: Buffer;
  extra: Buffer;
  names: Buffer;
}

/** An image with three snapshots, whose entries `change` alters. */
function damaged(compat: '0.10' | '1.1', clusterSize: number, change: (entries: Entry[]) => void): string {
  const path = madeOnce(`${compat}, ${clusterSize}`, (copy) => {
    copyFileSync(makeImage({ clusterSize, compat }), copy);
    NAMES.forEach((name, index) => {
      io(copy, [`write -P ${index + 1} ${index * 65536} 128k`]);
      snapshot(copy, name);
    });
    io(copy, ['write -P 9 64k 64k']);
  });
  const file = readFileSync(path);
  const entries = readEntries(file);
  change(entries);
  const table = Buffer.concat(entries.map(entryBytes));
  // Behind everything, where it has room.
  const offset = Math.ceil(file.length / clusterSize) * clusterSize;
  const longer = Buffer.alloc(Math.ceil((offset + table.length) / clusterSize) * clusterSize);
  file.copy(longer);
  table.copy(longer, offset);
  longer.writeBigUInt64BE(BigInt(offset), 64);
  writeFileSync(path, longer);
  return path;
}

function readEntries(file: Buffer): Entry[] {
  let at = Number(file.readBigUInt64BE(64));
  return Array.from({ length: file.readUInt32BE(60) }, () => {
    const extraLength = file.readUInt32BE(at + 36);
    const namesLength = file.readUInt16BE(at + 12) + file.readUInt16BE(at + 14);
    const extraEnd = at + HEADER_SIZE + extraLength;
    const entry = {
      header: Buffer.from(file.subarray(at, at + HEADER_SIZE)),
      extra: Buffer.from(file.subarray(at + HEADER_SIZE, extraEnd)),
      names: Buffer.from(file.subarray(extraEnd, extraEnd + namesLength)),
    };
    at += Math.ceil((HEADER_SIZE + extraLength + namesLength) / 8) * 8;
    return entry;
  });
}

function entryBytes({ header, extra, names }: Entry): Buffer {
  header.writeUInt32BE(extra.length, 36);
  const bytes = Buffer.concat([header, extra, names]);
  return Buffer.concat([bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)]);
}

function at(entries: Entry[], index: number): Entry {
  return entries[index] as Entry;
}

function lengthen(entries: Entry[], index: number, length: number): void {
  const entry = at(entries, index);
  entry.extra = Buffer.concat([entry.extra, Buffer.alloc(length - entry.extra.length, 0x78)]);
}

function shorten(entries: Entry[], index: number, length: number): void {
  const entry = at(entries, index);
  entry.extra = entry.extra.subarray(0, length);
}

/** What `qemu-img check -r all` says that it has put right. */
function repairWithQemu(path: string): number {
  const { stdout } = spawnSync('qemu-img', ['check', '-r', 'all', '--output=json', path], { encoding: 'utf8' });
  return (JSON.parse(stdout) as { 'corruptions-fixed': number })['corruptions-fixed'];
}

/** The entries, without where their L1 tables lie. */
function described(path: string): string[] {
  return readEntries(readFileSync(path)).map((entry) => entryBytes(entry).subarray(8).toString('hex'));
}

interface Case {
  name: string;
  change: (entries: Entry[]) => void;
  /** Without -r all the check cannot go on. */
  tooLong: boolean;
  compat?: '0.10' | '1.1';
}

const CASES: Case[] = [
  { name: 'a byte too much', change: (entries) => lengthen(entries, 1, 1025), tooLong: true },
  { name: 'thousands too many, at the end', change: (entries) => lengthen(entries, 2, 20_001), tooLong: true },
  { name: 'too much in version 2', change: (entries) => lengthen(entries, 0, 3000), tooLong: true, compat: '0.10' },
  { name: 'none at all', change: (entries) => shorten(entries, 1, 0), tooLong: false },
  { name: 'only the length of the saved state', change: (entries) => shorten(entries, 0, 8), tooLong: false },
  {
    name: 'too much here and too little there',
    change: (entries) => {
      lengthen(entries, 0, 70_000);
      shorten(entries, 1, 8);
      lengthen(entries, 2, 1100);
    },
    tooLong: true,
  },
];

describe.each([512, 4096, 65536])('clusters of %i bytes', (clusterSize) => {
  test.each(CASES)('extra data: $name, is repaired as by QEMU', async ({ change, compat = '1.1' }) => {
    const path = damaged(compat, clusterSize, change);
    const other = `${path}.other`;
    copyFileSync(path, other);
    const fixed = repairWithQemu(other);

    const file = new MemoryFile(readFileSync(path));
    const { report } = await repairImage(file, 'all', { core: loadCore() });
    const bytes = new Uint8Array(await file.size());
    await file.read(0, bytes);
    writeFileSync(path, bytes);

    expect({ ...report, findings: [] }).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    // QEMU counts clusters of the table that had no refcount once, so do we.
    expect(report.corruptionsFixed).toBe(fixed);
    expect(described(path)).toEqual(described(other));
    checkWithQemu(path, 'after the repair');
    expect(qemuCheck(path)).toMatchObject({ corruptions: 0, leaks: 0 });
    for (const name of NAMES) {
      const [ours, theirs] = [`${path}.${name}`, `${other}.${name}`];
      for (const [from, to] of [
        [path, ours],
        [other, theirs],
      ] as const) {
        execFileSync('qemu-img', ['convert', '-l', `snapshot.name=${name}`, '-O', 'raw', from, to]);
      }
      expectSameBytes(readFileSync(ours), readFileSync(theirs), name);
    }
    expectSameBytes(readWithQemu(path), readWithQemu(other));
    await using image = await openImage(path, { write: true });
    for (const name of NAMES) await image.snapshots.delete(name);
    await image.close();
    checkWithQemu(path, 'after the snapshots were deleted');
  });
});

test.each(CASES)('extra data: $name, is a matter for -r all only', async ({ change, tooLong, compat = '1.1' }) => {
  const path = damaged(compat, 65536, change);
  const before = readFileSync(path);

  for (const repair of [[], ['-r', 'leaks']]) {
    const theirs = spawnSync('qemu-img', ['check', ...repair, path], { encoding: 'utf8' });
    writeFileSync(path, before);
    const { status, stderr } = await corralHere('check', ...repair, path);

    expect(status, repair.join(' ')).toBe(theirs.status);
    if (!tooLong) continue;
    expect(stderr).toMatch(/Too much extra metadata in snapshot table entry \d/);
    expectSameBytes(readFileSync(path), before);
  }
});

test('a table whose last names reach beyond the end of the file is left as it is', async () => {
  const path = damaged('1.1', 512, (entries) => {
    shorten(entries, 0, 0);
    at(entries, 2).header.writeUInt16BE(0xffff, 14);
  });
  const file = readFileSync(path);
  const tableOffset = file.readBigUInt64BE(64);

  const repaired = new MemoryFile(new Uint8Array(file));
  const { report } = await repairImage(repaired, 'all', { core: loadCore() });

  expect(report.corruptions).toBeGreaterThan(0);
  expect(Buffer.from(repaired.contents()).readBigUInt64BE(64)).toBe(tableOffset);
});
