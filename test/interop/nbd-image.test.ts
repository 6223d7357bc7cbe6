import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { exportImage } from '../../host/nbd/image-export.js';
import { openImage } from '../../host/node/index.js';
import { serve, temporaryFolder } from '../host/nbd-client.js';

const run = promisify(execFile);

const MIB = 1024 * 1024;

/** Serves an image that qemu-img made. */
async function serveImage(path: string, options: { write: boolean }) {
  const image = await openImage(path, options);
  onTestFinished(() => image.close());
  const { server, lines } = await serve(await exportImage(image, { name: 'disk' }));
  return { image, server, lines };
}

test('an image that qemu-img made is read through the server as qemu-img reads it', async () => {
  const folder = await temporaryFolder();
  const [raw, image, copy] = [join(folder, 'raw'), join(folder, 'image.qcow2'), join(folder, 'copy')];
  const content = randomBytes(20 * MIB).fill(0, 5 * MIB, 9 * MIB);
  await writeFile(raw, content);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  const { server, lines } = await serveImage(image, { write: false });

  const facts = JSON.parse((await run('nbdinfo', ['--json', server.uri])).stdout);
  await run('nbdcopy', [server.uri, copy]);

  expect(facts.exports[0]).toMatchObject({ 'export-size': 20 * MIB, is_read_only: true, block_size_preferred: 65536 });
  expect(content.equals(await readFile(copy))).toBe(true);
  expect(lines).toEqual([]);
});

test('an image that clients filled through the server is clean and whole for qemu-img', async () => {
  const folder = await temporaryFolder();
  const [raw, image, copy] = [join(folder, 'raw'), join(folder, 'image.qcow2'), join(folder, 'copy')];
  const content = randomBytes(20 * MIB).fill(0, 5 * MIB, 9 * MIB);
  await writeFile(raw, content);
  await run('qemu-img', ['create', '-f', 'qcow2', image, '20M']);
  const served = await serveImage(image, { write: true });

  await run('nbdcopy', [raw, served.server.uri]);
  const patterns = ['write -f -P 0x77 1000001 70000', 'write -z 12M 1M', 'flush', 'read -P 0x77 1000001 70000'];
  const output = await run('qemu-io', ['-f', 'raw', ...patterns.flatMap((line) => ['-c', line]), served.server.uri]);
  await served.server.close();
  await served.image.close();
  await run('qemu-img', ['check', image]);
  await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, copy]);

  expect(output.stdout).not.toMatch(/failed/);
  content.fill(0x77, 1000001, 1070001).fill(0, 12 * MIB, 13 * MIB);
  expect(content.equals(await readFile(copy))).toBe(true);
  expect(served.lines).toEqual([]);
});
