import { closeSync, openSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BufferSpace, OperationKind, Status } from '../../host/abi.js';
import { EventType, OutgoingType, TurnMode } from '../../host/node/addon.js';
import { BUFFER, OK, pattern, RingFixture } from './ring-fixture.js';

/** tmpfs refuses FALLOC_FL_ZERO_RANGE, which most others take: both ways must do the same. */
const FOLDERS = [
  { name: 'the folder for temporary files', folder: undefined },
  { name: 'tmpfs', folder: '/dev/shm' },
];

describe.each(FOLDERS)('a file in $name', ({ folder }) => {
  let fixture: RingFixture;
  const content = pattern(100_000);

  beforeEach(() => {
    fixture = new RingFixture(content, folder === undefined ? {} : { folder });
  });
  afterEach(() => fixture[Symbol.dispose]());

  test('a read brings the bytes of the file', () => {
    const outcome = fixture.carryOut({
      kind: OperationKind.Read,
      hostOffset: 513,
      length: 70_000,
      bufferOffset: BUFFER,
    });

    expect(outcome).toEqual(OK);
    expect(fixture.bytes.subarray(BUFFER, BUFFER + 70_000)).toEqual(content.subarray(513, 70_513));
    expect(fixture.bytes[BUFFER + 70_000]).toBe(0);
  });

  test('a read across the end of the file brings zeros for what is beyond', () => {
    fixture.bytes.fill(0xee, BUFFER, BUFFER + 5000);

    const outcome = fixture.carryOut({
      kind: OperationKind.Read,
      hostOffset: 99_000,
      length: 4096,
      bufferOffset: BUFFER,
    });

    expect(outcome).toEqual(OK);
    expect(fixture.bytes.subarray(BUFFER, BUFFER + 1000)).toEqual(content.subarray(99_000));
    expect(fixture.bytes.subarray(BUFFER + 1000, BUFFER + 4096)).toEqual(new Uint8Array(3096));
    expect(fixture.bytes[BUFFER + 4096]).toBe(0xee);
  });

  test('a read far beyond the end of the file brings zeros', () => {
    fixture.bytes.fill(0xee, BUFFER, BUFFER + 512);

    const outcome = fixture.carryOut({
      kind: OperationKind.Read,
      hostOffset: 2 ** 40,
      length: 512,
      bufferOffset: BUFFER,
    });

    expect(outcome).toEqual(OK);
    expect(fixture.bytes.subarray(BUFFER, BUFFER + 512)).toEqual(new Uint8Array(512));
  });

  test('a write changes its bytes and no others', () => {
    fixture.bytes.set(pattern(3000, 5), BUFFER);

    const outcome = fixture.carryOut({
      kind: OperationKind.Write,
      hostOffset: 777,
      length: 3000,
      bufferOffset: BUFFER,
    });

    expect(outcome).toEqual(OK);
    const expected = content.slice();
    expected.set(pattern(3000, 5), 777);
    expect(fixture.content().equals(expected)).toBe(true);
  });

  test.each([
    { zeroBefore: 60_000, length: 4096, zeroAfter: 1440 },
    { zeroBefore: 30_000, length: 4096, zeroAfter: 8000 },
    { zeroBefore: 512, length: 1024, zeroAfter: 0 },
    { zeroBefore: 0, length: 1024, zeroAfter: 64_512 },
    { zeroBefore: 3_000_000, length: 100, zeroAfter: 5_000_000 },
    { zeroBefore: 700, length: 0, zeroAfter: 0 },
  ])('a write of $zeroBefore zeros, $length bytes and $zeroAfter zeros is one operation', (parts) => {
    fixture.bytes.set(pattern(parts.length, 9), BUFFER);

    const outcome = fixture.carryOut({ kind: OperationKind.Write, hostOffset: 50_000, bufferOffset: BUFFER, ...parts });

    expect(outcome).toEqual(OK);
    const total = parts.zeroBefore + parts.length + parts.zeroAfter;
    const expected = new Uint8Array(Math.max(content.length, 50_000 + total));
    expected.set(content);
    expected.fill(0, 50_000, 50_000 + total);
    expected.set(pattern(parts.length, 9), 50_000 + parts.zeroBefore);
    expect(fixture.content().equals(expected)).toBe(true);
  });

  test('a write takes what surrounds it from a scratch buffer', () => {
    const { ring } = fixture;
    ring.setScratch(8192);
    const scratch = { space: BufferSpace.Scratch, request: 3 };
    const filled = [
      fixture.carryOut({ kind: OperationKind.Read, ...scratch, hostOffset: 1000, bufferOffset: 700, length: 600 }),
      fixture.carryOut({ kind: OperationKind.Read, ...scratch, hostOffset: 5000, bufferOffset: 7692, length: 500 }),
    ];
    fixture.bytes.set(pattern(1024, 7), BUFFER);
    const edges = { zeroBefore: 600, zeroAfter: 500, edges: 4, sourceOffset: 700 };

    const outcome = fixture.carryOut({
      kind: OperationKind.Write,
      hostOffset: 20_000,
      length: 1024,
      bufferOffset: BUFFER,
      ...edges,
    });
    const moved = fixture.carryOut({
      kind: OperationKind.Write,
      ...scratch,
      hostOffset: 40_000,
      bufferOffset: 700,
      length: 600,
    });

    expect([...filled, outcome, moved]).toEqual([OK, OK, OK, OK]);
    const expected = content.slice();
    expected.set(content.subarray(1000, 1600), 20_000);
    expected.set(pattern(1024, 7), 20_600);
    expected.set(content.subarray(5000, 5500), 21_624);
    expected.set(content.subarray(1000, 1600), 40_000);
    expect(fixture.content().equals(expected)).toBe(true);
  });

  test('zeroes are written in place of data', () => {
    const outcome = fixture.carryOut({ kind: OperationKind.WriteZeroes, hostOffset: 1000, length: 80_000 });

    expect(outcome).toEqual(OK);
    expect(fixture.content().equals(content.slice().fill(0, 1000, 81_000))).toBe(true);
  });

  test('zeroes beyond the end of the file make it longer', () => {
    const outcome = fixture.carryOut({ kind: OperationKind.WriteZeroes, hostOffset: 90_000, length: 5 << 20 });

    expect(outcome).toEqual(OK);
    const expected = new Uint8Array(90_000 + (5 << 20));
    expected.set(content.subarray(0, 90_000));
    expect(fixture.content().equals(expected)).toBe(true);
  });

  test('a discard leaves zeros or the old bytes, and the length', () => {
    const outcome = fixture.carryOut({ kind: OperationKind.Discard, hostOffset: 8192, length: 16_384 });

    expect(outcome).toEqual(OK);
    const zeroed = content.slice().fill(0, 8192, 24_576);
    expect([zeroed, content].some((expected) => fixture.content().equals(expected))).toBe(true);
  });

  test.each([0, 12_345, 100_000, 1_000_000])('a truncation makes the file %i bytes long', (length) => {
    const outcome = fixture.carryOut({ kind: OperationKind.Truncate, hostOffset: length });

    expect(outcome).toEqual(OK);
    const expected = new Uint8Array(length);
    expected.set(content.subarray(0, length));
    expect(fixture.content().equals(expected)).toBe(true);
  });

  test('a flush ends well', () => {
    expect(fixture.carryOut({ kind: OperationKind.Flush })).toEqual(OK);
  });

  test('operations of no bytes end well', () => {
    const kinds = [OperationKind.Read, OperationKind.Write, OperationKind.WriteZeroes, OperationKind.Discard];

    expect(kinds.map((kind) => fixture.carryOut({ kind, hostOffset: 5 }))).toEqual(kinds.map(() => OK));
  });

  test('operations that run side by side each end once', () => {
    for (let index = 0; index < 16; index++) {
      fixture.writeOperation(index, {
        kind: OperationKind.Read,
        hostOffset: index * 4096,
        length: 4096,
        bufferOffset: BUFFER + index * 4096,
      });
    }
    const ended: number[] = [];

    let events = fixture.turn(
      Array.from({ length: 16 }, (_, index) => [OutgoingType.Operation, index] as const),
      TurnMode.Wait,
    );
    while (ended.length < 16) {
      expect(events.every(({ type, b }) => type === EventType.Operation && b === Status.Ok)).toBe(true);
      ended.push(...events.map(({ a }) => a));
      if (ended.length < 16) events = fixture.turn([], TurnMode.Wait);
    }

    expect(ended.sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, index) => index));
    expect(fixture.bytes.subarray(BUFFER, BUFFER + 65_536)).toEqual(content.subarray(0, 65_536));
    expect(fixture.turn([], TurnMode.Poll)).toEqual([]);
  });
});

