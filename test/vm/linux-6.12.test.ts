import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { checkImage, judgeExt4Image } from './fixture.js';
import { ensureKernel } from './kernel.js';
import { kernelSuite } from './kernel-suite.js';

// The oldest driver that is tested: what a driver can change, and what no driver changes and the other file has no time for.
const series = '6.12';
const run = promisify(execFile);
const { scenario, folder, large, small } = kernelSuite(series);

test('the guest is as the scenarios need it, and doctor tells whether attach will work, and what is missing', async () => {
  const { release } = await ensureKernel(series);

  const outcome = await scenario('doctor', release);

  expect(outcome.output).toContain('can be attached');
});

test('an overlay over a compressed base is read, changed and left in order, and so is its base', async () => {
  const [base, overlay] = [join(folder, 'base.qcow2'), join(folder, 'overlay.qcow2')];
  await run('qemu-img', ['convert', '-c', '-f', 'qcow2', '-O', 'qcow2', small.image, base]);
  await run('qemu-img', ['create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', overlay], { cwd: folder });

  await scenario('overlay', overlay, base, small.checksums);

  expect(await judgeExt4Image(`${overlay}.after`, `${overlay}.after.sha256`)).toEqual([]);
  expect(await checkImage(base)).toEqual([]);
});

test('an xfs is made, filled, repaired without a finding, trimmed, and read again', async () => {
  const after = join(folder, 'xfs.qcow2');

  const outcome = await scenario('file-system', 'xfs', large.archive, large.checksums, after);

  expect(outcome.output).toContain(`${large.fileCount} files have their checksums`);
  expect(outcome.output).toContain('read as zeros');
  expect(await checkImage(after)).toEqual([]);
});

test('SIGKILL with writes in flight ends the device and costs nothing that was durable', async () => {
  const outcome = await scenario('killed');

  expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
});

test('a server that is killed in the middle of writes is replaced, and nobody who writes sees an error', async () => {
  const outcome = await scenario('recovered', '2');

  expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
});

test('a device is looked after while its guest writes, and ends with writes in flight', async () => {
  const outcome = await scenario('live', 'stays');

  expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
});

test('devices are as they are asked for, and several are of one process', async () => {
  await scenario('kinds');
});

test('user copy carries requests of every size, and all that an image holds', async () => {
  await scenario('data-paths', 'user-copy');
});

test('storage that is full or broken costs the guest an error, and nothing that was written', async () => {
  await scenario('storage-fails');
});

test("a user who is not root makes a device, which is nobody else's", async () => {
  await scenario('users');
});

test('twenty devices, one after the other, leave nothing behind', async () => {
  await scenario('many-times', '20');
});
