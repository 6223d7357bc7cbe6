/**
 * A check, or a new snapshot, by the library.
 *
 *   node engine-library-worker.mjs IMAGE check|snapshot      prints {"milliseconds":…,"peakMiB":…,"corruptions":…,"leaks":…}
 *
 * From open to close; the memory is that of the whole process, Node's own included.
 */
import { openImage } from '../../dist/host/node/index.js';

const [path = '', what] = process.argv.slice(2);
const before = performance.now();
let found = { corruptions: 0, leaks: 0 };
if (what === 'check') {
  // As the command does it.
  const image = await openImage(path, {
    tablesOnly: true,
    requestCapacity: 1,
    checkSize: 16 << 20,
    cacheSize: 256 << 10,
  });
  const { corruptions, leaks } = await image.check();
  found = { corruptions, leaks };
  await image.close();
} else {
  const image = await openImage(path, { write: true });
  await image.snapshots.create({ name: 'bench' });
  await image.close();
}
const milliseconds = performance.now() - before;
const peakMiB = process.resourceUsage().maxRSS / 1024;
console.log(JSON.stringify({ milliseconds, peakMiB, ...found }));
