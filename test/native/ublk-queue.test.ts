/** The ublk queue without a kernel: descriptors from plain memory, answers into plain memory. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BufferSpace, OperationKind, RequestFlag, RequestKind, RequestView } from '../../host/abi.js';
import { EventType, OutgoingType, TurnMode } from '../../host/node/addon.js';
import type { RingEvent } from './ring-fixture.js';
import { GUEST_STRIDE, INVALID, OK, ON_DISK, pattern, RingFixture } from './ring-fixture.js';

const DEPTH = 4;
const DESCRIPTOR_SIZE = 24;
const DEVICE_SIZE = 1 << 20;
const UNANSWERED = 12_345;

const EIO = -5;
const EOPNOTSUPP = -95;
const ENODEV = -19;

/** Operations and flags of linux/ublk_cmd.h. */
const READ = 0;
const WRITE = 1;
const FLUSH = 2;
const DISCARD = 3;
const WRITE_ZEROES = 5;
const FUA = 1 << 13;
const NO_UNMAP = 1 << 15;

interface Descriptor {
  operation: number;
  sectors: number;
  start: number | bigint;
}

let fixture: RingFixture;
let descriptors: DataView;
let answers: Int32Array;
const content = pattern(65_536);

beforeEach(() => makeQueue());
afterEach(() => fixture[Symbol.dispose]());

function replaceQueue(more: { unmap?: boolean; durable?: boolean }): void {
  fixture[Symbol.dispose]();
  makeQueue(more);
}

function makeQueue(more: { unmap?: boolean; durable?: boolean } = {}): void {
  fixture = new RingFixture(content, { folder: ON_DISK });
  fixture.attachGuestBuffers();
  const memory = new ArrayBuffer(DEPTH * DESCRIPTOR_SIZE);
  descriptors = new DataView(memory);
  answers = new Int32Array(DEPTH).fill(UNANSWERED);
  fixture.ring.pretendQueue({
    deviceId: 0,
    depth: DEPTH,
    maxIoBytes: GUEST_STRIDE,
    deviceSize: DEVICE_SIZE,
    descriptors: memory,
    answers,
    ...more,
  });
}

function malformed(slot: number, { operation, sectors }: Descriptor): RingEvent {
  return { type: EventType.Malformed, a: slot, b: operation, c: sectors | 0 };
}

/** Lets the kernel's request arrive under a tag, and returns the events of the turn that sees it. */
function arrive(tag: number, { operation, sectors, start }: Descriptor): RingEvent[] {
  descriptors.setUint32(tag * DESCRIPTOR_SIZE, operation, true);
  descriptors.setUint32(tag * DESCRIPTOR_SIZE + 4, sectors, true);
  descriptors.setBigUint64(tag * DESCRIPTOR_SIZE + 8, BigInt(start), true);
  fixture.ring.pretendFetched(tag, 0);
  return fixture.turn([], TurnMode.Poll);
}

function record(slot: number) {
  const { kind, flags, guestOffset, length } = new RequestView(fixture.memory, fixture.requestAddress(slot));
  return { kind, flags, guestOffset, length };
}

function finish(slot: number, result: number): void {
  fixture.turn([[OutgoingType.Finish, slot, result]], TurnMode.Apply);
}

