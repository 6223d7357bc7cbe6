// Two devices of one process; the thread that serves the first one ends as after a crash, with a write on its hands. That
// device's owner is told, its guest gets an error, and the other device goes on.
//
// usage: node lost-thread.mjs IMAGE OTHER
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { closeSync, existsSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createDevice } from '../../../dist/host/node/ublk-device.js';

const run = promisify(execFile);
const [image, other] = process.argv.slice(2);
const LENGTH = 1 << 20;

function roundTrip(node, value) {
  const file = openSync(node, 'r+');
  const bytes = Buffer.alloc(LENGTH, value);
  writeSync(file, bytes, 0, LENGTH, LENGTH);
  fsyncSync(file);
  closeSync(file);
  const again = openSync(node, 'r');
  const found = Buffer.alloc(LENGTH);
  readSync(again, found, 0, LENGTH, LENGTH);
  closeSync(again);
  assert.ok(found.equals(bytes), `${node} does not hold what was written`);
}

const lost = await createDevice(image);
const kept = await createDevice(other);
await lost.start();
await kept.start();
roundTrip(kept.node, 1);

const events = [];
const told = (async () => {
  for await (const event of lost.events()) events.push(event.type);
})();
const ended = assert.rejects(lost.closed, { code: 'ERR_INTERNAL' });
// There is no way to do this to a device from outside. The thread hears of it when its ring is next woken: by the write.
void lost.parts.thread.worker.terminate();
const written = run('dd', ['if=/dev/zero', `of=${lost.node}`, 'bs=64k', 'count=16', 'oflag=direct', 'conv=notrunc']);
await assert.rejects(written, /Input\/output error|No such device/);
await ended;
await told;
assert.equal(events.at(-1), 'stopped');
await lost.delete().catch(() => {});
for (let tries = 0; existsSync(lost.node) && tries < 100; tries++) await setTimeout(50);
assert.ok(!existsSync(lost.node), `${lost.node} is still there`);

roundTrip(kept.node, 2);
await kept.stop();
await kept.delete();
console.log('one thread was lost, the other device went on');
