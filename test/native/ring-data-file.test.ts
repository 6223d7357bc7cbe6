/** An external data file beside the image, on the ring. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { OperationKind, Status } from '../../host/abi.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { readByQemu, SIZE } from './images.js';
import { BUFFER, INVALID, OK, pattern, RingFixture } from './ring-fixture.js';
import { DISCARD, FLUSH, Served, WRITE_ZEROES } from './served.js';

const SECTOR = 512;

describe('operations', () => {
  const content = pattern(65_536);
  const descriptors: number[] = [];
  afterEach(() => {
    for (const descriptor of descriptors.splice(0)) closeSync(descriptor);
  });

  function open(path: string): number {
    const descriptor = openSync(path, 'r+');
    descriptors.push(descriptor);
    return descriptor;
  }

  function makeDataFile(): { path: string; data: Uint8Array } {
    const path = join(temporaryFolder(), 'data');
    const data = pattern(65_536, 5);
    writeFileSync(path, data);
    return { path, data };
  }

  test('mean the file whose number they have', () => {
    using fixture = new RingFixture(content);
    const { path, data } = makeDataFile();
    fixture.ring.setDataFile(open(path), { writable: true });
    fixture.bytes.fill(0x77, BUFFER, BUFFER + 512);

    const outcomes = [
      fixture.carryOut({ kind: OperationKind.Write, file: 1, hostOffset: 4096, length: 512, bufferOffset: BUFFER }),
      fixture.carryOut({ kind: OperationKind.Read, file: 1, hostOffset: 4000, length: 4096, bufferOffset: BUFFER }),
      fixture.carryOut({ kind: OperationKind.WriteZeroes, file: 1, hostOffset: 16_384, length: 4096 }),
      fixture.carryOut({ kind: OperationKind.Flush }),
    ];

    data.fill(0x77, 4096, 4608);
    expectSameBytes(fixture.bytes.subarray(BUFFER, BUFFER + 4096), data.subarray(4000, 8096));
    data.fill(0, 16_384, 20_480);
    expect(outcomes).toEqual([OK, OK, OK, OK]);
    expectSameBytes(readFileSync(path), data);
    expect(fixture.content().equals(content)).toBe(true);
  });

  test('change no data file that was given for reading', () => {
    using fixture = new RingFixture(content);
    const { path, data } = makeDataFile();
    fixture.ring.setDataFile(open(path), { writable: false });

    const outcome = fixture.carryOut({ kind: OperationKind.Write, file: 1, length: 512, bufferOffset: BUFFER });

    expect(outcome).toEqual(INVALID);
    expectSameBytes(readFileSync(path), data);
  });

  test('that flush fail when the data file cannot be made durable', () => {
    using fixture = new RingFixture(content);
    fixture.ring.setDataFile(open('/dev/full'), { writable: true });

    const outcome = fixture.carryOut({ kind: OperationKind.Flush });

    expect(outcome).toEqual({ status: Status.InputOutput, errno: 22 });
  });
});

let served: Served | undefined;
afterEach(() => {
  served?.end();
  served = undefined;
});

test.each(['on', 'off'])('an image with data_file_raw=%s is written, and QEMU reads the same', (raw) => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  const folder = temporaryFolder();
  const [path, dataFile] = [join(folder, 'image.qcow2'), join(folder, 'data')];
  const options = `data_file=${dataFile},data_file_raw=${raw}`;
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, path, String(SIZE)]);
  const contents = new Uint8Array(SIZE);
  served = new Served(path, { dataFile });

  for (let count = 0; count < 40; count++) {
    const length = SECTOR * (1 + below(random, 200));
    const offset = SECTOR * below(random, (SIZE - length) / SECTOR);
    if (count % 4 === 3) {
      served.arrive(0, count % 8 === 3 ? WRITE_ZEROES : DISCARD, offset, length);
      expect(served.answersOf(0)).toEqual([0]);
      if (count % 8 === 3) contents.fill(0, offset, offset + length);
      else contents.set(served.readAll(offset, length), offset); // zeros, or left as it was
    } else {
      expect(served.write(offset, pattern(length, count))).toBe(length);
      contents.set(pattern(length, count), offset);
    }
  }
  served.arrive(0, FLUSH, 0, 0);
  expect(served.answersOf(0)).toEqual([0]);
  expectSameBytes(served.readAll(0, SIZE), contents, `seed ${seed}:`);
  expect(served.engine.ring.statistics()).toMatchObject({ violations: 0, operationsInFlight: 0 });
  served.close();

  expect(() => execFileSync('qemu-img', ['check', '-f', 'qcow2', path])).not.toThrow();
  expectSameBytes(readByQemu(path), contents, `QEMU, seed ${seed}:`);
  if (raw === 'on') expectSameBytes(readFileSync(dataFile), contents, `raw, seed ${seed}:`);
});

test('without its data file such an image is refused by name', () => {
  const folder = temporaryFolder();
  const path = join(folder, 'image.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${folder}/data`, path, String(SIZE)]);

  expect(() => new Served(path)).toThrow(/external data file/);
});
