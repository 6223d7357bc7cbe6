/** Asks for writes and copies without end, and says when they have begun: somebody ends this thread in the middle of them. */
import { parentPort, workerData } from 'node:worker_threads';
import { findAddon } from '../../dist/host/node/addon.js';
import { NodeFile } from '../../dist/host/node/index.js';

const file = await NodeFile.open(workerData, { write: true });
const [long, short] = [new Uint8Array(1 << 20), new Uint8Array(4096)];

function writeOn() {
  void Promise.all([file.write(0, [long]), file.write(long.length, [short])]).then(writeOn);
}

function copyOn() {
  findAddon()?.copyRange(file.descriptor, 0, file.descriptor, 2 * long.length, long.length, 0, false, copyOn);
}

for (let index = 0; index < 4; index++) writeOn();
copyOn();
parentPort?.postMessage('begun');
