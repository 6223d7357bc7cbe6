// A device that holds swap space is not taken away, however often somebody asks; afterwards it is.
//
// usage: node swap.mjs IMAGE
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createDevice } from '../../../dist/host/node/ublk-device.js';

const device = await createDevice(process.argv[2]);
await device.start();
execFileSync('mkswap', [device.node]);
execFileSync('swapon', [device.node]);
const ends = [() => device.stop(), () => device.stop(), () => device.delete(), () => device.delete()];
for (const end of ends) await assert.rejects(end(), { code: 'ERR_LOCKED' });

execFileSync('swapoff', [device.node]);
await device.stop();
await device.delete();
