/**
 * 4 KiB writes, one in each of some guest clusters, through one core and one ring.
 *
 *   node engine-write-worker.mjs IMAGE DEPTH FIRST STEP COUNT      prints {"nanoseconds":…}, a write
 *
 * The clusters are FIRST, FIRST + STEP and so on, from the beginning again at the end of the disk. The clock stops behind a last
 * flush; that of qemu-img stops when the last flush has begun.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { RequestFlag, RequestKind } from '../../dist/host/abi.js';
import { requireAddon } from '../../dist/host/node/addon.js';
import { loadCore } from '../../dist/host/node/core.js';
import { RingEngine } from '../../dist/host/node/ring-engine.js';
import { keepInFlight } from './keep-in-flight.mjs';

const BLOCK = 4096;

const [path = '', ...numbers] = process.argv.slice(2);
const [depth = 1, first = 0, step = 1, count = 0] = numbers.map(Number);
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
const { clusterSize, virtualSize } = engine.open(RequestFlag.Writable);
const { buffer } = new WebAssembly.Memory({ initial: Math.ceil((depth * BLOCK) / 65536) });
const lengths = new Int32Array(buffer.byteLength / BLOCK).fill(BLOCK);
new Uint8Array(buffer).fill(0x5a);
engine.ring.setGuestBuffers({ buffer, stride: BLOCK, lengths });

const { core } = engine;
const clusters = virtualSize / clusterSize;
let cluster = first;
const before = performance.now();
keepInFlight(engine, depth, count, (slot) => {
  const record = core.request(slot);
  record.kind = RequestKind.Write;
  record.flags = 0;
  record.guestOffset = cluster * clusterSize;
  cluster = (cluster + step) % clusters;
  record.length = BLOCK;
  core.submit(slot);
});
engine.control(RequestKind.Close, 0, () => undefined);
console.log(JSON.stringify({ nanoseconds: ((performance.now() - before) * 1e6) / count }));
engine.close();
closeSync(descriptor);
