/**
 * A block device that does nothing: every request is answered as soon as it comes, in the addon. What the driver, the
 * ring and the kernel's block layer cost, and no server can be faster.
 *
 *   node ublk-null.mjs BYTES [DEPTH [PATH]]      prints the device's node once it serves; ends with a signal
 */
import { DataPath, requireAddon } from '../../dist/host/node/addon.js';
import { chooseFeatures, withPath } from '../../dist/host/node/ublk-features.js';

const [size, depth = 128, path = 'plain'] = process.argv.slice(2);
const maxIoBytes = 512 << 10;
const addon = requireAddon();
const features = withPath(
  chooseFeatures(await addon.ublk.getFeatures(), 'off'),
  /** @type {import('../../host/node/ublk-features.js').UblkDataPath} */ (path),
);
const info = await addon.ublk.addDevice({ queueDepth: Number(depth), maxIoBytes, flags: features.flags });
await addon.ublk.setParameters(info.id, { size: Number(size), maxIoBytes, ioOpt: 65_536 });

const capacity = Number(depth);
const outgoing = new Int32Array(8);
const ring = new addon.Ring({
  memory: new ArrayBuffer(64 * (capacity + 1)),
  operations: 0,
  operationCapacity: 1,
  requests: 64,
  requestCapacity: capacity,
  outgoing,
  events: new Int32Array(4 * 33),
});
ring.attachQueue({
  deviceId: info.id,
  depth: capacity,
  maxIoBytes,
  deviceSize: Number(size),
  path: path === 'plain' ? DataPath.Plain : path === 'user-copy' ? DataPath.UserCopy : DataPath.ZeroCopy,
  autoBuffers: path === 'zero-copy',
  answersNothing: true,
});
// On one of libuv's threads: this one answers meanwhile, and never gets to see the promise.
void addon.ublk.startDevice(info.id);
process.stdout.write(`/dev/ublkb${info.id}\n`, () => {
  outgoing[1] = 1;
  while (true) ring.turn();
});
