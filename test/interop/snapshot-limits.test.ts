/** Snapshot tables beyond the limits of QEMU: `check -r all` drops what hangs over, and nothing else does anything. */

import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, copyFileSync, ftruncateSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openImage } from '../../host/node/index.js';
import { corralHere } from '../cli/run-corral.js';
import { madeOnce } from '../made-once.js';
import { io, makeImage, snapshot } from './check-fixture.js';

const CLUSTER = 65536;
const LIMIT = 64 << 20;

/** An image whose table begins with a real snapshot, and goes on with `count` entries that have no clusters. */
function withTable(count: number, nameLength: number): string {
  const path = madeOnce('one snapshot', (copy) => {
    copyFileSync(makeImage({ clusterSize: CLUSTER, compat: '1.1' }), copy);
    io(copy, ['write -P 1 0 128k']);
    snapshot(copy, 'real');
    io(copy, ['write -P 2 64k 64k']);
  });
  const file = openSync(path, 'r+');
  const header = Buffer.alloc(512);
  readSync(file, header, 0, 512, 0);
  const old = Buffer.alloc(CLUSTER);
  readSync(file, old, 0, CLUSTER, Number(header.readBigUInt64BE(64)));
  const names = old.readUInt16BE(12) + old.readUInt16BE(14);
  const first = old.subarray(0, Math.ceil((40 + old.readUInt32BE(36) + names) / 8) * 8);
  const offset = Math.ceil(statSync(path).size / CLUSTER) * CLUSTER;
  writeSync(file, first, 0, first.length, offset);
  let at = first.length;
  // Long names of zeros take no space; short ones stand in one piece.
  const step = Math.ceil((40 + 24 + 2 + nameLength) / 8) * 8;
  const piece = Buffer.alloc(nameLength > 100 ? 66 : step * count);
  const entry = (target: Buffer, start: number): void => {
    target.writeUInt16BE(2, start + 12);
    target.writeUInt16BE(nameLength, start + 14);
    target.writeUInt32BE(24, start + 36);
    target.writeBigUInt64BE(1n << 20n, start + 48);
    target.write('id', start + 64);
  };
  if (nameLength > 100) {
    entry(piece, 0);
    for (let index = 0; index < count; index++, at += step) writeSync(file, piece, 0, piece.length, offset + at);
  } else {
    for (let index = 0; index < count; index++) entry(piece, index * step);
    writeSync(file, piece, 0, piece.length, offset + at);
    at += piece.length;
  }
  ftruncateSync(file, Math.ceil((offset + at) / CLUSTER) * CLUSTER);
  header.writeBigUInt64BE(BigInt(offset), 64);
  header.writeUInt32BE(count + 1, 60);
  writeSync(file, header, 0, 512, 0);
  closeSync(file);
  return path;
}

const CASES = [
  // QEMU writes the table entry by entry, which takes minutes here.
  {
    name: 'more than 65,536 entries',
    count: 65_540,
    nameLength: 1,
    dropped: 5,
    asked: false,
    error: /snapshot count/,
  },
  {
    name: 'more than 64 MiB',
    asked: true,
    count: 1200,
    nameLength: 60_000,
    dropped: 1201 - Math.floor((LIMIT - 104) / 60_072) - 1,
    error: /snapshot table length/,
  },
];

describe.each(CASES)('a snapshot table of $name', ({ count, nameLength, dropped, asked, error }) => {
  test('is cut to what may be by check -r all, as by QEMU, and by nothing else', async () => {
    const path = withTable(count, nameLength);
    const before = readFileSync(path);
    await expect(openImage(path, { write: true })).rejects.toThrow(error);
    for (const repair of [[], ['-r', 'leaks']]) {
      const { status, stderr } = await corralHere('check', ...repair, path);
      expect(status).toBe(1);
      // Opening an image is refused in QEMU's words, where QEMU has some.
      expect(stderr).toMatch(asked || repair.length > 0 ? error : /Snapshot table too large/);
    }
    expect(readFileSync(path).equals(before)).toBe(true);

    const other = `${path}.other`;
    if (asked) execFileSync('cp', ['--sparse=always', path, other]);
    const repaired = await corralHere('check', '-r', 'all', '--output=json', path);

    const report = JSON.parse(repaired.stdout);
    expect(repaired.status).toBe(0);
    expect(readFileSync(path).readUInt32BE(60)).toBe(count + 1 - dropped);
    if (asked) {
      const theirs = spawnSync('qemu-img', ['check', '-r', 'all', '--output=json', other], { encoding: 'utf8' });
      expect(report['corruptions-fixed']).toBe(JSON.parse(theirs.stdout)['corruptions-fixed']);
      expect(readFileSync(other).readUInt32BE(60)).toBe(count + 1 - dropped);
    }
    // QEMU reads the table entry by entry: four times as fast without its threads, and once is enough.
    const options = `driver=qcow2,file.driver=file,file.aio=io_uring,file.filename=${path}`;
    execFileSync('qemu-img', ['check', '--image-opts', options]);
    const found = new Uint8Array(65_536);
    await using real = await openImage(path, { snapshot: { name: 'real' } });
    await real.read(65_536, found);
    expect(found.every((byte) => byte === 1)).toBe(true);
    if (!asked) return;
    const raw = `${path}.raw`;
    execFileSync('qemu-img', ['convert', '-l', 'snapshot.name=real', '-O', 'raw', path, raw]);
    expect(readFileSync(raw).subarray(65_536, 131_072).equals(found)).toBe(true);
  });
});
