/**
 * A helper thread: serves one ring, or those of all images over the same base, each in a session of its own.
 *
 * What lies behind the images is opened once for those whose rules are the same.
 */
import { parentPort } from 'node:worker_threads';
import { LayerPools } from '../layer-pool.js';
import { requireAddon } from './addon.js';
import type { HelperThreadOrder, HelperThreadReport } from './helper-messages.js';
import { HelperSession, type SharedDisks } from './helper-session.js';

const disks: SharedDisks = { behind: new Map(), pools: new LayerPools() };

// Reads of it stand between a guest's writes and their end.
requireAddon().becomeFlusher();

parentPort?.on('message', (order: HelperThreadOrder) => {
  if (order.type === 'end') parentPort?.close();
  else serve(order);
});

function serve({ number, data }: HelperThreadOrder & { type: 'serve' }): void {
  const report: HelperThreadReport = { ended: number };
  new HelperSession(data, disks, () => parentPort?.postMessage(report));
}
