/**
 * One of several threads on one core: writes, zeroes and reads blocks of its own, which share clusters with those of the
 * others, and remembers what each of them holds. Started by shared-core.test.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { RequestFlag, RequestKind, Status } from '../../dist/host/abi.js';
import { requireAddon, TurnMode } from '../../dist/host/node/addon.js';
import { loadSharedCore } from '../../dist/host/node/core.js';
import { CoreSharing } from '../../dist/host/node/core-sharing.js';
import { RingEngine } from '../../dist/host/node/ring-engine.js';
import { writeSnapshotOptions } from '../../dist/host/snapshot-record.js';

const BLOCK = 4096;
const { thread, threads, depth, descriptor, fileLength, blocks, requests, snapshots, seed, gate, parts } = workerData;
const reached = new Int32Array(gate);
const sharing = new CoreSharing(parts, thread);
const engine = new RingEngine({
  addon: requireAddon(),
  core: loadSharedCore(),
  sharing,
  descriptor,
  writable: true,
  fileLength,
  zeroBeyondEnd: true,
  guestCapacity: depth,
  cacheSize: 1 << 20,
});
const { core } = engine;
const { firstSlot } = sharing;
const buffer = new ArrayBuffer(depth * BLOCK);
const lengths = new Int32Array(depth).fill(BLOCK);
engine.ring.setGuestBuffers({ buffer, stride: BLOCK, firstSlot, lengths });
if (thread === 0) engine.open(RequestFlag.Writable);
parentPort.postMessage({ parts: engine.sharedParts() });

/** What each block of ours holds: one number in all its words. */
const model = new Map();
/** The block of each slot, and what it will hold. */
const busy = new Map();
let state = seed;
let left = requests;
let count = 0;
let wrong = 0;
let snapshotsLeft = snapshots;

engine.locked(() => {
  for (let slot = firstSlot; slot < firstSlot + depth; slot++) start(slot);
});
while (busy.size > 0) {
  // What has ended by now is complete after the next turn: zeros are filled in then.
  const ready = engine.finishedCount;
  engine.step(ready === 0 ? TurnMode.Wait : TurnMode.Poll);
  engine.locked(() => goOn(ready));
  if (snapshotsLeft > 0 && left < (requests * snapshotsLeft) / (snapshots + 1)) {
    const snapshot = { name: `snapshot ${snapshotsLeft--}`, seconds: 1, nanoseconds: 0 };
    engine.run({ kind: RequestKind.SnapshotCreate, prepare: (instance) => writeSnapshotOptions(instance, snapshot) });
  }
}
Atomics.add(reached, 0, 1);
engine.wake(0);
if (thread === 0) {
  while (Atomics.load(reached, 0) < threads) engine.step(TurnMode.Wait);
  engine.control(RequestKind.Close, 0, () => undefined);
  engine.endOthers();
} else {
  while (!sharing.over) engine.step(TurnMode.Wait);
}
engine.close();
parentPort.postMessage({ model: [...model], wrong, violations: 0 });

/** @param {number} ready */
function goOn(ready) {
  const ended = engine.finished.slice(0, 2 * ready);
  engine.finished.copyWithin(0, 2 * ready, 2 * engine.finishedCount);
  engine.finishedCount -= ready;
  for (let position = 0; position < ended.length; position += 2) {
    const slot = ended[position];
    if (ended[position + 1] !== Status.Ok) throw new Error(`a request ended with status ${ended[position + 1]}`);
    finish(slot);
    if (left > 0) start(slot);
  }
}

/** @param {number} slot */
function finish(slot) {
  const { block, value } = busy.get(slot);
  busy.delete(slot);
  if (value !== undefined) model.set(block, value);
  else if (wordsOf(slot).some((word) => word !== (model.get(block) ?? 0))) wrong++;
}

/** @param {number} slot */
function start(slot) {
  left--;
  let block = 0;
  do {
    block = Math.floor(random() * Math.floor(blocks / threads)) * threads + thread;
  } while ([...busy.values()].some((other) => other.block === block));
  const kind = random();
  const record = core.request(slot);
  record.guestOffset = block * BLOCK;
  record.length = BLOCK;
  record.flags = 0;
  if (kind < 0.5) {
    const value = ((thread + 1) << 24) + ++count;
    wordsOf(slot).fill(value);
    record.kind = RequestKind.Write;
    busy.set(slot, { block, value });
  } else if (kind < 0.6) {
    record.kind = RequestKind.WriteZeroes;
    busy.set(slot, { block, value: 0 });
  } else {
    wordsOf(slot).fill(0xffff_ffff);
    record.kind = RequestKind.Read;
    busy.set(slot, { block, value: undefined });
  }
  core.submit(slot);
}

/** @param {number} slot */
function wordsOf(slot) {
  return new Uint32Array(buffer, (slot - firstSlot) * BLOCK, BLOCK / 4);
}

function random() {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
}
