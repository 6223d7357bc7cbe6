/** The ring on files that are open past the page cache: whole blocks to the disk, whatever is asked for. */

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { BufferSpace, OperationKind } from '../../host/abi.js';
import type { HelperData } from '../../host/node/helper-messages.js';
import { startHelperThread } from '../../host/node/helper-thread.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { makeCompressed, readByQemu, SIZE } from './images.js';
import { BUFFER, GUEST_STRIDE, OK, ON_DISK, pattern, RingFixture } from './ring-fixture.js';
import { FLUSH, Served } from './served.js';

const SECTOR = 512;
const LENGTH = 1_000_003;
const BLOCK = 4096;

let ended: () => void = () => {};
afterEach(() => ended());

test('any bytes can be read and written, with zeros around them, from and to any memory', () => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  const content = pattern(LENGTH);
  const fixture = new RingFixture(content, { folder: ON_DISK, direct: true });
  ended = () => fixture[Symbol.dispose]();
  fixture.attachGuestBuffers();
  fixture.lengths.fill(GUEST_STRIDE);
  const model = new Uint8Array(LENGTH + 2 * BLOCK);
  model.set(content);

  for (let count = 0; count < 150; count++) {
    // Every other one is what a disk takes as it is.
    const unit = count % 2 === 0 ? 1 : BLOCK;
    const guest = below(random, 2) === 0;
    const limit = guest ? GUEST_STRIDE : 300_000;
    const length = unit * (1 + below(random, limit / 2 / unit));
    const offset = unit * below(random, (LENGTH - length) / unit);
    const bufferOffset = unit * below(random, limit / 2 / unit) + (guest ? 0 : BUFFER);
    const memory = guest ? fixture.guestBytes : fixture.bytes;
    const bytes = memory.subarray(bufferOffset, bufferOffset + length);
    const place = { hostOffset: offset, length, bufferOffset, space: guest ? BufferSpace.Guest : BufferSpace.Module };
    if (below(random, 3) === 0) {
      bytes.fill(0xee);
      expect(fixture.carryOut({ kind: OperationKind.Read, ...place })).toEqual(OK);
      expectSameBytes(bytes, model.subarray(offset, offset + length), `seed ${seed}, ${count}: read at ${offset}`);
      continue;
    }
    bytes.set(pattern(length, count));
    const zeroBefore = unit * below(random, 3);
    const zeroAfter = unit * below(random, 3);
    expect(fixture.carryOut({ kind: OperationKind.Write, ...place, zeroBefore, zeroAfter })).toEqual(OK);
    model.fill(0, offset, offset + zeroBefore + length + zeroAfter);
    model.set(bytes, offset + zeroBefore);
  }

  const left = fixture.content();
  expect(left.length % 512 === 0 || left.length === LENGTH).toBe(true);
  expectSameBytes(left.subarray(0, LENGTH), model.subarray(0, LENGTH), `seed ${seed}:`);
});

test('a read beyond the end of the file brings zeros', () => {
  const content = pattern(5000);
  const fixture = new RingFixture(content, { folder: ON_DISK, direct: true });
  ended = () => fixture[Symbol.dispose]();
  fixture.bytes.fill(0xee, BUFFER, BUFFER + 3 * BLOCK);

  const across = fixture.carryOut({ kind: OperationKind.Read, length: 2 * BLOCK, bufferOffset: BUFFER });
  const beyond = fixture.carryOut({
    kind: OperationKind.Read,
    hostOffset: 2 ** 40 + 1,
    length: BLOCK,
    bufferOffset: BUFFER + 2 * BLOCK,
  });

  const expected = new Uint8Array(3 * BLOCK);
  expected.set(content);
  expect([across, beyond]).toEqual([OK, OK]);
  expectSameBytes(fixture.bytes.subarray(BUFFER, BUFFER + 3 * BLOCK), expected);
});

test('an image with compressed clusters is served, and QEMU reads what was written', () => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  const made = makeCompressed({ type: 'zlib', clusterSize: 65_536 });
  const { contents } = made;
  mkdirSync(ON_DISK, { recursive: true });
  const folder = mkdtempSync(join(ON_DISK, 'corral-direct-'));
  const path = join(folder, 'image.qcow2');
  copyFileSync(made.path, path);
  const helper = { start: (data: HelperData) => startHelperThread(data, () => {}) };
  const served = new Served(path, { helper, direct: true });
  ended = () => {
    served.end();
    rmSync(folder, { recursive: true });
  };

  for (let count = 0; count < 60; count++) {
    const length = SECTOR * (1 + below(random, 200));
    const offset = SECTOR * below(random, (SIZE - length) / SECTOR);
    const bytes = pattern(length, count);
    expect(served.write(offset, bytes)).toBe(length);
    contents.set(bytes, offset);
  }
  served.arrive(0, FLUSH, 0, 0);
  expect(served.answersOf(0)).toEqual([0]);
  expectSameBytes(served.readAll(0, SIZE), contents, `seed ${seed}:`);
  expect(served.engine.ring.statistics()).toMatchObject({ violations: 0, operationsInFlight: 0 });
  served.close();

  expect(statSync(path).size % SECTOR).toBe(0);
  expect(() => execFileSync('qemu-img', ['check', '-f', 'qcow2', path])).not.toThrow();
  expectSameBytes(readByQemu(path), contents, `seed ${seed}:`);
});
