/**
 * How long a block device takes from the call to being usable, in a process that has started.
 *
 *   node ublk-start.mjs IMAGE COUNT      prints {"milliseconds":[…],"cpuMilliseconds":[…],"emptyMilliseconds":[…]}
 *
 * The last are those of an empty Node: what emulation makes of them, it makes of all.
 */
import { spawnSync } from 'node:child_process';
import { createDevice } from '../../dist/host/node/index.js';

const [path = '', count] = process.argv.slice(2);
const milliseconds = [];
const cpuMilliseconds = [];
const emptyMilliseconds = [];
for (let index = 0; index < Number(count); index++) {
  const cpuBefore = process.cpuUsage();
  const before = performance.now();
  const device = await createDevice(path);
  await device.start();
  milliseconds.push(performance.now() - before);
  const { user, system } = process.cpuUsage(cpuBefore);
  cpuMilliseconds.push((user + system) / 1000);
  await device.delete();
  const begun = performance.now();
  spawnSync(process.execPath, ['-e', '0']);
  emptyMilliseconds.push(performance.now() - begun);
}
console.log(JSON.stringify({ milliseconds, cpuMilliseconds, emptyMilliseconds }));
