// Takes a snapshot of a device every second while it is written to, drops the one before the last, and flushes; over the
// control socket, in one process.
//
// usage: node look-after.mjs DEVICE ROUNDS
import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { askDevice } from '../../../dist/host/node/control-client.js';

const [device, rounds] = process.argv.slice(2);
const id = Number(device.slice('/dev/ublkb'.length));
const ask = (request) => askDevice(id, request);
const names = async () => (await ask({ verb: 'snapshot-list' })).map(({ name }) => name);

const before = await names();
for (let round = 1; round <= Number(rounds); round++) {
  const second = setTimeout(1000);
  await ask({ verb: 'snapshot-create', name: `round ${round}` });
  const made = await ask({ verb: 'snapshot-list' });
  assert.deepEqual(
    made.map(({ name }) => name),
    [...before, ...(round > 1 ? [`round ${round - 1}`] : []), `round ${round}`],
  );
  const older = made.find(({ name }) => name === `round ${round - 1}`);
  if (older !== undefined) await ask({ verb: 'snapshot-delete', id: older.id, name: older.name });
  await ask({ verb: 'flush' });
  await second;
}
await assert.rejects(ask({ verb: 'resize', size: 1 << 20 }), /smaller|multiple/);
await assert.rejects(ask({ verb: 'snapshot-delete', id: '1000', name: 'none' }), { code: 'ERR_NOT_FOUND' });
console.log(`${rounds} snapshots in turn: ${(await names()).join(', ')}`);
