/**
 * Scattered guest reads of an image through one core and one ring, in a thread that does nothing else.
 *
 *   node ring-read-worker.mjs IMAGE DEPTH COUNT      prints {"iops":…,"cpuMicroseconds":…,"count":…}
 *
 * The loop is that of the ublk worker, with requests made up here in the place of the kernel's.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { RequestKind } from '../../dist/host/abi.js';
import { requireAddon } from '../../dist/host/node/addon.js';
import { loadCore } from '../../dist/host/node/core.js';
import { RingEngine } from '../../dist/host/node/ring-engine.js';
import { keepInFlight } from './keep-in-flight.mjs';
import { scatteringStep } from './scatter.mjs';

const BLOCK_BITS = 12;
const BLOCK = 1 << BLOCK_BITS;
/** Reads before the clock starts, for the compilers of JavaScript and WebAssembly. */
const WARM_UP = 200_000;

const [path, depth, count] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const descriptor = openSync(path, 'r');
const engine = new RingEngine({
  addon: requireAddon(),
  core: loadCore(),
  descriptor,
  writable: false,
  fileLength: fstatSync(descriptor).size,
  zeroBeyondEnd: true,
  guestCapacity: depth,
  cacheSize: 4 << 20,
});
const { virtualSize } = engine.open(0);
// WebAssembly's memory begins at a page, as the buffers of a block device do: unaligned copies cost a fifth more.
const { buffer } = new WebAssembly.Memory({ initial: Math.ceil((depth * BLOCK) / 65536) });
const lengths = new Int32Array(buffer.byteLength / BLOCK).fill(BLOCK);
engine.ring.setGuestBuffers({ buffer, stride: BLOCK, lengths });

const { core } = engine;
const { requests } = core.layout;
const words = new Uint32Array(core.memory);
const blockCount = Math.floor(virtualSize / BLOCK);
const step = scatteringStep(blockCount);
let block = 0;

// Only the offset changes from request to request: the other words of the records stay.
for (let slot = 0; slot < depth; slot++) {
  const record = core.request(slot);
  record.kind = RequestKind.Read;
  record.flags = 0;
  record.length = BLOCK;
}

keepInFlight(engine, depth, WARM_UP, sendFrom);
const cpuBefore = process.cpuUsage();
const before = performance.now();
keepInFlight(engine, depth, count, sendFrom);
const seconds = (performance.now() - before) / 1000;
const { user, system } = process.cpuUsage(cpuBefore);
console.log(JSON.stringify({ iops: Math.round(count / seconds), cpuMicroseconds: (user + system) / count, count }));
engine.close();
closeSync(descriptor);

/** @param {number} slot */
function sendFrom(slot) {
  const record = (requests + slot * 64) >>> 2;
  words[record + 2] = block << BLOCK_BITS;
  words[record + 3] = block >>> (32 - BLOCK_BITS);
  block += step;
  if (block >= blockCount) block -= blockCount;
  core.submit(slot);
}
