/** The core on the ring, with the kernel's part of a ublk queue played by the test. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RequestKind } from '../../host/abi.js';
import { TurnMode } from '../../host/node/addon.js';
import { createImage, openImage } from '../../host/node/index.js';
import type { RingEngine } from '../../host/node/ring-engine.js';
import { pattern } from './ring-fixture.js';
import { DEPTH, EIO, FLUSH, READ, Served, STRIDE, WRITE } from './served.js';

const SIZE = 16 << 20;
const SECTOR = 512;

let folder: string;
let path: string;
let served: Served | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'corral-engine-'));
  path = join(folder, 'disk.qcow2');
  await createImage(path, { virtualSize: SIZE });
});
afterEach(() => {
  served?.end();
  served = undefined;
  rmSync(folder, { recursive: true });
});

test('opening tells the facts of the image', () => {
  served = new Served(path);

  expect(served.facts).toMatchObject({ version: 3, virtualSize: SIZE, clusterSize: 65_536 });
});

test('what the kernel wrote is in the image, and what it never wrote reads as zeros', async () => {
  served = new Served(path);
  const data = pattern(100_352);
  served.buffer(0, data.length).set(data);
  served.arrive(0, WRITE, 1 << 20, data.length);
  const wrote = served.answersOf(0);
  served.buffer(1, STRIDE).fill(0xee);
  served.arrive(1, READ, (1 << 20) - SECTOR, STRIDE);
  const read = served.answersOf(1);
  const seen = served.buffer(1, STRIDE).slice();
  served.arrive(2, FLUSH, 0, 0);
  const flushed = served.answersOf(2);
  served.close();

  expect([wrote, read, flushed]).toEqual([[data.length], [STRIDE], [0]]);
  const expected = new Uint8Array(STRIDE);
  expected.set(data, SECTOR);
  expect(Buffer.compare(seen, expected)).toBe(0);
  const image = await openImage(path, { checkSize: 1 << 20 });
  const back = new Uint8Array(data.length);
  await image.read(1 << 20, back);
  const report = await image.check();
  await image.close();
  expect(Buffer.compare(back, data)).toBe(0);
  expect(report).toMatchObject({ corruptions: 0, leaks: 0 });
});

test('many requests at once are each answered once', () => {
  served = new Served(path);
  const tags = Array.from({ length: DEPTH }, (_, tag) => tag);
  for (const tag of tags) {
    served.buffer(tag, 65_536).fill(tag + 1);
    served.arrive(tag, WRITE, tag * 65_536 * 3, 65_536);
  }
  const wrote = served.answersOf(...tags);
  for (const tag of tags) {
    served.buffer(tag, 65_536).fill(0);
    served.arrive(tag, READ, tag * 65_536 * 3, 65_536);
  }
  const read = served.answersOf(...tags);

  expect([...wrote, ...read].every((answer) => answer === 65_536)).toBe(true);
  expect(tags.every((tag) => served?.buffer(tag, 65_536).every((byte) => byte === tag + 1))).toBe(true);
  expect(served.engine.ring.statistics()).toMatchObject({ violations: 0, operationsInFlight: 0 });
});

test('a write to an image that was opened for reading is answered with EROFS', () => {
  served = new Served(path, { writable: false });
  served.arrive(0, WRITE, 0, 4096);

  expect(served.answersOf(0)).toEqual([-30]);
});

test('a table that cannot be read any more is an error of the requests that need it', () => {
  served = new Served(path);
  served.buffer(0, 4096).fill(1);
  served.arrive(0, WRITE, 0, 4096);
  served.answersOf(0);
  served.arrive(1, FLUSH, 0, 0);
  served.answersOf(1);
  served.close();
  const bytes = readFileSync(path);
  const l1 = Number(bytes.readBigUInt64BE(40));
  bytes.writeBigUInt64BE(0x8000_0000_0000_0200n, l1); // an L2 table at an offset that is no cluster's
  writeFileSync(path, bytes);
  served = new Served(path, { writable: false });

  served.arrive(0, READ, 0, 4096);
  served.arrive(1, READ, SIZE - 4096, 4096);

  expect(served.answersOf(0, 1)[0]).toBe(EIO);
});

test('an image that is none is refused with what is wrong', () => {
  truncateSync(path, 0);

  expect(() => new Served(path)).toThrow(expect.objectContaining({ code: 'ERR_NOT_QCOW2' }));
});

describe('when the core traps', () => {
  function trap(engine: RingEngine, call: 'submit' | 'complete'): void {
    Object.defineProperty(engine.core, call, {
      value: () => {
        throw new WebAssembly.RuntimeError('unreachable');
      },
    });
  }

  test('the requests in service and all that follow are answered with an error', () => {
    served = new Served(path);
    served.arrive(0, READ, 0, 4096);
    served.arrive(1, READ, 4096, 4096);
    trap(served.engine, 'submit');

    const first = served.answersOf(0, 1);
    served.arrive(2, WRITE, 0, 4096);
    const later = served.answersOf(2);

    expect([...first, ...later]).toEqual([EIO, EIO, EIO]);
    expect(served.engine.trap).toBeInstanceOf(WebAssembly.RuntimeError);
  });

  test('nothing more is written', () => {
    served = new Served(path);
    const before = readFileSync(path);
    served.buffer(0, 4096).fill(1);
    served.arrive(0, WRITE, 0, 4096);
    trap(served.engine, 'complete');

    const answer = served.answersOf(0);
    served.end();

    expect(answer).toEqual([EIO]);
    expect(readFileSync(path).subarray(0, before.length).equals(before)).toBe(true);
  });

  test('the image cannot be closed as if all were well', () => {
    served = new Served(path);
    served.arrive(0, READ, 0, 4096);
    trap(served.engine, 'submit');
    served.answersOf(0);

    expect(() => served?.engine.control(RequestKind.Close, 0, () => undefined)).toThrow(
      expect.objectContaining({ code: 'ERR_INTERNAL' }),
    );
  });
});

test('the end of the queue is told to the host', () => {
  served = new Served(path);
  for (let tag = 0; tag < DEPTH; tag++) served.engine.ring.pretendFetched(tag, -19);

  served.engine.step(TurnMode.Poll);

  expect(served.stopped).toBe(0);
});
