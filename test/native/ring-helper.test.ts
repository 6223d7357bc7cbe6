/** The ring with its helper thread: compressed clusters on a ublk device. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { MessagePort } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { RequestKind } from '../../host/abi.js';
import type { HelperData, HelperOrder, HelperReport } from '../../host/node/helper-messages.js';
import { startHelperThread } from '../../host/node/helper-thread.js';
import { createImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { firstCompressed, makeCompressed, readByQemu, SIZE } from './images.js';
import { pattern } from './ring-fixture.js';
import { EIO, READ, Served, WRITE } from './served.js';

const SECTOR = 512;

let served: Served | undefined;

afterEach(() => {
  served?.end();
  served = undefined;
});

const helper = { start: (data: HelperData) => startHelperThread(data, () => {}) };
const kinds = (['zlib', 'zstd'] as const).flatMap((type) =>
  [512, 65536, 2 << 20].map((clusterSize) => ({ type, clusterSize })),
);

describe.each(kinds)('compressed clusters of $type, $clusterSize bytes', (kind) => {
  test('are read', () => {
    const { path, contents } = makeCompressed(kind);
    served = new Served(path, { writable: false, helper });

    const found = served.readAll(0, SIZE);

    expectSameBytes(found, contents);
    expect(served.engine.ring.statistics()).toMatchObject({ violations: 0, operationsInFlight: 0 });
    served.close();
  });

  test('can be written in parts, which QEMU reads', () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const { path, contents } = makeCompressed(kind);
    served = new Served(path, { helper });

    for (let count = 0; count < 30; count++) {
      const length = SECTOR * (1 + below(random, 20));
      const offset = SECTOR * below(random, (SIZE - length) / SECTOR);
      const bytes = pattern(length, count);
      expect(served.write(offset, bytes)).toBe(length);
      contents.set(bytes, offset);
    }
    expectSameBytes(served.readAll(0, SIZE), contents, `seed ${seed}:`);
    served.close();

    expect(() => execFileSync('qemu-img', ['check', '-f', 'qcow2', path])).not.toThrow();
    expectSameBytes(readByQemu(path), contents, `seed ${seed}:`);
  });
});

test('more requests than lanes are all served', () => {
  const { path, contents } = makeCompressed({ type: 'zlib', clusterSize: 4096 });
  served = new Served(path, { writable: false, helper: { ...helper, jobs: 1 } });

  const found = served.readAll(0, SIZE);

  expectSameBytes(found, contents);
});

test('an image without compressed clusters starts no thread', async () => {
  const path = join(temporaryFolder(), 'plain.qcow2');
  await createImage(path, { virtualSize: SIZE });
  let started = false;
  const start = (): void => {
    started = true;
  };
  served = new Served(path, { helper: { start } });

  served.write(5000 * SECTOR, pattern(3 * SECTOR));
  served.readAll(0, SIZE);
  served.close();

  expect(started).toBe(false);
});

test('without a helper compressed clusters are refused by name', () => {
  const { path } = makeCompressed({ type: 'zlib', clusterSize: 65536 });
  served = new Served(path, { writable: false });

  served.arrive(0, READ, 0, SECTOR);

  expect(served.answersOf(0)[0]).toBeLessThan(0);
  expect(served.failures[0].message).toMatch(/compressed clusters/);
});

test.each(['zlib', 'zstd'] as const)(
  'damaged %s data is an error with its cause, and no end of the rest',
  async (type) => {
    const { path, contents } = makeCompressed({ type, clusterSize: 65536 });
    const damaged = await firstCompressed(path);
    const descriptor = openSync(path, 'r+');
    writeSync(descriptor, Buffer.alloc(40, 0xff), 0, 40, damaged.hostOffset);
    closeSync(descriptor);
    served = new Served(path, { helper });

    served.buffer(0, 4096).fill(0xee);
    served.arrive(0, READ, damaged.offset, 4096);
    const read = served.answersOf(0);
    const partly = served.write(damaged.offset + SECTOR, pattern(SECTOR));
    const whole = served.write(damaged.offset, pattern(65536));
    const after = served.readAll(damaged.offset, 131_072);
    served.close();

    expect([...read, partly, whole]).toEqual([EIO, EIO, 65536]);
    expect(served.failures.map(({ code }) => code)).toEqual(['ERR_IMAGE_CORRUPT', 'ERR_IMAGE_CORRUPT']);
    expect(served.failures[0].message).toMatch(
      new RegExp(`the compressed cluster at file offset ${damaged.hostOffset} cannot be decompressed.*: `),
    );
    contents.set(pattern(65536), damaged.offset);
    expectSameBytes(after, contents.subarray(damaged.offset, damaged.offset + 131_072));
  },
);

describe('while a helper works', () => {
  /** A helper that is played by the test. */
  class Played {
    port: MessagePort | undefined;
    readonly jobs: (HelperOrder & { type: 'job' })[] = [];
    readonly memory: Uint8Array[] = [];

    readonly options = {
      start: ({ port }: HelperData): void => {
        this.port = port;
        port.on('message', (order: HelperOrder) => {
          if (order.type === 'job') this.jobs.push(order);
          else if (order.type === 'lane') this.memory[order.lane] = new Uint8Array(order.memory);
        });
      },
    };

    /** Lets the ring and this thread's event loop go on until so many jobs have come. */
    async jobsCome(target: Served, count: number): Promise<void> {
      for (let tries = 0; this.jobs.length < count; tries++) {
        if (tries > 500) throw new Error(`${this.jobs.length} jobs came`);
        target.engine.step(0);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }

    report(target: Served, message: HelperReport): void {
      this.port?.postMessage(message);
      target.engine.ring.wake();
    }
  }

  /** A request for the first cluster, in the hands of a helper. */
  async function begin(operation: number, jobs?: number): Promise<{ played: Played; target: Served }> {
    const { path } = makeCompressed({ type: 'zlib', clusterSize: 65536 });
    const played = new Played();
    const target = new Served(path, { helper: { ...played.options, jobs } });
    served = target;
    const { offset } = await firstCompressed(path);
    target.buffer(0, 4096).fill(0xee);
    target.arrive(0, operation, offset, 4096);
    await played.jobsCome(target, 1);
    return { played, target };
  }

  test('the request waits and its buffer stays as it is', async () => {
    const { played, target } = await begin(READ);

    for (let count = 0; count < 20; count++) target.engine.step(0);
    const early = target.isAnswered(0);
    const during = target.buffer(0, 4096).every((byte) => byte === 0xee);
    played.memory[played.jobs[0].lane].fill(0x5a, 0, 4096);
    played.report(target, { type: 'done', lane: played.jobs[0].lane });

    expect([early, during]).toEqual([false, true]);
    expect(target.answersOf(0)).toEqual([4096]);
    expect(target.buffer(0, 4096).every((byte) => byte === 0x5a)).toBe(true);
    played.port?.close();
  });

  test.each([
    ['a read', READ],
    ['a write', WRITE],
  ])('closing the image waits for %s', async (_, operation) => {
    const { played, target } = await begin(operation);
    const { lane, job } = played.jobs[0];
    played.memory[lane].fill(0x5a, 0, job.length);
    let turns = 0;
    const { ring } = target.engine;
    const turn = ring.turn.bind(ring);
    // The image is being closed by the time the helper is ready.
    Object.defineProperty(target.engine, 'turn', {
      value: () => {
        if (++turns === 20) played.report(target, { type: 'done', lane });
        if (turns < 20) ring.wake();
        turn();
      },
    });

    target.engine.control(RequestKind.Close, 0, () => undefined);
    const answers = target.answersOf(0);

    expect(turns).toBeGreaterThanOrEqual(20);
    expect(answers).toEqual([4096]);
    played.port?.close();
  });

  test('the end of the ring does not wait, and what comes later goes nowhere', async () => {
    const { played, target } = await begin(READ);

    target.end();
    const { lane } = played.jobs[0];
    played.memory[lane].fill(0x5a);
    played.port?.postMessage({ type: 'done', lane });

    expect(target.isAnswered(0)).toBe(false);
    expect(target.buffer(0, 4096).every((byte) => byte === 0xee)).toBe(true);
    played.port?.close();
  });

  test('its loss is an error of what it had, of what waits, and of what comes', async () => {
    const { played, target } = await begin(READ, 1);
    target.arrive(1, READ, 0, 131_072);
    for (let count = 0; count < 20; count++) target.engine.step(0);

    target.engine.helperLost('it fell off');
    const answers = target.answersOf(0, 1);
    target.arrive(2, READ, 0, 131_072);
    const later = target.answersOf(2);

    expect([...answers, ...later]).toEqual([EIO, EIO, EIO]);
    expect(target.failures.every(({ message }) => message.includes('it fell off'))).toBe(true);
    expect(target.engine.helperEnded).toBe(true);
    expect(target.engine.ring.statistics()).toMatchObject({ operationsInFlight: 0, violations: 0 });
    played.port?.close();
  });

  test('its result is dropped when the core has trapped meanwhile', async () => {
    const { played, target } = await begin(READ);
    Object.defineProperty(target.engine.core, 'submit', {
      value: () => {
        throw new WebAssembly.RuntimeError('unreachable');
      },
    });
    target.arrive(1, READ, 0, 4096);
    const trapped = target.answersOf(1);
    const held = target.isAnswered(0);
    played.report(target, { type: 'done', lane: played.jobs[0].lane });

    const answer = target.answersOf(0);

    expect([...trapped, held, ...answer]).toEqual([EIO, false, EIO]);
    played.port?.close();
  });
});