describe('a request of the kernel becomes a Request record', () => {
  test.each([
    [
      { operation: READ, sectors: 8, start: 16 },
      { kind: RequestKind.Read, flags: 0, guestOffset: 8192, length: 4096 },
    ],
    [
      { operation: WRITE, sectors: 1, start: 0 },
      { kind: RequestKind.Write, flags: 0, guestOffset: 0, length: 512 },
    ],
    [
      { operation: WRITE | FUA, sectors: 128, start: 1920 },
      { kind: RequestKind.Write, flags: RequestFlag.Durable, guestOffset: 983_040, length: 65_536 },
    ],
    [
      { operation: READ | FUA, sectors: 1, start: 5 },
      { kind: RequestKind.Read, flags: 0, guestOffset: 2560, length: 512 },
    ],
    [
      { operation: FLUSH, sectors: 0, start: 0 },
      { kind: RequestKind.Flush, flags: 0, guestOffset: 0, length: 0 },
    ],
    // Zeroes and discards move no data, so they may be longer than a buffer.
    [
      { operation: DISCARD, sectors: 1024, start: 128 },
      { kind: RequestKind.Discard, flags: 0, guestOffset: 65_536, length: 524_288 },
    ],
    [
      { operation: WRITE_ZEROES, sectors: 1024, start: 128 },
      { kind: RequestKind.WriteZeroes, flags: RequestFlag.Unmap, guestOffset: 65_536, length: 524_288 },
    ],
    [
      { operation: WRITE_ZEROES | NO_UNMAP | FUA, sectors: 1, start: 0 },
      { kind: RequestKind.WriteZeroes, flags: RequestFlag.Durable, guestOffset: 0, length: 512 },
    ],
    // Flags that say nothing to us: fail fast, metadata, swap.
    [
      { operation: READ | (1 << 8) | (1 << 11) | (1 << 16), sectors: 1, start: 1 },
      { kind: RequestKind.Read, flags: 0, guestOffset: 512, length: 512 },
    ],
  ])('%o', (descriptor, expected) => {
    const events = arrive(1, descriptor);

    expect(events).toEqual([{ type: EventType.Request, a: 1, b: 0, c: 0 }]);
    expect(record(1)).toEqual(expected);
    expect(answers[1]).toBe(UNANSWERED);
  });

  test.each([
    [WRITE, { kind: RequestKind.Write, flags: RequestFlag.Durable }],
    [WRITE_ZEROES, { kind: RequestKind.WriteZeroes, flags: RequestFlag.Durable | RequestFlag.Unmap }],
    [WRITE_ZEROES | NO_UNMAP, { kind: RequestKind.WriteZeroes, flags: RequestFlag.Durable }],
    // No discard can be asked to be durable: its zeros can.
    [DISCARD, { kind: RequestKind.WriteZeroes, flags: RequestFlag.Durable | RequestFlag.Unmap }],
    [READ, { kind: RequestKind.Read, flags: 0 }],
  ])('of a queue whose answers are durable: %i', (operation, expected) => {
    replaceQueue({ durable: true });

    arrive(1, { operation, sectors: 8, start: 16 });

    expect(record(1)).toEqual({ ...expected, guestOffset: 8192, length: 4096 });
  });

  test('of a queue that gives nothing back', () => {
    replaceQueue({ unmap: false });

    arrive(1, { operation: WRITE_ZEROES, sectors: 8, start: 16 });

    expect(record(1)).toEqual({ kind: RequestKind.WriteZeroes, flags: 0, guestOffset: 8192, length: 4096 });
  });

  test('as far as the device reaches, once it is longer', () => {
    const beyond = { operation: READ, sectors: 8, start: DEVICE_SIZE / 512 };
    expect(arrive(1, beyond)).toEqual([malformed(1, beyond)]);

    fixture.ring.setDeviceSize(DEVICE_SIZE + 4096);

    expect(arrive(2, beyond)).toEqual([{ type: EventType.Request, a: 2, b: 0, c: 0 }]);
    expect(arrive(3, { ...beyond, sectors: 9 })).toEqual([malformed(3, { ...beyond, sectors: 9 })]);
    expect(() => fixture.ring.setDeviceSize(-1)).toThrow();
  });

  test('with nothing left of the last request of its slot', () => {
    new Uint8Array(fixture.memory, fixture.requestAddress(0), 64).fill(0xff);

    arrive(0, { operation: FLUSH, sectors: 0, start: 0 });

    expect(record(0)).toEqual({ kind: RequestKind.Flush, flags: 0, guestOffset: 0, length: 0 });
  });
});

