/** How guest bytes get to the file and back, with any file in the place of the char device. */
import { closeSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { BufferSpace, OperationKind } from '../../host/abi.js';
import { DataPath, EventType, OutgoingType, TurnMode } from '../../host/node/addon.js';
import { GUEST_STRIDE, OK, ON_DISK, pattern, RingFixture } from './ring-fixture.js';

const DEPTH = 4;
const FIRST_SLOT = 2;
const QUEUE = 3;
const LENGTH = 8192;
const [READ, WRITE] = [0, 1];
const EIO = -5;
/** UBLK_IO_F_NEED_REG_BUF. */
const NEEDS_BUFFER = 1 << 17;
const UNANSWERED = 12_345;
const content = pattern(65_536);

/** A queue with slots from FIRST_SLOT on whose kernel is a sparse file. */
class Played {
  readonly fixture = new RingFixture(content, { folder: ON_DISK });
  readonly answers = new Int32Array(DEPTH).fill(UNANSWERED);
  private readonly path = join(ON_DISK, `kernel-${process.pid}-${Math.random()}`);
  private readonly device = openSync(this.path, 'wx+');
  private readonly descriptors = new DataView(new ArrayBuffer(DEPTH * 24));

  constructor(path: DataPath, { autoBuffers = true, withDevice = true } = {}) {
    const { ring, guest, lengths } = this.fixture;
    ring.setGuestBuffers({ buffer: guest, stride: GUEST_STRIDE, firstSlot: FIRST_SLOT, lengths });
    ring.pretendQueue({
      deviceId: 0,
      queueId: QUEUE,
      depth: DEPTH,
      firstSlot: FIRST_SLOT,
      maxIoBytes: GUEST_STRIDE,
      deviceSize: 1 << 20,
      path,
      autoBuffers,
      descriptors: this.descriptors.buffer as ArrayBuffer,
      answers: this.answers,
      ...(withDevice ? { device: this.device } : {}),
    });
  }

  /** A request of LENGTH bytes under a tag; returns the slots of the requests that the core would see. */
  arrive(tag: number, operation: number): number[] {
    this.descriptors.setUint32(tag * 24, operation, true);
    this.descriptors.setUint32(tag * 24 + 4, LENGTH / 512, true);
    this.fixture.ring.pretendFetched(tag, 0);
    return this.fixture
      .turn([], TurnMode.Poll)
      .filter(({ type }) => type === EventType.Request)
      .map(({ a }) => a);
  }

  finish(tag: number): number {
    this.fixture.turn([[OutgoingType.Finish, FIRST_SLOT + tag, 0]], TurnMode.Apply);
    return this.answers[tag] as number;
  }

  /** Moves bytes between file and request. */
  move(kind: OperationKind, tag: number, bufferOffset: number, length: number, more: object = {}) {
    const place = {
      space: BufferSpace.Guest,
      request: FIRST_SLOT + tag,
      bufferOffset,
      length,
      hostOffset: bufferOffset,
    };
    return this.fixture.carryOut({ kind, ...place, ...more });
  }

  /** What the kernel has of a request. */
  kernelBytes(tag: number, offset = 0, length = LENGTH): Uint8Array {
    const bytes = new Uint8Array(length);
    readSync(this.device, bytes, 0, length, kernelPosition(tag) + offset);
    return bytes;
  }

  putKernelBytes(tag: number, bytes: Uint8Array): void {
    writeSync(this.device, bytes, 0, bytes.length, kernelPosition(tag));
  }

  /** The char device gives no bytes any more. */
  breakDevice(): void {
    ftruncateSync(this.device, 0);
  }

  close(): void {
    this.fixture[Symbol.dispose]();
    closeSync(this.device);
    rmSync(this.path);
  }
}

/** As in linux/ublk_cmd.h: 2 GiB on, 12 bits of queue, 16 bits of tag, 25 bits of offset. */
function kernelPosition(tag: number): number {
  return 2 ** 31 + QUEUE * 2 ** 41 + tag * 2 ** 25;
}

let played: Played;
afterEach(() => played.close());

describe('user copy', () => {
  test('brings a write into memory before the core sees it', () => {
    played = new Played(DataPath.UserCopy);
    const bytes = pattern(LENGTH, 7);
    played.putKernelBytes(1, bytes);

    expect(played.arrive(1, WRITE)).toEqual([FIRST_SLOT + 1]);
    expect(played.move(OperationKind.Write, 1, 0, LENGTH)).toEqual(OK);

    expect(played.finish(1)).toBe(LENGTH);
    expect(played.fixture.content().subarray(0, LENGTH)).toEqual(Buffer.from(bytes));
  });

  test('hands a read over when it is answered', () => {
    played = new Played(DataPath.UserCopy);
    played.arrive(2, READ);
    played.move(OperationKind.Read, 2, 0, LENGTH);
    const early = played.kernelBytes(2);

    expect(played.finish(2)).toBe(LENGTH);

    expect(early).toEqual(new Uint8Array(LENGTH));
    expect(played.kernelBytes(2)).toEqual(content.subarray(0, LENGTH));
  });

  test.each([READ, WRITE])('answers with an error when the kernel does not take or give bytes: %i', (operation) => {
    played = new Played(DataPath.UserCopy, { withDevice: false });

    const seen = played.arrive(0, operation);
    if (operation === READ) played.finish(0);

    expect(seen).toEqual(operation === READ ? [FIRST_SLOT] : []);
    expect(played.answers[0]).toBe(-9);
  });

  test('answers a write with an error whose bytes end too early', () => {
    played = new Played(DataPath.UserCopy);
    played.breakDevice();

    expect(played.arrive(0, WRITE)).toEqual([]);

    expect(played.answers[0]).toBe(EIO);
  });
});

// Where the kernel has registered no buffer, as here, every operation falls back to memory.
describe.each([
  ['that the kernel could not register', READ | NEEDS_BUFFER, WRITE | NEEDS_BUFFER],
  ['that the ring cannot use', READ, WRITE],
])('zero copy of requests %s', (_, read, write) => {
  test('brings what a write takes from the kernel, range by range', () => {
    played = new Played(DataPath.ZeroCopy);
    const bytes = pattern(LENGTH, 9);
    played.putKernelBytes(0, bytes);

    played.arrive(0, write);
    played.move(OperationKind.Write, 0, 4096, 4096);
    played.move(OperationKind.Write, 0, 0, 4096, { hostOffset: 20_480, zeroBefore: 512, zeroAfter: 1024 });

    expect(played.finish(0)).toBe(LENGTH);
    const after = played.fixture.content();
    expect(after.subarray(4096, 8192)).toEqual(Buffer.from(bytes.subarray(4096)));
    expect(after.subarray(20_480, 20_992)).toEqual(Buffer.alloc(512));
    expect(after.subarray(20_992, 25_088)).toEqual(Buffer.from(bytes.subarray(0, 4096)));
    expect(after.subarray(25_088, 26_112)).toEqual(Buffer.alloc(1024));
  });

  test('hands on what a read has found, in any order, with zeros where there was nothing', () => {
    played = new Played(DataPath.ZeroCopy);
    played.putKernelBytes(3, new Uint8Array(LENGTH).fill(0xee));
    played.arrive(3, read);

    played.move(OperationKind.Read, 3, 6144, 1024);
    played.fixture.turn([[OutgoingType.Fill, FIRST_SLOT + 3, 0, 2048]], TurnMode.Apply);
    played.move(OperationKind.Read, 3, 2048, 4096);
    // The last bytes lie beyond the end of the file.
    played.move(OperationKind.Read, 3, 7168, 1024, { hostOffset: 65_536 - 512 });

    expect(played.finish(3)).toBe(LENGTH);
    const expected = content.slice(0, LENGTH);
    expected.fill(0, 0, 2048);
    expected.set(content.subarray(65_536 - 512), 7168);
    expected.fill(0, 7680);
    expect(played.kernelBytes(3)).toEqual(expected);
  });

  test('hands on what a library has made', () => {
    played = new Played(DataPath.ZeroCopy);
    played.arrive(1, read);
    const place = { space: BufferSpace.Guest, request: FIRST_SLOT + 1, length: 4096 };
    played.fixture.writeOperation(0, { kind: OperationKind.ReadBacking, ...place, zeroAfter: 4096 });
    played.fixture.turn([[OutgoingType.Operation, 0]], TurnMode.Poll);

    played.fixture.ring.deliver(0, new Uint8Array(4096).fill(5));

    expect(played.finish(1)).toBe(LENGTH);
    const expected = new Uint8Array(LENGTH).fill(5, 0, 4096);
    expect(played.kernelBytes(1)).toEqual(expected);
  });

  test.each([
    ['nothing', []],
    ['its start', [[0, 4096]]],
    ['its end', [[4096, 4096]]],
    [
      'all but a sector',
      [
        [0, 3584],
        [4096, 4096],
      ],
    ],
    [
      'one half twice',
      [
        [0, 4096],
        [0, 4096],
      ],
    ],
    [
      'one half twice, in pieces',
      [
        [4096, 2048],
        [6144, 2048],
        [4096, 4096],
      ],
    ],
    [
      'the bytes around a sector in part',
      [
        [0, 4096],
        [4608, 3584],
        [4096, 500],
      ],
    ],
  ])('does not show what the kernel had in its memory: of a read only %s was filled', (_name, ranges) => {
    played = new Played(DataPath.ZeroCopy);
    played.arrive(0, read);

    for (const [offset = 0, length = 0] of ranges) played.move(OperationKind.Read, 0, offset, length);

    expect(played.finish(0)).toBe(EIO);
  });

  test('an earlier request under the tag does not count', () => {
    played = new Played(DataPath.ZeroCopy);
    played.arrive(0, read);
    played.move(OperationKind.Read, 0, 4096, 4096);
    played.move(OperationKind.Read, 0, 0, 4096);
    expect(played.finish(0)).toBe(LENGTH);

    played.arrive(0, read);
    played.move(OperationKind.Read, 0, 0, 4096);

    expect(played.finish(0)).toBe(EIO);
  });
});
