import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BufferSpace, OperationKind, Status } from '../../host/abi.js';
import { EventType, OutgoingType, TurnMode } from '../../host/node/addon.js';
import type { OperationFields } from './ring-fixture.js';
import { BUFFER, GUEST_SLOTS, GUEST_STRIDE, INVALID, MEMORY_LENGTH, OK, pattern, RingFixture } from './ring-fixture.js';

const { Read, Write, WriteZeroes, Discard, Truncate, Decompress, ReadBacking } = OperationKind;
const { Module, Guest, Scratch } = BufferSpace;
/** Bytes of each scratch buffer. */
const SCRATCH = 8192;
const content = pattern(16_384);

let fixture: RingFixture;

beforeEach(() => {
  fixture = new RingFixture(content);
  fixture.ring.setScratch(SCRATCH);
  fixture.attachGuestBuffers();
  fixture.lengths[2] = 8192;
});
afterEach(() => fixture[Symbol.dispose]());

describe('an operation is refused, counted, and does nothing', () => {
  const refused: [string, OperationFields][] = [
    ['of no kind', { kind: 0 as OperationKind, length: 512 }],
    ['of an unknown kind', { kind: 9 as OperationKind, length: 512 }],
    ['of a kind with high bits', { kind: 0x80000001 as OperationKind, length: 512 }],
    ['that decompresses into the memory of the core', { kind: Decompress, length: 512, bufferOffset: BUFFER }],
    ['that decompresses into no slot', { kind: Decompress, space: Guest, request: GUEST_SLOTS, length: 512 }],
    ['that decompresses more than announced', { kind: Decompress, space: Guest, request: 2, length: 8704 }],
    [
      'that decompresses behind a scratch buffer',
      { kind: Decompress, space: Scratch, bufferOffset: SCRATCH - 256, length: 512 },
    ],
    [
      'whose zeros behind backing bytes go too far',
      { kind: ReadBacking, space: Guest, request: 2, length: 8000, zeroAfter: 512 },
    ],
    [
      'whose zeros behind backing bytes wrap around',
      { kind: ReadBacking, space: Guest, request: 2, length: 512, zeroAfter: 0xffff_ffff },
    ],
    ['that reads backing bytes into wild memory', { kind: ReadBacking, space: 3 as BufferSpace, length: 512 }],
    ['in an unknown space', { kind: Read, space: 3 as BufferSpace, length: 512 }],
    ['for a scratch buffer that does not exist', { kind: Read, space: Scratch, request: 8, length: 512 }],
    ['for a scratch buffer of a wild number', { kind: Write, space: Scratch, request: 0xffff_ffff, length: 512 }],
    ['past the end of a scratch buffer', { kind: Read, space: Scratch, bufferOffset: SCRATCH - 256, length: 512 }],
    ['whose edges are of no scratch buffer', { kind: Write, length: 512, zeroBefore: 512, edges: 9 }],
    ['whose edges are of a wild number', { kind: Write, length: 512, zeroBefore: 512, edges: 0xffff_ffff }],
    [
      'whose first edge goes past the end of its buffer',
      { kind: Write, length: 512, zeroBefore: 512, edges: 1, sourceOffset: SCRATCH - 256 },
    ],
    ['whose last edge is longer than its buffer', { kind: Write, length: 512, zeroAfter: SCRATCH + 512, edges: 8 }],
    ['in a data file that is not there', { kind: Read, file: 1, length: 512, bufferOffset: BUFFER }],
    ['in an unknown file', { kind: Read, file: 2, length: 512, bufferOffset: BUFFER }],
    ['in a file of a wild number', { kind: Write, file: 0xffff_ffff, length: 512, bufferOffset: BUFFER }],
    ['at a negative file offset', { kind: Read, hostOffset: 2n ** 63n, length: 512, bufferOffset: BUFFER }],
    ['beyond the last file offset', { kind: Read, hostOffset: 2n ** 63n - 100n, length: 512, bufferOffset: BUFFER }],
    ['whose file range wraps around', { kind: Write, hostOffset: 2n ** 64n - 256n, length: 512, bufferOffset: BUFFER }],
    ['whose zeros go beyond', { kind: Write, hostOffset: 2n ** 63n - 600n, length: 512, zeroAfter: 512 }],
    ['that zeroes beyond', { kind: WriteZeroes, hostOffset: 2n ** 63n - 1n, length: 512 }],
    ['that discards beyond', { kind: Discard, hostOffset: 2n ** 64n - 512n, length: 512 }],
    ['that truncates to a negative length', { kind: Truncate, hostOffset: 2n ** 63n }],
    ['that reads past the end of memory', { kind: Read, length: 512, bufferOffset: MEMORY_LENGTH - 256 }],
    ['that writes from past the end of memory', { kind: Write, length: 512, bufferOffset: MEMORY_LENGTH }],
    ['whose memory range wraps around', { kind: Read, length: 4096, bufferOffset: 0xffff_ff00 }],
    ['for a slot that does not exist', { kind: Read, space: Guest, request: GUEST_SLOTS, length: 512 }],
    ['for a slot of a wild number', { kind: Write, space: Guest, request: 0xffff_ffff, length: 512 }],
    ['for a slot without a request', { kind: Read, space: Guest, request: 1, length: 512 }],
    ['for more than the request announced', { kind: Read, space: Guest, request: 2, length: 8704 }],
    ['from behind what was announced', { kind: Write, space: Guest, request: 2, bufferOffset: 8000, length: 512 }],
    [
      'whose guest range wraps around',
      { kind: Read, space: Guest, request: 2, bufferOffset: 0xffff_fe00, length: 512 },
    ],
  ];

  test.each(refused)('%s', (_, fields) => {
    fixture.writeOperation(0, fields);

    const outcome = fixture.run(0);

    expect(outcome).toEqual(INVALID);
    expect(fixture.ring.statistics()).toMatchObject({ violations: 1, operationsInFlight: 0 });
    expect(fixture.content().equals(content)).toBe(true);
    expect(fixture.guestBytes.every((byte) => byte === 0)).toBe(true);
  });

  test.each([16, 17, 1 << 20, -1])('with the index %i', (index) => {
    const events = fixture.turn([[OutgoingType.Operation, index]], TurnMode.Wait);

    expect(events).toEqual([{ type: EventType.Operation, a: index, b: Status.Invalid, c: 0 }]);
    expect(fixture.ring.statistics().violations).toBe(1);
  });

  test.each([Write, WriteZeroes, Discard, Truncate])('of kind %i when the file may not be changed', (kind) => {
    using readOnly = new RingFixture(content, { writable: false });

    const outcome = readOnly.carryOut({ kind, length: 512, bufferOffset: BUFFER });

    expect(outcome).toEqual(INVALID);
    expect(readOnly.content().equals(content)).toBe(true);
  });

  test('when it is already under way', () => {
    // Too long to be done at once.
    fixture.writeOperation(0, { kind: Read, length: 1 << 20, bufferOffset: BUFFER });

    const events = fixture.turn(
      [
        [OutgoingType.Operation, 0],
        [OutgoingType.Operation, 0],
      ],
      TurnMode.Wait,
    );
    while (events.length < 2) events.push(...fixture.turn([], TurnMode.Wait));

    expect(events.map(({ b }) => b).sort()).toEqual([Status.Ok, Status.Invalid]);
    expect(fixture.ring.statistics().violations).toBe(1);
  });
});