describe('a request that makes no sense is answered with an error, told, counted, and never seen by the core', () => {
  test.each<[string, Descriptor]>([
    ['an unknown operation', { operation: 6, sectors: 1, start: 0 }],
    ['a zone operation', { operation: 10, sectors: 1, start: 0 }],
    ['a read of nothing', { operation: READ, sectors: 0, start: 0 }],
    ['a read larger than its buffer', { operation: READ, sectors: 129, start: 0 }],
    ['a write of a wild length', { operation: WRITE, sectors: 0xffff_ffff, start: 0 }],
    ['a length that wraps around', { operation: WRITE, sectors: 0x0080_0000, start: 0 }],
    ['a read across the end of the device', { operation: READ, sectors: 2, start: DEVICE_SIZE / 512 - 1 }],
    ['a write behind the device', { operation: WRITE, sectors: 1, start: DEVICE_SIZE / 512 }],
    ['a write far behind the device', { operation: WRITE, sectors: 1, start: 2n ** 64n - 1n }],
    ['a start that wraps around', { operation: READ, sectors: 1, start: 2n ** 55n }],
  ])('%s', (_, descriptor) => {
    const events = arrive(2, descriptor);

    expect(events).toEqual([malformed(2, descriptor)]);
    expect(answers[2]).toBe(EIO);
    expect(fixture.ring.statistics().malformed).toBe(1);
  });

  test.each([DISCARD, WRITE_ZEROES])('operation %i over more than is offered', (operation) => {
    const descriptor = { operation, sectors: 2 ** 21 + 1, start: 0 };
    const events = arrive(2, descriptor);

    expect(events).toEqual([malformed(2, descriptor)]);
    expect(answers[2]).toBe(EIO);
    expect(fixture.ring.statistics().malformed).toBe(1);
  });

  test('write same, which is not offered, is only refused', () => {
    const events = arrive(0, { operation: 4, sectors: 8, start: 0 });

    expect(events).toEqual([]);
    expect(answers[0]).toBe(EOPNOTSUPP);
    expect(fixture.ring.statistics().malformed).toBe(0);
  });
});

describe('an answer', () => {
  test('of 0 means all bytes of the request', () => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });

    finish(0, 0);

    expect(answers[0]).toBe(4096);
  });

  test('to a flush is 0', () => {
    arrive(0, { operation: FLUSH, sectors: 0, start: 0 });

    finish(0, 0);

    expect(answers[0]).toBe(0);
  });

  test('with an errno is passed on', () => {
    arrive(0, { operation: WRITE, sectors: 8, start: 0 });

    finish(0, -28);

    expect(answers[0]).toBe(-28);
  });

  test.each([512, 4097, 0x7fff_ffff])('of %i bytes of 4096 is an error', (result) => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });

    finish(0, result);

    expect(answers[0]).toBe(EIO);
  });

  test.each([1, DEPTH, -1])('for slot %i, where no request is, is refused', (slot) => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });

    finish(slot, 0);

    expect([...answers]).toEqual([UNANSWERED, UNANSWERED, UNANSWERED, UNANSWERED]);
    expect(fixture.ring.statistics().violations).toBe(1);
  });

  test('is given once', () => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });
    finish(0, 0);
    answers[0] = UNANSWERED;

    finish(0, 0);

    expect(answers[0]).toBe(UNANSWERED);
    expect(fixture.ring.statistics().violations).toBe(1);
  });

  test('waits for the operations that still use the buffer', () => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });
    fixture.writeOperation(0, { kind: OperationKind.Read, space: BufferSpace.Guest, request: 0, length: 4096 });
    fixture.writeOperation(1, { kind: OperationKind.Flush });

    fixture.turn(
      [
        // Not alone: it goes through the ring.
        [OutgoingType.Operation, 0],
        [OutgoingType.Operation, 1],
        [OutgoingType.Finish, 0],
      ],
      TurnMode.Apply,
    );
    const early = answers[0];
    const events = fixture.turn([], TurnMode.Wait);
    while (events.length < 2) events.push(...fixture.turn([], TurnMode.Wait));

    expect(early).toBe(UNANSWERED);
    expect(events.map(({ type, b }) => [type, b])).toEqual([
      [EventType.Operation, 0],
      [EventType.Operation, 0],
    ]);
    expect(answers[0]).toBe(4096);
  });

  test('waits for what the host was asked for', () => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });
    const wanted = { kind: OperationKind.Decompress, space: BufferSpace.Guest, request: 0, length: 4096 };
    fixture.writeOperation(0, wanted);
    fixture.turn([[OutgoingType.Operation, 0]], TurnMode.Poll);

    finish(0, 0);
    const early = answers[0];
    fixture.ring.deliver(0, new Uint8Array(4096).fill(7));

    expect([early, answers[0]]).toEqual([UNANSWERED, 4096]);
    expect(fixture.carryOut(wanted)).toEqual(INVALID);
  });

  test('is an error when a fill of the request was out of bounds', () => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });

    fixture.turn([[OutgoingType.Fill, 0, 4000, 512]], TurnMode.Apply);
    finish(0, 0);

    expect(answers[0]).toBe(EIO);
    expect(fixture.ring.statistics().violations).toBe(1);
  });
});

