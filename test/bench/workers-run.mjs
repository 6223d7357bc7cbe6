/**
 * Scattered guest reads by serving threads of one image.
 *
 *   node workers-run.mjs IMAGE THREADS DEPTH COUNT      prints {"iops":…,"cpuMicroseconds":…}
 *
 * THREADS 0 is one thread with a core of its own.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { RequestKind } from '../../dist/host/abi.js';
import { requireAddon } from '../../dist/host/node/addon.js';
import { loadCore, loadSharedCore } from '../../dist/host/node/core.js';
import { CoreSharing, makeSharedParts } from '../../dist/host/node/core-sharing.js';
import { RingEngine } from '../../dist/host/node/ring-engine.js';
import { keepInFlight } from './keep-in-flight.mjs';
import { scatteringStep } from './scatter.mjs';

const BLOCK = 4096;
/** Reads of each thread before the clock starts. */
const WARM_UP = 200_000;

if (isMainThread) await main();
else serve(workerData);

async function main() {
  const [path = '', threads, depth, count] = process.argv
    .slice(2)
    .map((text, index) => (index === 0 ? text : Number(text)));
  const descriptor = openSync(/** @type {string} */ (path), 'r');
  const length = fstatSync(descriptor).size;
  const number = Math.max(Number(threads), 1);
  const gate = new SharedArrayBuffer(8);
  const parts = Number(threads) === 0 ? undefined : makeSharedParts(number, Number(depth));
  const data = { descriptor, length, depth, count: Number(count) / number, gate, number };
  const leader = start({ ...data, thread: 0, parts });
  const opened = await new Promise((resolve) => leader.worker.once('message', resolve));
  const others = Array.from({ length: number - 1 }, (_, index) => start({ ...data, thread: index + 1, parts: opened }));
  // The processor time of the warm-up is left out: the threads pass the gate together.
  const ends = await Promise.all([leader, ...others].map(({ ended }) => ended));
  const seconds = (Math.max(...ends.map(({ end }) => end)) - Math.min(...ends.map(({ begin }) => begin))) / 1000;
  const cpu = Math.max(...ends.map(({ cpuEnd }) => cpuEnd)) - Math.min(...ends.map(({ cpuBegin }) => cpuBegin));
  console.log(JSON.stringify({ iops: Math.round(Number(count) / seconds), cpuMicroseconds: cpu / Number(count) }));
  closeSync(descriptor);
}

/** @param {Record<string, unknown>} data */
function start(data) {
  const worker = new Worker(new URL(import.meta.url), { workerData: data });
  const ended = new Promise((resolve, reject) => {
    worker.on('message', (message) => {
      if (message?.end !== undefined) resolve(message);
    });
    worker.on('error', reject);
  });
  return { worker, ended };
}

/** @param {any} data */
function serve({ descriptor, length, depth, count, gate, number, thread, parts }) {
  const engine = new RingEngine({
    addon: requireAddon(),
    core: parts === undefined ? loadCore() : loadSharedCore(),
    descriptor,
    writable: false,
    fileLength: length,
    zeroBeyondEnd: true,
    guestCapacity: depth,
    cacheSize: 4 << 20,
    sharing: parts && new CoreSharing(parts, thread),
  });
  const firstSlot = thread * depth;
  const { buffer } = new WebAssembly.Memory({ initial: Math.ceil((depth * BLOCK) / 65536) });
  const lengths = new Int32Array(buffer.byteLength / BLOCK).fill(BLOCK);
  engine.ring.setGuestBuffers({ buffer, stride: BLOCK, firstSlot, lengths });
  if (thread === 0) engine.open(0);
  parentPort?.postMessage(thread === 0 ? engine.sharedParts() : null);

  const { core } = engine;
  const words = new Uint32Array(core.memory);
  const blockCount = Math.floor(core.info.virtualSize / BLOCK);
  const step = scatteringStep(blockCount);
  let block = Math.floor((thread * blockCount) / number);
  for (let slot = firstSlot; slot < firstSlot + depth; slot++) {
    const record = core.request(slot);
    record.kind = RequestKind.Read;
    record.flags = 0;
    record.length = BLOCK;
  }
  /** @param {number} slot */
  const sendFrom = (slot) => {
    const record = (core.layout.requests + slot * 64) >>> 2;
    words[record + 2] = block * BLOCK;
    words[record + 3] = Math.floor((block * BLOCK) / 2 ** 32);
    block += step;
    if (block >= blockCount) block -= blockCount;
    core.submit(slot);
  };

  keepInFlight(engine, depth, WARM_UP, sendFrom, firstSlot);
  meet(new Int32Array(gate, 0, 1), number);
  const cpuBegin = cpuTime();
  const begin = performance.timeOrigin + performance.now();
  keepInFlight(engine, depth, count, sendFrom, firstSlot);
  const end = performance.timeOrigin + performance.now();
  const cpuEnd = cpuTime();
  // Whatever the others still ask of this ring is answered; there is nothing, but nobody may miss a wake.
  meet(new Int32Array(gate, 4, 1), number);
  engine.close();
  parentPort?.postMessage({ begin, end, cpuBegin, cpuEnd });
}

/** Waits until all threads are here. @param {Int32Array} counter @param {number} number */
function meet(counter, number) {
  if (Atomics.add(counter, 0, 1) + 1 === number) Atomics.notify(counter, 0);
  for (let here = Atomics.load(counter, 0); here < number; here = Atomics.load(counter, 0))
    Atomics.wait(counter, 0, here);
}

/** Microseconds of the process. */
function cpuTime() {
  const { user, system } = process.cpuUsage();
  return user + system;
}
