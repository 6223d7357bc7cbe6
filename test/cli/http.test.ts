import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type FileServer, type Served, serveFile } from '../host/http-server.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, mustQemuImg, type Outcome, qemuIo } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';

async function served(path: string, more: Partial<Served> = {}): Promise<FileServer> {
  return serveFile({ contents: new Uint8Array(readFileSync(path)), etag: '"one"', ...more });
}

function without(outcome: Outcome, ...texts: string[]): Outcome {
  const stdout = texts.reduce((text, name) => text.replaceAll(name, 'IMAGE'), outcome.stdout);
  return { ...outcome, stdout };
}

describe('an image on a server is like one in a file', () => {
  test.each([['map'], ['map', '--output=json'], ['check'], ['check', '--output=json']])(
    'for %s %s',
    async (...args) => {
      const path = writtenImage();
      const { url } = await served(path);

      const there = await corralHere(...args, url);

      expect(there.status).toBe(0);
      expect(without(there, url)).toEqual(without(await corralHere(...args, path), path));
    },
  );

  test('for info, but for the space that it takes', async () => {
    const path = writtenImage();
    const { url } = await served(path);

    const { status, stdout } = await corralHere('info', url);

    const { stdout: here } = await corralHere('info', path);
    expect(status).toBe(0);
    expect(stdout.replaceAll(url, path)).toBe(here.replace(/disk size: .*/g, 'disk size: unavailable'));
  });

  test('for convert', async () => {
    const path = writtenImage();
    const { url } = await served(path);
    const [there, here] = ['there', 'here'].map((name) => join(temporaryFolder(), name)) as [string, string];

    const { status, stderr } = await corralHere('convert', '-O', 'raw', url, there);

    mustQemuImg('convert', '-O', 'raw', path, here);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(readFileSync(there).equals(readFileSync(here))).toBe(true);
  });

  test('for inspect, in the sandbox, which has no network', async () => {
    const path = writtenImage();
    const { url, ranges } = await served(path);

    const { status, stdout } = await corralHere('inspect', '--depth=full', '--sandbox=landlock', '--output=json', url);

    const { checks, ...report } = JSON.parse(stdout);
    const here = JSON.parse((await corralHere('inspect', '--depth=full', '--output=json', path)).stdout);
    expect(status).toBe(0);
    expect(report.source).toBe(url);
    expect(checks).toEqual(here.checks);
    expect(ranges.every((range) => range?.startsWith('bytes='))).toBe(true);
  });
});

test('a redirect is followed', async () => {
  const { url } = await served(writtenImage());
  const redirecting = await serveFile({
    contents: new Uint8Array(0),
    answer: (_, response) => {
      response.writeHead(302, { location: url }).end();
      return true;
    },
  });

  const { status } = await corralHere('check', redirecting.url);

  expect(status).toBe(0);
});

test('a file that changes in between is an error, and no target is left', async () => {
  const path = newImage('cluster_size=64k', '20M');
  qemuIo(path, 'write -P 1 0 20M');
  const contents = new Uint8Array(readFileSync(path));
  const server = await serveFile({ contents, etag: '"one"' });
  let requests = 0;
  server.served.answer = () => {
    if (++requests === 4) server.served.etag = '"two"';
    return false;
  };
  const target = join(temporaryFolder(), 'target');

  const { status, stderr } = await corralHere('convert', '-O', 'raw', server.url, target);

  expect(status).toBe(1);
  expect(stderr).toMatch(/changed/);
  expect(stderr.trimEnd()).not.toContain('\n');
  expect(() => readFileSync(target)).toThrow();
});

test('a server without ranges is told of', async () => {
  const path = writtenImage();
  const { url } = await served(path, {
    answer: (_, response) => {
      response.writeHead(200).end(readFileSync(path));
      return true;
    },
  });

  const { status, stderr } = await corralHere('inspect', '--sandbox=wasm', url);

  expect(status).toBe(0);
  expect(stderr).toMatch(/^Note: .*does not serve parts/);
});

test('no more bytes are received than --max-read and what whole blocks take', async () => {
  const path = newImage('cluster_size=4k', '4G');
  qemuIo(path, ...Array.from({ length: 64 }, (_, index) => `write -P 1 ${index * 64}M 4k`));
  const contents = new Uint8Array(64 * 2 ** 20);
  contents.set(readFileSync(path));
  const server = await serveFile({ contents, etag: '"one"' });

  const { status } = await corralHere('inspect', '--sandbox=wasm', '--max-read=64k', server.url);

  const bytes = server.ranges.map(
    (range) =>
      /(\d+)-(\d+)/
        .exec(range ?? '')
        ?.slice(1)
        .map(Number) ?? [0, 0],
  );
  expect(status).toBe(3);
  expect(bytes.reduce((sum, [start = 0, end = 0]) => sum + end - start + 1, 0)).toBeLessThan(2 ** 20);
});

test('what an image on a server names is not opened, neither here nor there', async () => {
  const path = newImage();
  const secret = writtenImage();
  mustQemuImg('rebase', '-u', '-b', secret, '-F', 'qcow2', path);
  const { url } = await served(path);
  const target = join(temporaryFolder(), 'target');

  const copied = await corralHere('convert', '-O', 'raw', url, target);
  const told = await corralHere('info', '--backing-chain', url);

  expect(copied.status).toBe(1);
  expect(copied.stderr).toMatch(/The image is on a server: its backing file, .*, is not opened/);
  expect(told).toMatchObject({ status: 1, stdout: '' });
  expect(() => readFileSync(target)).toThrow();
});

test.each([
  [['check', '-r', 'all'], /cannot be written/],
  [['resize'], /cannot be written/],
])('nothing is written to a server: %s', async (args, complaint) => {
  const server = await served(writtenImage());
  const operands = args[0] === 'resize' ? ['+1M'] : [];

  const { status, stderr } = await corralHere(...args, server.url, ...operands);

  expect(status).toBe(1);
  expect(stderr).toMatch(complaint);
  expect(server.ranges).toEqual([]);
});

test('a server that is not there, and a file that is not, are one line', async () => {
  const missing = await served(writtenImage(), {
    answer: (_, response) => {
      response.writeHead(404).end();
      return true;
    },
  });
  const closed = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => closed.once('listening', resolve));
  const { port } = closed.address() as AddressInfo;
  await new Promise((resolve) => closed.close(resolve));

  for (const url of [missing.url, `http://127.0.0.1:${port}/x`]) {
    const { status, stdout, stderr } = await corralHere('info', url);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^corral: Could not open 'http:.*\n$/);
  }
});

test('a file of that name in the working folder is not meant', () => {
  const { status, stderr } = corral(['info', 'http://127.0.0.1:1/x'], { cwd: temporaryFolder() });

  expect(status).toBe(1);
  expect(stderr).toMatch(/Could not open 'http:/);
});
