// Makes a device of an image, writes to it and stops it again, many times in one process, and looks what piles up in it.
//
// usage: node rounds.mjs IMAGE COUNT
import assert from 'node:assert/strict';
import { closeSync, existsSync, fsyncSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { listUblkDevices } from '../../../dist/host/node/ublk-control.js';
import { createDevice } from '../../../dist/host/node/ublk-device.js';

const BLOCK_LENGTH = 65536;
const [image, count] = process.argv.slice(2);

function writeBlock(node, round) {
  const device = openSync(node, 'r+');
  writeSync(device, Buffer.alloc(BLOCK_LENGTH, round), 0, BLOCK_LENGTH, round * BLOCK_LENGTH);
  fsyncSync(device);
  closeSync(device);
}

/** Every earlier round's block: each device knows what the ones before it left. */
function verifyBlocks(node, round) {
  const device = openSync(node, 'r');
  const block = Buffer.alloc(BLOCK_LENGTH);
  for (let each = 1; each <= round; each++) {
    readSync(device, block, 0, BLOCK_LENGTH, each * BLOCK_LENGTH);
    assert.ok(block.equals(Buffer.alloc(BLOCK_LENGTH, each)), `round ${round} does not find what round ${each} wrote`);
  }
  closeSync(device);
}

const inUse = () => ({
  threads: readdirSync('/proc/self/task').length,
  descriptors: readdirSync('/proc/self/fd').length,
});

/** A worker that has said its last word still has to end. */
async function settled(good) {
  for (const end = Date.now() + 10_000; Date.now() < end && !good(inUse()); ) await setTimeout(100);
  return inUse();
}

let first;
for (let round = 1; round <= Number(count); round++) {
  const device = await createDevice(image);
  await device.start();
  assert.equal(device.node, '/dev/ublkb0', 'an earlier device is still there');
  writeBlock(device.node, round);
  verifyBlocks(device.node, round);
  await device.stop();
  await device.delete();
  assert.ok(!existsSync(device.node), `${device.node} is still there after delete()`);
  assert.deepEqual(await listUblkDevices(), []);
  if (round > 1) continue;
  // The first round leaves what the process keeps for good.
  await setTimeout(1000);
  first = inUse();
}
const last = await settled(({ threads, descriptors }) => threads <= first.threads && descriptors <= first.descriptors);
console.log(`${count} rounds; after the first one: ${JSON.stringify(first)}, after the last: ${JSON.stringify(last)}`);
assert.ok(last.threads <= first.threads && last.descriptors <= first.descriptors, 'something piles up');