test('events that find no room come with the next turns', () => {
  using fixture = new RingFixture(pattern(8192), { eventCapacity: 3 });
  for (let index = 0; index < 8; index++) {
    fixture.writeOperation(index, { kind: OperationKind.Read, length: 512, bufferOffset: BUFFER });
  }
  // Refused ones are reported at once, the others when they end: both ways may find the quads full.
  const entries = Array.from({ length: 16 }, (_, index) => [OutgoingType.Operation, index] as const);

  const counts: number[] = [];
  const ended: number[] = [];
  for (let events = fixture.turn(entries, TurnMode.Wait); ; events = fixture.turn([], TurnMode.Wait)) {
    counts.push(events.length);
    ended.push(...events.map(({ a }) => a));
    if (ended.length >= 16) break;
  }

  expect(ended.sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, index) => index));
  expect(Math.max(...counts)).toBe(3);
});

test('a turn that only applies reports nothing and loses nothing', () => {
  using fixture = new RingFixture(pattern(8192));
  fixture.writeOperation(0, { kind: OperationKind.Read, length: 512, bufferOffset: BUFFER });

  const applied = fixture.turn(
    [
      [OutgoingType.Operation, 0],
      [OutgoingType.Operation, 999],
    ],
    TurnMode.Apply,
  );
  const ended = [...fixture.turn([], TurnMode.Wait)];
  while (ended.length < 2) ended.push(...fixture.turn([], TurnMode.Wait));

  expect(applied).toEqual([]);
  expect(ended.map(({ a }) => a).sort((a, b) => a - b)).toEqual([0, 999]);
});

