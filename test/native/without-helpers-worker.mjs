/**
 * Eight writes through a ring of a process that may have no more threads: the kernel cancels what it wanted to give to a
 * helper thread.
 *
 *   node without-helpers-worker.mjs FILE      prints the Status of each write
 */
import { execFileSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { OperationKind, OperationView } from '../../dist/host/abi.js';
import { OutgoingType, QUAD, requireAddon, TurnMode } from '../../dist/host/node/addon.js';

const COUNT = 8;
const BLOCK = 4096;
const OPERATIONS = 1024;
const BUFFER = 65536;

const memory = new ArrayBuffer(1 << 20);
const outgoing = new Int32Array((1 + COUNT) * QUAD);
const events = new Int32Array((1 + COUNT) * QUAD);
const { Ring } = requireAddon();
const ring = new Ring({
  memory,
  operations: OPERATIONS,
  operationCapacity: COUNT,
  requests: 8192,
  requestCapacity: 1,
  outgoing,
  events,
});
ring.setFile(openSync(process.argv[2], 'r+'), { writable: true });

// Limits on the number of threads do not bind root.
execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:1']);
if (process.getuid?.() === 0) process.setuid?.(65534);

new Uint8Array(memory, BUFFER, BLOCK).fill(0x5a);
outgoing[0] = COUNT;
outgoing[1] = TurnMode.Wait;
for (let index = 0; index < COUNT; index++) {
  const operation = new OperationView(memory, OPERATIONS + index * 64);
  operation.kind = OperationKind.Write;
  operation.length = BLOCK;
  operation.hostOffset = index * BLOCK;
  operation.bufferOffset = BUFFER;
  outgoing.set([OutgoingType.Operation, index, 0, 0], (1 + index) * QUAD);
}
/** @type {number[]} */
const statuses = [];
while (statuses.length < COUNT) {
  ring.turn();
  for (let event = 1; event <= events[0]; event++) statuses.push(events[event * QUAD + 2]);
  outgoing[0] = 0;
}
console.log(statuses.join(' '));
process.exit(0);
