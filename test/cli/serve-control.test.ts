/** What can be done with an image while it is served over NBD. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, MAIN, mustQemuImg, type Outcome, qemuImgBeside } from './run-corral.js';

interface Server {
  child: ChildProcess;
  socket: string;
  folder: string;
}

/** `corral serve` of `one` and `two`, both of 1 MiB. */
async function serveTwo(...options: string[]): Promise<Server> {
  const folder = temporaryFolder();
  for (const name of ['one', 'two']) mustQemuImg('create', '-q', '-f', 'qcow2', join(folder, name), '1M');
  return serveIn(folder, ...options);
}

async function serveIn(folder: string, ...options: string[]): Promise<Server> {
  const socket = join(folder, 'sock');
  const child = spawn(process.execPath, [MAIN, 'serve', ...options, '--socket', socket, 'one', 'two'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  child.stdout.on('data', (data: Buffer) => {
    text += data;
  });
  while (!text.includes('Next:') && child.exitCode === null) await wait(10);
  return { child, socket, folder };
}

const address = (name: string, { socket }: Server): string => `nbd+unix:///${name}?socket=${socket}`;

/** A client that writes one pattern after the other over the whole disk until it is told to stop, which it survives. */
function writer(uri: string): { stop(): Promise<string> } {
  const child = spawn('qemu-io', ['-f', 'raw', uri], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  let value = 0;
  const timer = setInterval(() => {
    value = (value % 250) + 1;
    child.stdin.write(`write -q -P ${value} 0 1M\nflush\n`);
  }, 20);
  child.stdout.on('data', (data: Buffer) => {
    output += data;
  });
  return {
    async stop() {
      clearInterval(timer);
      child.stdin.end(`read -P ${value} 0 1M\nquit\n`);
      await once(child, 'close');
      return output;
    },
  };
}

async function must(...args: string[]): Promise<string> {
  const { status, stdout, stderr }: Outcome = await corralHere(...args);
  if (status !== 0) throw new Error(`corral ${args.join(' ')}: ${stderr}`);
  return stdout;
}

test('a served image takes snapshots and bitmaps, grows and is told about while a client writes', async () => {
  const server = await serveTwo();
  const uri = address('two', server);
  const client = writer(uri);

  await must('bitmap', '--add', uri, 'since');
  await must('snapshot', '-c', 'then', uri);
  await must('snapshot', '-c', 'gone', uri);
  await must('snapshot', '-d', 'gone', uri);
  const list = await must('snapshot', '-l', uri);
  await must('resize', uri, '+1M');
  await must('flush', uri);
  const small = JSON.parse(await must('cache', '--output', 'json', uri));
  const told = await must('cache', uri, '64M');
  const large = JSON.parse(await must('cache', '--output', 'json', uri));
  const seen = await client.stop();
  const facts = JSON.parse(await must('stat', '--output', 'json', uri));
  const text = await must('stat', uri);
  const first = JSON.parse(await must('stat', '--output', 'json', server.socket));
  await must('detach', server.socket);

  expect(seen).toMatch(/read 1048576\/1048576 bytes/);
  expect(seen).not.toMatch(/fail|error/i);
  expect(list).toMatch(/then/);
  expect(large.size).toBeGreaterThan(60 * 2 ** 20);
  expect(small.size).toBeLessThan(16 * 2 ** 20);
  expect(large).toMatchObject({ entrySize: 4096, wholeDisk: 4096, covers: (large.size / 8) * 65_536 });
  expect(told).toMatch(/^nbd\+unix:.*: \S+ MiB in entries of 4 KiB, .* 4 KiB would hold all\n\d+ lookups, .*\n$/);
  expect(list).not.toMatch(/gone/);
  expect(facts).toMatchObject({ device: uri, pid: server.child.pid, size: 2 ** 21, features: { dataPath: 'nbd' } });
  expect(facts.requests.write).toMatchObject({ errors: 0, p50: expect.any(Number) });
  expect(facts.requests.write.bytes).toBe(facts.requests.write.count * 2 ** 20);
  expect(text).toMatch(/^write: \d+ requests/m);
  expect(first).toMatchObject({ device: address('one', server), size: 2 ** 20, requests: { write: { count: 0 } } });
  expect(existsSync(server.socket) || existsSync(`${server.socket}.control`)).toBe(false);
  const info = mustQemuImg('info', join(server.folder, 'two'));
  expect(info).toMatch(/virtual size: 2 MiB/);
  expect(info).toMatch(/name: since/);
  for (const name of ['one', 'two']) expect(mustQemuImg('check', join(server.folder, name))).toMatch(/No errors/);
  mustQemuImg('convert', '-l', 'then', '-O', 'raw', join(server.folder, 'two'), join(server.folder, 'raw'));
  expect(readFileSync(join(server.folder, 'raw')).subarray(2 ** 20)).toEqual(Buffer.alloc(2 ** 20));
});

test('an overlay is committed while a client writes and reads, and another asks where the data is', async () => {
  const seed = chooseSeed();
  const random = randomFrom(seed);
  const folder = temporaryFolder();
  const [base, one] = ['base', 'one'].map((name) => join(folder, name)) as [string, string];
  mustQemuImg('create', '-q', '-f', 'qcow2', base, '8M');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', one, '8M');
  mustQemuImg('create', '-q', '-f', 'qcow2', join(folder, 'two'), '1M');
  const server = await serveIn(folder);
  const uri = address('one', server);
  const model = Buffer.alloc(8 << 20);
  const commands: string[] = [];
  for (let count = 0; count < 400; count++) {
    const offset = 4096 * below(random, 2000);
    const length = 4096 * (1 + below(random, 32));
    const value = below(random, 5) === 0 ? 0 : 1 + below(random, 255);
    model.fill(value, offset, offset + length);
    commands.push(value === 0 ? `write -q -z ${offset} ${length}` : `write -q -P ${value} ${offset} ${length}`);
    const checked = 4096 * below(random, 2040);
    const pattern = model[checked] as number;
    if (model.subarray(checked, checked + 4096).every((byte) => byte === pattern)) {
      commands.push(`read -q -P ${pattern} ${checked} 4096`);
    }
  }
  const client = spawn('qemu-io', ['-f', 'raw', uri], { stdio: ['pipe', 'pipe', 'pipe'] });
  onTestFinished(() => void client.kill('SIGKILL'));
  let output = '';
  for (const stream of [client.stdout, client.stderr]) {
    stream.on('data', (data: Buffer) => {
      output += data;
    });
  }
  const half = commands.length / 2;
  client.stdin.write(`${commands.slice(0, half).join('\n')}\n`);

  const asked: Promise<{ status: number | null; stderr: string }>[] = [];
  for (const option of [[], ['-d'], []]) {
    asked.push(qemuImgBeside(['map', '--output=json', '-f', 'raw', uri], { cwd: folder }));
    await must('commit', ...option, uri);
  }
  client.stdin.end(`${commands.slice(half).join('\n')}\n`);
  await once(client, 'close');
  await must('commit', uri);
  const copied = await qemuImgBeside(['convert', '-f', 'raw', '-O', 'raw', uri, 'copy'], { cwd: folder });
  await must('detach', server.socket);

  // A prompt for each command is all that is said.
  expect(output.replaceAll('qemu-io> ', ''), `CORRAL_SEED=${seed}`).toBe('');
  for (const { status, stderr } of [...(await Promise.all(asked)), copied])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expectSameBytes(readFileSync(join(folder, 'copy')), model, `CORRAL_SEED=${seed}`);
  for (const image of [base, one]) expect(mustQemuImg('check', image)).toMatch(/No errors/);
  // All of it is in the base: nothing of the overlay is its own.
  expect(mustQemuImg('map', '--output=json', one)).not.toMatch(/"depth": 0, "present": true/);
  mustQemuImg('convert', '-O', 'raw', base, join(folder, 'raw'));
  expectSameBytes(readFileSync(join(folder, 'raw')), model, `CORRAL_SEED=${seed}`);
});

test('an overlay over a file that another image continues from is not committed, and goes on', async () => {
  const folder = temporaryFolder();
  mustQemuImg('create', '-q', '-f', 'qcow2', join(folder, 'base'), '1M');
  for (const name of ['one', 'two']) {
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', join(folder, name));
  }
  const server = await serveIn(folder);
  const before = readFileSync(join(folder, 'base'));
  const uri = address('one', server);
  const client = writer(uri);

  const { status, stderr } = await corralHere('commit', uri);
  const seen = await client.stop();
  await must('detach', server.socket);

  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: expect.stringMatching(/Another process is using the image/),
  });
  expect(seen).toMatch(/read 1048576\/1048576 bytes/);
  expect(seen).not.toMatch(/fail|error/i);
  expectSameBytes(readFileSync(join(folder, 'base')), before);
});

test('what cannot be done with it is told in one line, and its metrics over HTTP', async () => {
  const metrics = join(temporaryFolder(), 'metrics');
  const server = await serveTwo('--metrics', `unix:${metrics}`);
  const uri = address('one', server);
  const client = writer(uri);
  while (JSON.parse(await must('stat', '--output', 'json', uri)).features.clients === 0) await wait(10);

  const outcomes = [
    await corralHere('resize', '--shrink', uri, '512k'),
    await corralHere('commit', uri),
    await corralHere('snapshot', '-a', 'then', uri),
    await corralHere('flush', address('three', server)),
    await corralHere('flush', `${uri}.none`),
    await corralHere('cache', uri, '2G'),
  ];
  const busy = await corralHere('detach', uri);
  await client.stop();
  const text = await new Promise<string>((resolve, reject) => {
    get({ socketPath: metrics, path: '/metrics' }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        body += piece;
      });
      response.on('end', () => resolve(body));
    }).on('error', reject);
  });
  await must('detach', '--force', uri);

  expect(outcomes.map(({ status, stdout }) => ({ status, stdout }))).toEqual(
    outcomes.map(() => ({ status: 1, stdout: '' })),
  );
  expect(outcomes.map(({ stderr }) => stderr)).toEqual([
    expect.stringMatching(/cannot become smaller while it is served/),
    expect.stringMatching(/^corral: Error while committing .*Image does not have a backing file\n$/),
    expect.stringMatching(/^corral: Could not apply snapshot 'then': The disk is served.*\n$/),
    expect.stringMatching(/^corral: Could not flush .*No image 'three' is served here\n$/),
    expect.stringMatching(/^corral: Could not flush .*No server of corral answers for it\n$/),
    expect.stringMatching(/^corral: Invalid cache size specified: '2G'\. Must be at most 1G\.\n$/),
  ]);
  expect(busy.stderr).toMatch(/has clients: disconnect them first/);
  expect(text).toContain(`corral_requests_total{device="${uri}",kind="write"}`);
  expect(text).toContain(`corral_cache_size_bytes{device="${address('two', server)}"}`);
  expect(text).not.toContain('corral_malformed_requests_total{');
});