test('a full disk is reported as no space', () => {
  using fixture = new RingFixture();
  fixture.ring.setFile(openFull(), { writable: true });

  const outcome = fixture.carryOut({ kind: OperationKind.Write, length: 512, bufferOffset: BUFFER });

  expect(outcome).toEqual({ status: Status.NoSpace, errno: 28 });
});

test('closing waits for the operations under way', () => {
  const fixture = new RingFixture();
  fixture.bytes.fill(7, BUFFER, BUFFER + (4 << 20));
  fixture.writeOperation(0, { kind: OperationKind.Write, length: 4 << 20, bufferOffset: BUFFER });
  fixture.turn([[OutgoingType.Operation, 0]], TurnMode.Apply);

  fixture.ring.close();

  expect(fixture.content().equals(new Uint8Array(4 << 20).fill(7))).toBe(true);
  expect(() => fixture.ring.turn()).toThrow(/Bad file descriptor/);
  fixture[Symbol.dispose]();
});

function openFull(): number {
  return openSync('/dev/full', 'r+');
}

test('a flush of a file whose flushes are to be ignored never asks the file', () => {
  using fixture = new RingFixture();
  const cannotFlush = openSync('/dev/null', 'r+');
  const flush = { kind: OperationKind.Flush };

  fixture.ring.setFile(cannotFlush, { writable: true });
  const asked = fixture.carryOut(flush);
  fixture.ring.setFile(cannotFlush, { writable: true, ignoresFlushes: true });
  const ignored = fixture.carryOut(flush);
  closeSync(cannotFlush);

  expect(asked.status).toBe(Status.InputOutput);
  expect(ignored).toEqual(OK);
});
