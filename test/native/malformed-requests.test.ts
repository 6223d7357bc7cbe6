/** Requests without sense, on the queues of two rings that share a core. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RequestFlag } from '../../host/abi.js';
import { requireAddon, TurnMode } from '../../host/node/addon.js';
import { loadSharedCore } from '../../host/node/core.js';
import { CoreSharing, makeSharedParts, type SharedParts } from '../../host/node/core-sharing.js';
import { createImage } from '../../host/node/index.js';
import { RingEngine } from '../../host/node/ring-engine.js';
import { temporaryFolder } from '../temporary-folder.js';

const DEPTH = 4;
const STRIDE = 65_536;
const SIZE = 1 << 20;
const EIO = -5;
const UNANSWERED = 12_345;

/** One thread's ring, with a queue whose kernel is the test. */
function joinCore(parts: SharedParts, thread: number, descriptor: number) {
  const sharing = new CoreSharing(parts, thread);
  const failures: string[] = [];
  const engine = new RingEngine(
    {
      addon: requireAddon(),
      core: loadSharedCore(),
      sharing,
      descriptor,
      writable: true,
      fileLength: fstatSync(descriptor).size,
      zeroBeyondEnd: true,
      guestCapacity: DEPTH,
      cacheSize: 1 << 20,
    },
    { onFailure: ({ message }) => failures.push(message) },
  );
  if (thread === 0) engine.open(RequestFlag.Writable);
  const buffer = new ArrayBuffer(DEPTH * STRIDE);
  const { firstSlot } = sharing;
  engine.ring.setGuestBuffers({ buffer, stride: STRIDE, firstSlot, lengths: new Int32Array(DEPTH) });
  const descriptors = new DataView(new ArrayBuffer(DEPTH * 24));
  const answers = new Int32Array(DEPTH).fill(UNANSWERED);
  engine.ring.pretendQueue({
    deviceId: 0,
    depth: DEPTH,
    firstSlot,
    maxIoBytes: STRIDE,
    deviceSize: SIZE,
    descriptors: descriptors.buffer as ArrayBuffer,
    answers,
  });
  const arrive = (tag: number, operation: number, sectors: number, start: number): void => {
    descriptors.setUint32(tag * 24, operation, true);
    descriptors.setUint32(tag * 24 + 4, sectors, true);
    descriptors.setBigUint64(tag * 24 + 8, BigInt(start), true);
    engine.ring.pretendFetched(tag, 0);
    engine.step(TurnMode.Poll);
  };
  return { engine, failures, answers, arrive };
}

test('are refused, told of and counted on each queue, and the queues go on', async () => {
  const path = join(temporaryFolder(), 'image.qcow2');
  await createImage(path, { virtualSize: SIZE });
  const descriptor = openSync(path, 'r+');
  const parts = makeSharedParts(2, DEPTH);
  const first = joinCore(parts, 0, descriptor);
  const second = joinCore(first.engine.sharedParts() as SharedParts, 1, descriptor);

  first.arrive(1, 77, 8, 0);
  second.arrive(2, 0, 8, SIZE / 512);
  second.arrive(3, 1, 0xffff_ffff, 0);
  second.arrive(0, 2, 0, 0);
  for (let step = 0; step < 1000 && second.answers[0] === UNANSWERED; step++) second.engine.step(TurnMode.Poll);
  const counted = [first.engine.malformed, second.engine.malformed];
  second.engine.close();
  first.engine.close();
  closeSync(descriptor);

  expect([...first.answers]).toEqual([UNANSWERED, EIO, UNANSWERED, UNANSWERED]);
  expect([...second.answers]).toEqual([0, UNANSWERED, EIO, EIO]);
  expect(first.failures).toEqual([expect.stringContaining('makes no sense (operation 77, 8 sectors)')]);
  expect(second.failures).toEqual([
    expect.stringContaining('(operation 0, 8 sectors)'),
    expect.stringContaining('(operation 1, 4294967295 sectors)'),
  ]);
  expect(counted).toEqual([3, 3]);
});
