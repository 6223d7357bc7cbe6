import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { exportImage } from '../../host/nbd/image-export.js';
import { openImage, pathGate } from '../../host/node/index.js';
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

/** An overlay over a base, each with data, zeros and holes of its own, and a bitmap of what changed late. */
async function makeChain(folder: string): Promise<string> {
  const [base, image] = [join(folder, 'base.qcow2'), join(folder, 'image.qcow2')];
  const io = (path: string, ...lines: string[]) =>
    run('qemu-io', ['-f', 'qcow2', ...lines.flatMap((line) => ['-c', line]), path]);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, '32M']);
  await io(base, 'write -P 1 1M 2M', 'write -P 2 8M 100k', 'write -z 20M 1M', 'write -c -P 3 24M 64k');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', image, '40M']);
  await io(image, 'write -P 4 2M 2M', 'write -z 8M 64k', 'write -P 5 30M 4M');
  await run('qemu-img', ['bitmap', '--add', image, 'late', '-g', '64k']);
  await run('qemu-img', ['bitmap', '--add', image, 'a:b c', '-g', '4k']);
  await run('qemu-img', ['bitmap', '--disable', image, 'a:b c']);
  await io(image, 'write -P 6 5M 200k', 'write -P 7 39M 64k');
  return image;
}

/** What a map says, without where in a file it lies. */
interface Stretch {
  start: number;
  length: number;
  [fact: string]: unknown;
}

/** Neighbours that are alike as one. */
function joined(map: readonly Stretch[], ...facts: string[]): Record<string, unknown>[] {
  const result: Stretch[] = [];
  for (const stretch of map) {
    const picked = Object.fromEntries(facts.map((fact) => [fact, stretch[fact]]));
    const last = result.at(-1);
    if (last && facts.every((fact) => last[fact] === picked[fact])) last.length += stretch.length;
    else result.push({ start: stretch.start, length: stretch.length, ...picked });
  }
  return result;
}

test('maps and bitmaps over NBD are those of the file, through libnbd and QEMU', async () => {
  const folder = await temporaryFolder();
  const path = await makeChain(folder);
  const map = async (...args: string[]) =>
    JSON.parse((await run('qemu-img', ['map', '--output=json', ...args])).stdout);
  const fileMap = await map('-f', 'qcow2', path);
  const image = await openImage(path, { gate: pathGate() });
  onTestFinished(() => image.close());
  const { server, lines } = await serve(await exportImage(image, { name: 'disk', bitmaps: ['late', 'a:b c'] }));
  const dirtyMap = (name: string) =>
    map('--image-opts', `driver=nbd,server.type=unix,server.path=${server.socketPath},x-dirty-bitmap=${name}`);
  const info = async (context: string) =>
    JSON.parse((await run('nbdinfo', [`--map=${context}`, '--json', server.uri])).stdout) as {
      offset: number;
      length: number;
      type: number;
    }[];

  const nbdMap = await map('-f', 'raw', server.uri);
  const allocation = await info('base:allocation');
  const depth = await info('qemu:allocation-depth');
  const late = await info('qemu:dirty-bitmap:late');
  const lateInQemu = await dirtyMap('qemu:dirty-bitmap:late');
  const none = await info('qemu:dirty-bitmap:a:b c');
  const { stdout: list } = await run('nbdinfo', ['--list', '--json', server.uri]);

  expect(joined(nbdMap, 'zero', 'data')).toEqual(joined(fileMap, 'zero', 'data'));
  const asMap = allocation.map(({ offset, length, type }) => ({
    start: offset,
    length,
    zero: (type & 2) !== 0,
    data: (type & 1) === 0,
  }));
  expect(joined(asMap, 'zero', 'data')).toEqual(joined(fileMap, 'zero', 'data'));
  const depths = fileMap.map((stretch: Stretch) => ({
    ...stretch,
    type: stretch.present ? (stretch.depth as number) + 1 : 0,
  }));
  expect(
    joined(
      depth.map((one) => ({ ...one, start: one.offset })),
      'type',
    ),
  ).toEqual(joined(depths, 'type'));
  const dirty = joined(
    late.map((one) => ({ ...one, start: one.offset })),
    'type',
  );
  expect(dirty).toEqual([
    { start: 0, length: 5 * MIB, type: 0 },
    { start: 5 * MIB, length: 4 * 65536, type: 1 },
    { start: 5 * MIB + 4 * 65536, length: 34 * MIB - 4 * 65536, type: 0 },
    { start: 39 * MIB, length: 65536, type: 1 },
    { start: 39 * MIB + 65536, length: MIB - 65536, type: 0 },
  ]);
  // QEMU shows what is dirty as what has no data.
  expect(
    joined(
      lateInQemu.map((one: Stretch) => ({ ...one, type: one.data ? 0 : 1 })),
      'type',
    ),
  ).toEqual(dirty);
  expect(none).toEqual([{ offset: 0, length: 40 * MIB, type: 0, description: 'clean' }]);
  expect(JSON.parse(list).exports[0].contexts).toEqual([
    'base:allocation',
    'qemu:allocation-depth',
    'qemu:dirty-bitmap:late',
    'qemu:dirty-bitmap:a:b c',
  ]);
  expect(lines).toEqual([]);
});

test('a bitmap that is not there is not exported', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'image.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
  await using image = await openImage(path);

  await expect(exportImage(image, { name: '', bitmaps: ['none'] })).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
});

test('what QEMU writes in haste, caches and trims over extended headers is in the image', async () => {
  const folder = await temporaryFolder();
  const [path, copy] = [join(folder, 'image.qcow2'), join(folder, 'copy')];
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '16M']);
  const { server, image, lines } = await serveImage(path, { write: true });
  const steps = [
    'write -P 1 0 8M',
    'write -z -u 1M 1M',
    'write -z -n 3M 100k',
    'discard 5M 1M',
    'write -f -P 9 15M 1M',
    'flush',
  ];

  const { stdout } = await run('qemu-io', ['-f', 'raw', ...steps.flatMap((step) => ['-c', step]), server.uri]);
  await run('nbdcopy', ['--synchronous', server.uri, copy]);
  await server.close();
  await image.close();
  await run('qemu-img', ['check', path]);
  const { stdout: compared } = await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', path, copy]);

  expect(stdout).not.toMatch(/failed/);
  expect(compared).toContain('Images are identical');
  expect(lines).toEqual([]);
});
