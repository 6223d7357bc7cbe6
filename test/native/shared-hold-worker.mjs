/**
 * One of several threads on one core, each with the queue of a pretended kernel whose requests never cease: writes, and reads of
 * what was written. The first one carries out verbs meanwhile. Started by shared-hold.test.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { RequestFlag, RequestKind } from '../../dist/host/abi.js';
import { requireAddon, TurnMode } from '../../dist/host/node/addon.js';
import { loadSharedCore } from '../../dist/host/node/core.js';
import { CoreSharing } from '../../dist/host/node/core-sharing.js';
import { RingEngine } from '../../dist/host/node/ring-engine.js';
import { carryOut } from '../../dist/host/node/ublk-verbs.js';

const [READ, WRITE] = [0, 1];
const SECTOR = 512;
const UNANSWERED = 12_345;
const { thread, parts, descriptor, fileLength, backing, stretch, verbs, seed, over, answered } = workerData;
const { depth } = parts;
const ended = new Int32Array(over);
/** Answers so far, a number a thread. */
const counts = new Int32Array(answered);
const sharing = new CoreSharing(parts, thread);
const engine = new RingEngine(
  {
    addon: requireAddon(),
    core: loadSharedCore(),
    sharing,
    descriptor,
    writable: true,
    fileLength,
    zeroBeyondEnd: true,
    guestCapacity: depth,
    cacheSize: 1 << 20,
    helper: { backing, start: (data) => parentPort.postMessage({ helper: data }, [data.port]) },
  },
  {
    onFailure: (error) => {
      throw error;
    },
  },
);
const facts = thread === 0 ? engine.open(RequestFlag.Writable) : undefined;
const buffers = new Uint8Array(new ArrayBuffer(depth * stretch));
const descriptors = new DataView(new ArrayBuffer(depth * 24));
const answers = new Int32Array(depth).fill(UNANSWERED);
const lengths = new Int32Array(depth);
engine.ring.setGuestBuffers({ buffer: buffers.buffer, stride: stretch, firstSlot: sharing.firstSlot, lengths });
engine.ring.pretendQueue({
  deviceId: 0,
  depth,
  firstSlot: sharing.firstSlot,
  maxIoBytes: stretch,
  deviceSize: parts.threads * depth * stretch,
  descriptors: descriptors.buffer,
  answers,
});
parentPort.postMessage({ parts: engine.sharedParts() });

/** What the stretch of each tag holds. */
const model = new Uint8Array(depth * stretch);
model.set(workerData.contents.subarray(thread * model.length, (thread + 1) * model.length));
/** @type {{ write: boolean, at: number, length: number }[]} */
const asked = [];
let state = seed;
let wrong = 0;

for (let tag = 0; tag < depth; tag++) arrive(tag);
if (thread === 0) {
  for (const verb of verbs) {
    for (const end = counts[0] + 200; counts[0] < end; ) serve(TurnMode.Poll, true);
    if (verb.name === 'hold') holdForAWhile();
    else await carryOut(engine, verb, facts);
  }
  Atomics.store(ended, 0, 1);
  engine.wake(1);
}
while (Atomics.load(ended, 0) === 0) serve(TurnMode.Poll, true);
// The last answers go out with a turn after which nothing comes.
while (answers.includes(UNANSWERED)) serve(TurnMode.Poll, false);
Atomics.add(ended, 1, 1);
if (thread === 0) {
  while (Atomics.load(ended, 1) < parts.threads) engine.step(TurnMode.Poll);
  engine.control(RequestKind.Close, 0, () => undefined);
  endHelper();
  engine.endOthers();
} else {
  while (!sharing.over) engine.step(TurnMode.Wait);
  endHelper();
}
const { violations } = engine.ring.statistics();
engine.close();
parentPort.postMessage({ model, wrong, violations });

/** Nobody is answered while the guest is held. */
function holdForAWhile() {
  engine.holdGuest();
  // Answers that were given go out with the next turns of their threads.
  const before = settle();
  const until = performance.now() + 50;
  while (performance.now() < until) engine.step(TurnMode.Poll);
  if (sum() !== before) throw new Error(`${sum() - before} requests were answered while the guest was held`);
  engine.releaseGuest();
}

function settle() {
  const until = performance.now() + 20;
  while (performance.now() < until) engine.step(TurnMode.Poll);
  return sum();
}

function sum() {
  return counts.reduce((total, _, index) => total + Atomics.load(counts, index), 0);
}

function endHelper() {
  engine.endHelper();
  while (!engine.helperEnded) engine.step(TurnMode.Wait);
}

/**
 * @param {TurnMode} mode
 * @param {boolean} more whether what is answered is followed by something new
 */
function serve(mode, more) {
  engine.step(mode);
  for (let tag = 0; tag < depth; tag++) {
    if (answers[tag] === UNANSWERED || asked[tag] === undefined) continue;
    const { write, at, length } = asked[tag];
    if (answers[tag] !== length) throw new Error(`a request of ${length} bytes is answered with ${answers[tag]}`);
    const start = tag * stretch + at;
    if (
      !write &&
      Buffer.compare(buffers.subarray(tag * stretch, tag * stretch + length), model.subarray(start, start + length))
    )
      wrong++;
    asked[tag] = undefined;
    Atomics.add(counts, thread, 1);
    if (more) arrive(tag);
  }
}

/** @param {number} tag */
function arrive(tag) {
  const sectors = stretch / SECTOR;
  const first = Math.floor(random() * sectors);
  const at = first * SECTOR;
  const length = SECTOR * (1 + Math.floor(random() * Math.min(24, sectors - first)));
  const write = random() < 0.5;
  const own = buffers.subarray(tag * stretch, tag * stretch + length);
  if (write) {
    own.fill(1 + Math.floor(random() * 255));
    model.set(own, tag * stretch + at);
  } else {
    own.fill(0);
  }
  answers[tag] = UNANSWERED;
  asked[tag] = { write, at, length };
  descriptors.setUint32(tag * 24, write ? WRITE : READ, true);
  descriptors.setUint32(tag * 24 + 4, length / SECTOR, true);
  const offset = (thread * depth + tag) * stretch + at;
  descriptors.setBigUint64(tag * 24 + 8, BigInt(offset / SECTOR), true);
  engine.ring.pretendFetched(tag, 0);
}

function random() {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
}