describe("an operation that is the host's", () => {
  const wanted = { kind: Decompress, space: Guest, request: 2, bufferOffset: 4096, length: 512 };

  test.each([wanted, { ...wanted, kind: ReadBacking, zeroAfter: 512 }])(
    'is handed to it, and takes its bytes and no others: %o',
    (fields) => {
      fixture.guestBytes.fill(0xee);
      fixture.writeOperation(3, fields);
      const events = fixture.turn([[OutgoingType.Operation, 3]], TurnMode.Wait);
      const during = fixture.ring.statistics().operationsInFlight;
      // What the core does to the record meanwhile changes nothing.
      fixture.writeOperation(3, { kind: Write, space: Guest, request: 0, length: 16 });

      const delivered = fixture.ring.deliver(3, new Uint8Array(new SharedArrayBuffer(512)).fill(0x11));

      expect(events).toEqual([{ type: EventType.Help, a: 3, b: 512, c: fields.kind }]);
      expect([delivered, during, fixture.ring.statistics().operationsInFlight]).toEqual([true, 1, 0]);
      const expected = new Uint8Array(GUEST_SLOTS * GUEST_STRIDE).fill(0xee);
      const start = 2 * GUEST_STRIDE + 4096;
      expected.fill(0x11, start, start + 512);
      if (fields.kind === ReadBacking) expected.fill(0, start + 512, start + 1024);
      expect(Buffer.compare(fixture.guestBytes, expected)).toBe(0);
    },
  );

  test('that wants only zeros gets them at once', () => {
    fixture.guestBytes.fill(0xee);

    const outcome = fixture.carryOut({ kind: ReadBacking, space: Guest, request: 2, length: 0, zeroAfter: 1024 });

    expect(outcome).toEqual(OK);
    const expected = new Uint8Array(GUEST_SLOTS * GUEST_STRIDE).fill(0xee);
    expected.fill(0, 2 * GUEST_STRIDE, 2 * GUEST_STRIDE + 1024);
    expect(Buffer.compare(fixture.guestBytes, expected)).toBe(0);
  });

  test('is delivered once', () => {
    fixture.writeOperation(3, wanted);
    fixture.turn([[OutgoingType.Operation, 3]], TurnMode.Wait);

    const deliveries = [1, 2].map((value) => fixture.ring.deliver(3, new Uint8Array(512).fill(value)));

    expect(deliveries).toEqual([true, false]);
    expect(fixture.guestBytes[2 * GUEST_STRIDE + 4096]).toBe(1);
  });

  test.each([0, 511, 513, 100_000])('takes no %i bytes', (length) => {
    fixture.writeOperation(3, wanted);
    fixture.turn([[OutgoingType.Operation, 3]], TurnMode.Wait);

    const delivered = fixture.ring.deliver(3, new Uint8Array(length).fill(1));

    expect(delivered).toBe(false);
    expect(fixture.ring.statistics().operationsInFlight).toBe(0);
    expect(fixture.guestBytes.every((byte) => byte === 0)).toBe(true);
  });

  test.each([4, 15, 16, 0xffff_ffff])('is not operation %i', (index) => {
    fixture.writeOperation(3, wanted);
    fixture.turn([[OutgoingType.Operation, 3]], TurnMode.Wait);

    expect(fixture.ring.deliver(index, new Uint8Array(512))).toBe(false);
    expect(fixture.ring.statistics().operationsInFlight).toBe(1);
  });

  test('is not one of the ring', () => {
    // Too long to be done at once.
    fixture.writeOperation(0, { kind: Read, length: 1 << 20, bufferOffset: BUFFER });
    fixture.turn([[OutgoingType.Operation, 0]], TurnMode.Apply);

    const delivered = fixture.ring.deliver(0, new Uint8Array(1 << 20));

    expect(delivered).toBe(false);
    expect(fixture.turn([], TurnMode.Wait)).toEqual([{ type: EventType.Operation, a: 0, b: Status.Ok, c: 0 }]);
  });

  test('is not waited for by the end of the ring, after which nothing is delivered', () => {
    fixture.writeOperation(3, wanted);
    fixture.turn([[OutgoingType.Operation, 3]], TurnMode.Wait);

    fixture.ring.close();

    expect(fixture.ring.deliver(3, new Uint8Array(512).fill(1))).toBe(false);
    expect(fixture.guestBytes.every((byte) => byte === 0)).toBe(true);
  });

  test.each([
    [-1, null],
    [3, 'bytes'],
    [3, new Uint16Array(256)],
    [3, undefined],
  ])('is not %s with %o', (index, bytes) => {
    expect(() => fixture.ring.deliver(index, bytes as never)).toThrow(TypeError);
  });
});

