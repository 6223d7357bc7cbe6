/** The core on the ring, with the kernel's part of a ublk queue played by the test. */
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RequestFlag, RequestKind } from '../../host/abi.js';
import type { ImageFacts } from '../../host/image-facts.js';
import { requireAddon, TurnMode } from '../../host/node/addon.js';
import { createImage, loadCore, openImage } from '../../host/node/index.js';
import { RingEngine } from '../../host/node/ring-engine.js';
import { pattern } from './ring-fixture.js';

const DEPTH = 8;
const STRIDE = 131_072;
const SIZE = 16 << 20;
const SECTOR = 512;
const UNANSWERED = 12_345;
const [READ, WRITE, FLUSH] = [0, 1, 2];
const EIO = -5;

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

/** An engine with a queue whose kernel is the test. */
class Served {
  readonly engine: RingEngine;
  readonly facts: ImageFacts;
  readonly buffers = new Uint8Array(new ArrayBuffer(DEPTH * STRIDE));
  readonly answers = new Int32Array(DEPTH).fill(UNANSWERED);
  stopped: number | undefined;
  private readonly descriptor: number;
  private readonly descriptors = new DataView(new ArrayBuffer(DEPTH * 24));
  private ended = false;

  constructor({ writable = true } = {}) {
    this.descriptor = openSync(path, writable ? 'r+' : 'r');
    this.engine = new RingEngine(
      {
        addon: requireAddon(),
        core: loadCore(),
        descriptor: this.descriptor,
        writable,
        fileLength: fstatSync(this.descriptor).size,
        zeroBeyondEnd: true,
        guestCapacity: DEPTH,
        cacheSize: 1 << 20,
      },
      {
        onQueueStopped: (errno) => {
          this.stopped = errno;
        },
      },
    );
    this.facts = this.engine.open(writable ? RequestFlag.Writable : 0);
    this.engine.ring.setGuestBuffers({
      buffer: this.buffers.buffer,
      stride: STRIDE,
      lengths: new Int32Array(DEPTH),
    });
    this.engine.ring.pretendQueue({
      deviceId: 0,
      depth: DEPTH,
      maxIoBytes: STRIDE,
      deviceSize: SIZE,
      descriptors: this.descriptors.buffer as ArrayBuffer,
      answers: this.answers,
    });
  }

  /** The kernel's request arrives; it is answered by later steps. */
  arrive(tag: number, operation: number, offset: number, length: number): void {
    this.answers[tag] = UNANSWERED;
    this.descriptors.setUint32(tag * 24, operation, true);
    this.descriptors.setUint32(tag * 24 + 4, length / SECTOR, true);
    this.descriptors.setBigUint64(tag * 24 + 8, BigInt(offset / SECTOR), true);
    this.engine.ring.pretendFetched(tag, 0);
  }

  /** Steps until these tags are answered. */
  answersOf(...tags: number[]): number[] {
    const deadline = performance.now() + 20_000;
    while (tags.some((tag) => this.answers[tag] === UNANSWERED)) {
      if (performance.now() > deadline) throw new Error('the queue is stuck');
      this.engine.step(TurnMode.Poll);
    }
    return tags.map((tag) => this.answers[tag]);
  }

  buffer(tag: number, length: number): Uint8Array {
    return this.buffers.subarray(tag * STRIDE, tag * STRIDE + length);
  }

  close(): void {
    this.engine.control(RequestKind.Close, 0, () => undefined);
    this.end();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.engine.close();
    closeSync(this.descriptor);
  }
}

test('opening tells the facts of the image', () => {
  served = new Served();

  expect(served.facts).toMatchObject({ version: 3, virtualSize: SIZE, clusterSize: 65_536 });
});

test('what the kernel wrote is in the image, and what it never wrote reads as zeros', async () => {
  served = new Served();
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
  served = new Served();
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
  served = new Served({ writable: false });
  served.arrive(0, WRITE, 0, 4096);

  expect(served.answersOf(0)).toEqual([-30]);
});

test('a table that cannot be read any more is an error of the requests that need it', () => {
  served = new Served();
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
  served = new Served({ writable: false });

  served.arrive(0, READ, 0, 4096);
  served.arrive(1, READ, SIZE - 4096, 4096);

  expect(served.answersOf(0, 1)[0]).toBe(EIO);
});

test('an image that is none is refused with what is wrong', () => {
  truncateSync(path, 0);

  expect(() => new Served()).toThrow(expect.objectContaining({ code: 'ERR_NOT_QCOW2' }));
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
    served = new Served();
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
    served = new Served();
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
    served = new Served();
    served.arrive(0, READ, 0, 4096);
    trap(served.engine, 'submit');
    served.answersOf(0);

    expect(() => served?.engine.control(RequestKind.Close, 0, () => undefined)).toThrow(
      expect.objectContaining({ code: 'ERR_INTERNAL' }),
    );
  });
});

test('the end of the queue is told to the host', () => {
  served = new Served();
  for (let tag = 0; tag < DEPTH; tag++) served.engine.ring.pretendFetched(tag, -19);

  served.engine.step(TurnMode.Poll);

  expect(served.stopped).toBe(0);
});
