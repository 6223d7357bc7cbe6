/** A raw disk on the ring, with the kernel's part of the queue played by the test. */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { headerIn, packedSignatures } from '../../host/header-guard.js';
import { DataPath, requireAddon, TurnMode } from '../../host/node/addon.js';
import { RawRing } from '../../host/node/raw-ring.js';
import { carryOutRaw } from '../../host/node/ublk-verbs.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { pattern } from './ring-fixture.js';

const [READ, WRITE, FLUSH, DISCARD, WRITE_ZEROES] = [0, 1, 2, 3, 5];
const FUA = 1 << 13;
const DEPTH = 4;
const STRIDE = 65_536;
const SIZE = 1 << 20;
const EIO = -5;
const UNANSWERED = 12_345;

let disk: Disk;
afterEach(() => disk.end());

class Disk {
  readonly path = join(temporaryFolder(), 'disk.img');
  readonly buffers = new Uint8Array(new ArrayBuffer(DEPTH * STRIDE));
  readonly failures: string[] = [];
  readonly raw: RawRing;
  private readonly answers = new Int32Array(DEPTH).fill(UNANSWERED);
  private readonly descriptors = new DataView(new ArrayBuffer(DEPTH * 24));
  private readonly descriptor: number;

  constructor({ guard = true, writable = true, path = DataPath.Plain } = {}) {
    writeFileSync(this.path, pattern(SIZE));
    this.descriptor = openSync(this.path, writable ? 'r+' : 'r');
    const options = { addon: requireAddon(), descriptor: this.descriptor, writable, guard, ignoresFlushes: false };
    const onFailure = ({ message }: Error): void => void this.failures.push(message);
    this.raw = new RawRing({ ...options, guestCapacity: DEPTH }, { onFailure });
    const { ring } = this.raw;
    ring.setGuestBuffers({
      buffer: this.buffers.buffer as ArrayBuffer,
      stride: STRIDE,
      lengths: new Int32Array(DEPTH),
    });
    ring.pretendQueue({
      deviceId: 0,
      depth: DEPTH,
      maxIoBytes: STRIDE,
      deviceSize: SIZE,
      path,
      descriptors: this.descriptors.buffer as ArrayBuffer,
      answers: this.answers,
    });
  }

  arrive(tag: number, operation: number, offset: number, length: number): void {
    this.answers[tag] = UNANSWERED;
    this.descriptors.setUint32(tag * 24, operation, true);
    this.descriptors.setUint32(tag * 24 + 4, length / 512, true);
    this.descriptors.setBigUint64(tag * 24 + 8, BigInt(offset / 512), true);
    this.raw.ring.pretendFetched(tag, 0);
  }

  answerOf(tag: number): number {
    const deadline = performance.now() + 10_000;
    while (this.answers[tag] === UNANSWERED && performance.now() < deadline) this.raw.step(TurnMode.Poll);
    return this.answers[tag] as number;
  }

  write(offset: number, bytes: Uint8Array, flags = 0): number {
    this.buffers.set(bytes, 0);
    this.arrive(0, WRITE | flags, offset, bytes.length);
    return this.answerOf(0);
  }

  content(): Uint8Array {
    return readFileSync(this.path);
  }

  end(): void {
    this.raw.close();
    closeSync(this.descriptor);
  }
}

/** The first sector of an image, as far as its signature goes. */
function sectorWith(signature: number): Uint8Array {
  const packed = packedSignatures();
  let at = 0;
  for (let index = 0; index < signature; index++) at += 2 + packed[at + 1];
  const sector = pattern(512, 9);
  sector.set(packed.subarray(at + 2, at + 2 + packed[at + 1]), packed[at]);
  return sector;
}

describe('a raw disk', () => {
  beforeEach(() => {
    disk = new Disk();
  });

  test('is read and written where the guest says, and only there', () => {
    const expected = pattern(SIZE);
    expected.set(pattern(8192, 2), 4096);
    expected.set(pattern(512, 3), SIZE - 512);

    const answers = [disk.write(4096, pattern(8192, 2)), disk.write(SIZE - 512, pattern(512, 3), FUA)];
    disk.arrive(1, READ, 4096, 65_536);
    answers.push(disk.answerOf(1));

    expect(answers).toEqual([8192, 512, 65_536]);
    expectSameBytes(disk.buffers.subarray(STRIDE, 2 * STRIDE), expected.subarray(4096, 4096 + 65_536));
    expectSameBytes(disk.content(), expected);
  });

  test('has zeros where they are written, and keeps its length through discards', () => {
    const expected = pattern(SIZE);
    expected.fill(0, 8192, 73_728);

    disk.arrive(0, WRITE_ZEROES | FUA, 8192, 65_536);
    disk.arrive(1, DISCARD, 131_072, 65_536);
    disk.arrive(2, FLUSH, 0, 0);
    const answers = [0, 1, 2].map((tag) => disk.answerOf(tag));

    const content = disk.content();
    expect(answers).toEqual([0, 0, 0]);
    expect(content.length).toBe(SIZE);
    expectSameBytes(content.subarray(0, 131_072), expected.subarray(0, 131_072));
    expectSameBytes(content.subarray(196_608), expected.subarray(196_608));
  });

  test('is flushed and counted beside its requests, and has no verbs of images', async () => {
    disk.arrive(1, WRITE, SIZE, 512);
    disk.answerOf(1);

    await carryOutRaw(disk.raw, { name: 'flush' });

    expect(await carryOutRaw(disk.raw, { name: 'statistics' })).toMatchObject({ violations: 0, malformed: 1 });
    await expect(carryOutRaw(disk.raw, { name: 'snapshotList' })).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });
});

describe('the guard', () => {
  const signatures = Array.from({ length: 10 }, (_, index) => index);

  test.each(signatures)('keeps signature %i out of the first sector, alone and ahead of more', (signature) => {
    disk = new Disk();
    const sector = sectorWith(signature);
    const longer = pattern(4096, 4);
    longer.set(sector);

    const answers = [disk.write(0, sector), disk.write(0, longer), disk.write(512, sector)];

    expect(headerIn(sector)).toBeDefined();
    expect(answers).toEqual([EIO, EIO, 512]);
    expect(disk.failures).toEqual([1, 2].map(() => expect.stringContaining('would become the header of an image')));
    expectSameBytes(disk.content().subarray(0, 512), pattern(SIZE).subarray(0, 512));
  });

  test('knows every signature', () => {
    disk = new Disk();
    const packed = packedSignatures();
    let count = 0;
    for (let at = 0; at < packed.length; at += 2 + packed[at + 1]) count++;

    expect(count).toBe(signatures.length);
  });

  test('lets everything else into the first sector, and zeros', () => {
    disk = new Disk();

    const written = disk.write(0, pattern(4096, 5));
    disk.arrive(1, WRITE_ZEROES, 0, 4096);

    expect([written, disk.answerOf(1)]).toEqual([4096, 0]);
  });

  test('can be left out', () => {
    disk = new Disk({ guard: false });

    expect(disk.write(0, sectorWith(0))).toBe(512);
  });

  test.each([
    ['no length', [0, 0]],
    ['bytes that are not there', [0, 4, 1]],
    ['a place behind the sector', [255, 255, ...new Array(255).fill(1), 255, 255]],
  ])('is not made of a signature with %s', (_what, packed) => {
    disk = new Disk();

    expect(() => disk.raw.ring.setFile(0, { writable: true, forbidden: Uint8Array.from(packed) })).toThrow(/set file/);
  });
});