test('a guest buffer takes exactly what the request announced', () => {
  const whole = fixture.carryOut({ kind: Read, space: Guest, request: 2, length: 8192 });

  expect(whole).toEqual(OK);
  expect(fixture.guestBytes.subarray(2 * GUEST_STRIDE, 2 * GUEST_STRIDE + 8192)).toEqual(content.subarray(0, 8192));
  expect(fixture.guestBytes.filter((byte) => byte !== 0).length).toBe(8192);
});

test('a guest buffer is what a write takes its bytes from', () => {
  fixture.guestBytes.set(pattern(1024, 3), 2 * GUEST_STRIDE + 100);

  const outcome = fixture.carryOut({
    kind: Write,
    space: Guest,
    request: 2,
    bufferOffset: 100,
    length: 1024,
    hostOffset: 4096,
    zeroBefore: 512,
    zeroAfter: 512,
  });

  expect(outcome).toEqual(OK);
  const expected = content.slice().fill(0, 4096, 6144);
  expected.set(pattern(1024, 3), 4608);
  expect(fixture.content().equals(expected)).toBe(true);
});

test('memory is used up to its very last byte', () => {
  const outcome = fixture.carryOut({ kind: Read, length: 512, bufferOffset: MEMORY_LENGTH - 512, space: Module });

  expect(outcome).toEqual(OK);
  expect(fixture.bytes.subarray(MEMORY_LENGTH - 512)).toEqual(content.subarray(0, 512));
});

