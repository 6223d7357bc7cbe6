/** A worker that blocks in a turn of its ring until it is woken, and then says what it saw. */
import { createRequire } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';

const { Ring } = createRequire(import.meta.url)(workerData);
const events = new Int32Array(16);
const ring = new Ring({
  memory: new ArrayBuffer(65536),
  operations: 0,
  operationCapacity: 1,
  requests: 64,
  requestCapacity: 1,
  outgoing: new Int32Array([0, 1, 0, 0, 0, 0, 0, 0]), // no entries, waits
  events,
});
parentPort?.postMessage(ring.wakeDescriptor);
const start = performance.now();
ring.turn();
parentPort?.postMessage({ type: events[4], waited: performance.now() - start });
ring.close();
