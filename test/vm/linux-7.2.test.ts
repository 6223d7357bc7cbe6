import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkImage, judgeExt4Image } from './fixture.js';
import { kernelSuite } from './kernel-suite.js';

// A new driver, of which everything is used that it offers.
const { scenario, folder, large } = kernelSuite('7.2');

test('an ext4 in an image of qemu-img is read, changed and left in order', async () => {
  const image = join(folder, 'qemu.qcow2');
  await copyFile(large.image, image);

  await scenario('ext4-from-qemu', image, large.checksums, 'usr');

  expect(await judgeExt4Image(`${image}.after`, `${image}.after.sha256`)).toEqual([]);
});

test('an ext4 is made in an image of corral create, filled, trimmed and read again', async () => {
  const after = join(folder, 'ext4.qcow2');

  const outcome = await scenario('file-system', 'ext4', large.archive, large.checksums, after);

  expect(outcome.output).toContain('read as zeros');
  expect(await checkImage(after)).toEqual([]);
});

test('a device is looked after while its guest writes, and ends with writes in flight', async () => {
  const outcome = await scenario('live', 'grows');

  expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
});

test('attach says in one line why it cannot', async () => {
  await scenario('refusals');
});

test('npm start makes a block device, or says why it is NBD, and what it says to type next works', async () => {
  await scenario('serve');
});

test('a server is not given an image that lies on its own device, and no device with swap space is taken away', async () => {
  await scenario('own-device');
});

test('the data paths of this driver carry requests of every size, and all that an image holds', async () => {
  await scenario('data-paths', 'zero-copy', 'registered');
});

test('two queues with a thread each are written, watched and changed at once, and survive the death of their server', async () => {
  const outcome = await scenario('queues');

  expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
});

test('a server is replaced under load without an error, and after a death requests fail at once if asked for', async () => {
  const outcome = await scenario('replaced', 'hands-over');

  expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
});