test('a fill zeroes its stretch and nothing else', () => {
  fixture.guestBytes.fill(0xaa);

  fixture.turn([[OutgoingType.Fill, 2, 100, 50]], TurnMode.Apply);

  const expected = new Uint8Array(GUEST_SLOTS * GUEST_STRIDE).fill(0xaa);
  expected.fill(0, 2 * GUEST_STRIDE + 100, 2 * GUEST_STRIDE + 150);
  expect(Buffer.compare(fixture.guestBytes, expected)).toBe(0);
});

test.each([
  [2, 8000, 512],
  [2, -1, 512],
  [2, 0, -1],
  [1, 0, 1],
  [-1, 0, 1],
  [GUEST_SLOTS, 0, 1],
])('a fill of slot %i at %i for %i bytes is refused', (slot, offset, length) => {
  fixture.guestBytes.fill(0xaa);

  fixture.turn([[OutgoingType.Fill, slot, offset, length]], TurnMode.Apply);

  expect(fixture.guestBytes.every((byte) => byte === 0xaa)).toBe(true);
  expect(fixture.ring.statistics().violations).toBe(1);
});

test.each([
  [0, 5],
  [99, 5],
])('an outgoing entry of the unknown type %i is counted', (type, a) => {
  fixture.turn([[type as OutgoingType, a]], TurnMode.Apply);

  expect(fixture.ring.statistics().violations).toBe(1);
});

test('a count beyond the outgoing entries is cut to what is there', () => {
  fixture.outgoing.fill(0).set([1_000_000, TurnMode.Apply]);

  fixture.ring.turn();

  expect(fixture.ring.statistics().violations).toBe(64);
});

test.each([
  { operations: 4 },
  { operations: MEMORY_LENGTH - 64 },
  { requests: 0xffff_fff8 },
  { operationCapacity: 1 << 19 },
])('records at %o that do not lie in the memory make no ring', (wrong) => {
  const options = {
    memory: fixture.memory,
    operations: 1024,
    operationCapacity: 16,
    requests: 8192,
    requestCapacity: 8,
    outgoing: fixture.outgoing,
    events: fixture.events,
    ...wrong,
  };

  expect(() => new (Object.getPrototypeOf(fixture.ring).constructor)(options)).toThrow(/Invalid argument/);
});