describe('the buffer of a tag', () => {
  const read = { kind: OperationKind.Read, space: BufferSpace.Guest, request: 3, length: 4096, hostOffset: 512 };

  test('belongs to operations from the request to its answer', () => {
    fixture.writeOperation(0, read);
    const before = fixture.run(0);
    arrive(3, { operation: READ, sectors: 8, start: 0 });
    const during = fixture.run(0);
    finish(3, 0);
    const after = fixture.run(0);

    expect([before, during, after]).toEqual([INVALID, OK, INVALID]);
    expect(fixture.guestBytes.subarray(3 * GUEST_STRIDE, 3 * GUEST_STRIDE + 4096)).toEqual(content.subarray(512, 4608));
  });

  test('ends where the request ends', () => {
    arrive(3, { operation: READ, sectors: 7, start: 0 });

    expect(fixture.carryOut(read)).toEqual(INVALID);
  });

  test('has no byte for a flush', () => {
    arrive(3, { operation: FLUSH, sectors: 0, start: 0 });

    expect(fixture.carryOut({ ...read, length: 1 })).toEqual(INVALID);
  });
});

describe('the end of the queue', () => {
  test('is reported once, when the last tag came back', () => {
    const seen = [0, 1, 2, 3].map((tag) => {
      fixture.ring.pretendFetched(tag, ENODEV);
      return fixture.turn([], TurnMode.Poll);
    });

    expect(seen.slice(0, 3)).toEqual([[], [], []]);
    expect(seen[3]).toEqual([{ type: EventType.QueueStopped, a: 0, b: 0, c: 0 }]);
  });

  test('names an error that is not the ordinary end', () => {
    for (const [tag, result] of [ENODEV, -22, ENODEV, ENODEV].entries()) fixture.ring.pretendFetched(tag, result);

    expect(fixture.turn([], TurnMode.Poll)).toEqual([{ type: EventType.QueueStopped, a: 22, b: 0, c: 0 }]);
  });

  test('waits for requests that are being served', () => {
    arrive(0, { operation: READ, sectors: 8, start: 0 });
    for (const tag of [1, 2, 3]) fixture.ring.pretendFetched(tag, ENODEV);
    const during = fixture.turn([], TurnMode.Poll);
    finish(0, 0);
    fixture.ring.pretendFetched(0, ENODEV);

    const after = fixture.turn([], TurnMode.Poll);

    expect(during).toEqual([]);
    expect(after.map(({ type }) => type)).toEqual([EventType.QueueStopped]);
  });
});

test.each([
  { depth: 0 },
  { depth: 5000 },
  { depth: 9 },
  { maxIoBytes: 0 },
  { maxIoBytes: 5000 },
  { maxIoBytes: 64 << 20 },
])('a queue of %o is refused', (wrong) => {
  using other = new RingFixture();
  other.attachGuestBuffers();
  const options = { deviceId: 0, depth: DEPTH, maxIoBytes: 4096, deviceSize: DEVICE_SIZE, ...wrong };

  expect(() =>
    other.ring.pretendQueue({ ...options, descriptors: new ArrayBuffer(120_000), answers: new Int32Array(5000) }),
  ).toThrow(/Invalid argument|whole number/);
});

test('a queue of a device that is not there is refused with its errno', () => {
  const attach = () =>
    fixture.ring.attachQueue({ deviceId: 987_654, depth: DEPTH, maxIoBytes: 4096, deviceSize: DEVICE_SIZE });

  using other = new RingFixture();
  expect(attach).toThrow(expect.objectContaining({ code: 'EBUSY' }));
  expect(() =>
    other.ring.attachQueue({ deviceId: 987_654, depth: DEPTH, maxIoBytes: 4096, deviceSize: DEVICE_SIZE }),
  ).toThrow(expect.objectContaining({ code: 'ENOENT', operation: 'open ublk char device' }));
});
