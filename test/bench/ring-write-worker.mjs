/**
 * Writes that allocate, through one core and one ring: one 4 KiB write into each cluster of a new image, scattered.
 *
 *   node ring-write-worker.mjs IMAGE DEPTH COUNT      prints {"iops":…,"cpuMicroseconds":…,"quarters":[…],"count":…}
 *
 * `quarters` are the nanoseconds a write took in the first, second, third and last quarter: allocation must not slow
 * down as the image fills. The clock stops behind a last flush, like that of qemu-img.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { RequestFlag, RequestKind } from '../../dist/host/abi.js';
import { requireAddon } from '../../dist/host/node/addon.js';
import { loadCore } from '../../dist/host/node/core.js';
import { RingEngine } from '../../dist/host/node/ring-engine.js';
import { keepInFlight } from './keep-in-flight.mjs';
import { scatteringStep } from './scatter.mjs';

const BLOCK = 4096;

const [path, depth, count] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const descriptor = openSync(path, 'r+');
const engine = new RingEngine({
  addon: requireAddon(),
  core: loadCore(),
  descriptor,
  writable: true,
  fileLength: fstatSync(descriptor).size,
  zeroBeyondEnd: true,
  guestCapacity: depth,
  cacheSize: 4 << 20,
});
const { virtualSize, clusterSize } = engine.open(RequestFlag.Writable);
const lengths = new Int32Array(depth).fill(BLOCK);
const buffer = new ArrayBuffer(depth * BLOCK);
new Uint8Array(buffer).fill(0x5a);
engine.ring.setGuestBuffers({ buffer, stride: BLOCK, lengths });

const { core } = engine;
const clusterCount = Math.floor(virtualSize / clusterSize);
const step = scatteringStep(clusterCount);
let cluster = 0;

const cpuBefore = process.cpuUsage();
const before = performance.now();
const quarters = [1, 2, 3, 4].map(() => {
  const start = performance.now();
  keepInFlight(engine, depth, Math.floor(count / 4), sendFrom);
  return Math.round(((performance.now() - start) * 1e6) / (count / 4));
});
engine.control(RequestKind.Close, 0, () => undefined);
const seconds = (performance.now() - before) / 1000;
const { user, system } = process.cpuUsage(cpuBefore);
console.log(
  JSON.stringify({ iops: Math.round(count / seconds), cpuMicroseconds: (user + system) / count, quarters, count }),
);
engine.close();
closeSync(descriptor);

/** @param {number} slot */
function sendFrom(slot) {
  const record = core.request(slot);
  record.kind = RequestKind.Write;
  record.flags = 0;
  record.guestOffset = cluster * clusterSize;
  record.length = BLOCK;
  cluster = (cluster + step) % clusterCount;
  core.submit(slot);
}
