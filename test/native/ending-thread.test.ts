/** A thread of JavaScript that is ended while others work for it: its process goes on. */

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';

test('a thread ends in the middle of writes and copies, and only they end with it', async () => {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, '');

  const statuses: unknown[] = [];
  for (let round = 0; round < 6; round++) {
    const worker = new Worker(new URL('./ending-worker.mjs', import.meta.url), { workerData: path });
    await once(worker, 'message');
    await setTimeout(2 * round);
    statuses.push(await worker.terminate());
  }

  expect(statuses).toEqual([1, 1, 1, 1, 1, 1]);
});
