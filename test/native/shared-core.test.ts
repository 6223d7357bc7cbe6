/** Several threads on one core, each with its ring: as those of a block device with several queues. */
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { CoreInstance } from '../../host/core-instance.js';
import { CorralError } from '../../host/errors.js';
import { loadSharedCore } from '../../host/node/core.js';
import { CoreSharing, makeSharedParts } from '../../host/node/core-sharing.js';
import { chooseSeed } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';

const BLOCK = 4096;
const BLOCKS = 2048;
const DEPTH = 8;

interface Ended {
  model: [number, number][];
  wrong: number;
}

test.each([2, 3])(
  '%i threads write what they read, and QEMU reads it, whoever makes snapshots meanwhile',
  async (threads) => {
    const seed = chooseSeed();
    const folder = temporaryFolder();
    const image = join(folder, 'image.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(BLOCKS * BLOCK)]);
    const descriptor = openSync(image, 'r+');
    const data = { threads, depth: DEPTH, descriptor, fileLength: fstatSync(descriptor).size, blocks: BLOCKS };
    const gate = new SharedArrayBuffer(4);
    const begin = (thread: number, parts: unknown) =>
      startThread({
        ...data,
        thread,
        parts,
        gate,
        requests: 1500,
        seed: seed + thread,
        snapshots: thread === 0 ? 3 : 0,
      });

    const first = begin(0, makeSharedParts(threads, DEPTH));
    const parts = await first.opened;
    const others = Array.from({ length: threads - 1 }, (_, index) => begin(index + 1, parts));
    const ends = await Promise.all([first, ...others].map(({ ended }) => ended));
    closeSync(descriptor);

    expect(
      ends.map(({ wrong }) => wrong),
      `seed ${seed}`,
    ).toEqual(ends.map(() => 0));
    execFileSync('qemu-img', ['check', '-q', image]);
    execFileSync('qemu-img', ['convert', '-O', 'raw', image, join(folder, 'raw')]);
    const words = new Uint32Array(new Uint8Array(readFileSync(join(folder, 'raw'))).buffer);
    const expected = new Uint32Array(words.length);
    for (const [block, value] of ends.flatMap(({ model }) => model)) {
      expected.fill(value, (block * BLOCK) / 4, ((block + 1) * BLOCK) / 4);
    }
    expect(Buffer.compare(Buffer.from(words.buffer), Buffer.from(expected.buffer)), `seed ${seed}`).toBe(0);
  },
);

function startThread(data: object): { opened: Promise<unknown>; ended: Promise<Ended> } {
  const worker = new Worker(new URL('./shared-core-worker.mjs', import.meta.url), { workerData: data });
  const of = <T>(pick: (message: Ended & { parts?: unknown }) => T | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      worker.on('message', (message) => {
        const picked = pick(message);
        if (picked !== undefined) resolve(picked);
      });
      worker.on('error', reject);
      worker.on('exit', () => reject(new Error('a thread ended early')));
    });
  const opened = of((message) => message.parts);
  const ended = of((message) => (message.model === undefined ? undefined : message));
  opened.catch(() => {});
  return { opened, ended };
}

test('a second instance leaves everything of the first one as it is', () => {
  const { memory } = makeSharedParts(2, 8);
  const module = loadSharedCore();
  const handlers = { submit() {}, fill() {}, finish() {} };
  const configuration = { requestCapacity: 17, cacheSize: 0, checkSize: 0, fileLength: 65_536, zeroBeyondEnd: true };
  const first = new CoreInstance(module, configuration, handlers, { memory });
  const before = new Uint8Array(memory.buffer).slice();

  const second = new CoreInstance(module, configuration, handlers, { memory, layoutAddress: first.layoutAddress });

  expect(Buffer.compare(before, new Uint8Array(memory.buffer))).toBe(0);
  expect(second.layout).toEqual(first.layout);
});

test('a mailbox keeps its order, says when it is full, and wakes who sleeps once', () => {
  const parts = makeSharedParts(2, 1);
  const [one, two] = [new CoreSharing(parts, 0), new CoreSharing(parts, 1)];
  two.sleeps = true;

  const posted = Array.from({ length: 33 }, (_, number) => one.post(1, 1, number, 2, 3));
  const woken = [one.takeSleepers(), one.takeSleepers()];
  const settled = one.settled;
  const taken: number[][] = [];
  two.drain((...entry) => taken.push(entry));

  expect(posted).toEqual([...Array(32).fill(true), false]);
  expect(woken).toEqual([1, undefined]);
  expect([settled, one.settled]).toEqual([false, true]);
  expect(taken).toEqual(Array.from({ length: 32 }, (_, number) => [1, number, 2, 3]));
});

test('the error of a control request reaches the thread that waits for it', () => {
  const parts = makeSharedParts(2, 1);
  const error = new CorralError('ERR_IMAGE_CORRUPT', { hostOffset: 2n ** 60n, reason: 'bad', cause: new Error('why') });

  new CoreSharing(parts, 1).leaveError(error);

  expect(new CoreSharing(parts, 0).takeError()).toMatchObject({
    code: 'ERR_IMAGE_CORRUPT',
    details: { hostOffset: 2n ** 60n, reason: 'bad', cause: 'why' },
  });
});

test('slots belong to the thread of their queue, those behind all queues to the first one', () => {
  const sharing = new CoreSharing(makeSharedParts(3, 10), 1);

  expect([0, 9, 10, 29, 30].map((slot) => sharing.ownerOf(slot))).toEqual([0, 0, 1, 2, 0]);
  expect(sharing.firstSlot).toBe(10);
});
