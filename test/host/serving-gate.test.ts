/** The thread that serves a device starts before it is known whether the image may be opened, and waits for that. */

import { expect, test } from 'vitest';
import { requireAddon } from '../../host/node/addon.js';
import { Image, loadCore, NodeFile } from '../../host/node/index.js';
import { serve } from '../../host/node/ublk-device.js';
import { UblkEvents } from '../../host/node/ublk-events.js';
import { checkOptions } from '../../host/node/ublk-options.js';
import type { ServingThread } from '../../host/node/ublk-thread.js';
import { temporaryFolder } from '../temporary-folder.js';

async function newImage(): Promise<string> {
  const path = `${temporaryFolder()}/image`;
  const file = await NodeFile.open(path, { create: true });
  await Image.create(file, { core: loadCore(), virtualSize: 1 << 20 });
  await file.close();
  return path;
}

const threadOf = (path: string): ServingThread => serve(requireAddon(), path, checkOptions({}), new UblkEvents());

/** Whether somebody has the image open for writing. */
async function isLocked(path: string): Promise<boolean> {
  const file = await NodeFile.open(path, { write: true }).catch((error: { code: string }) => error.code);
  if (typeof file === 'string') return file === 'ERR_LOCKED';
  await file.close();
  return false;
}

test('nothing is opened before it is told to begin', async () => {
  const path = await newImage();
  const thread = threadOf(path);
  await new Promise((resolve) => setTimeout(resolve, 150));

  const before = await isLocked(path);
  thread.begin();
  const { virtualSize } = await thread.opened;
  const after = await isLocked(path);
  thread.order({ type: 'close' });
  await thread.ended;
  thread.release();

  expect({ before, after, virtualSize }).toEqual({ before: false, after: true, virtualSize: 1 << 20 });
});

test('what is called off before that ends, and has opened nothing', async () => {
  const thread = threadOf('/no/such/image');

  thread.order({ type: 'close' });
  await thread.ended;
  thread.release();

  await expect(thread.opened).rejects.toMatchObject({ code: 'ERR_CLOSED' });
});
