import { spawn, spawnSync } from 'node:child_process';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MemoryFile } from '../../host/index.js';
import { policyOf } from '../../host/inspect/policy.js';
import { runSandboxed, SandboxBroken } from '../../host/node/sandbox.js';
import { FrameKind, FrameReader, frameHead } from '../../host/node/sandbox-frames.js';
import type { InspectJob } from '../../host/node/sandbox-job.js';
import { commandOf, levelsToTry, type SandboxLevel } from '../../host/node/sandbox-levels.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere } from './run-corral.js';
import { writtenImage } from './sample-images.js';

type ChildLevel = Exclude<SandboxLevel, 'wasm'>;

const LEVELS: readonly ChildLevel[] = ['process', 'bwrap', 'landlock'];
const JOB: InspectJob = { kind: 'inspect', policy: policyOf('upload'), depth: 'full', limits: { maxTime: 10_000 } };

/** Tries everything that could do harm, and prints what came of it. */
const PROBE = `
const { closeSync, openSync, readSync, writeSync, chmodSync, readdirSync } = require('fs');
const outcome = {};
const attempt = (name, work) => { try { work(); outcome[name] = 'done'; } catch (error) { outcome[name] = error.code ?? 'failed'; } };
const { path, port } = JSON.parse(process.argv[1]);
attempt('the image', () => readSync(3, Buffer.alloc(4), 0, 4, 0));
attempt('open', () => closeSync(openSync(path)));
attempt('create', () => closeSync(openSync(path + '.new', 'w')));
attempt('change the image', () => writeSync(3, 'x', 0));
attempt('list', () => readdirSync(path.replace(/[^/]*$/, '')));
attempt('permissions', () => chmodSync(path, 0o777));
attempt('run', () => { const { error } = require('child_process').spawnSync('/bin/true'); if (error) throw error; });
attempt('signal', () => process.kill(process.ppid, 0));
const print = () => writeSync(1, JSON.stringify(outcome));
const socket = require('net').connect(port, '127.0.0.1');
socket.on('connect', () => { outcome.connect = 'done'; print(); process.exit(); });
socket.on('error', (error) => { outcome.connect = error.code; print(); });
`;

/** What came of each attempt in a process of this level; `permissions: false` leaves out Node's own permission model. */
async function probe(level: ChildLevel, { permissions }: { permissions: boolean }): Promise<Record<string, string>> {
  const path = join(temporaryFolder(), 'secret');
  writeFileSync(path, 'secret');
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  const { program, args } = commandOf(level, PROBE, { maxTime: 10_000 }) as NonNullable<ReturnType<typeof commandOf>>;
  const used = args.filter((arg) => permissions || !/^--(experimental-)?permission$/.test(arg));
  const child = spawn(program, [...used, JSON.stringify({ path, port })], {
    stdio: ['ignore', 'pipe', 'inherit', openSync(writtenImage(), 'r')],
    env: { OPENSSL_CONF: '' },
  });
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  await new Promise((resolve) => child.once('close', resolve));
  server.close();
  expect(existsSync(`${path}.new`)).toBe(false);
  return JSON.parse(output) as Record<string, string>;
}

describe('in a process of its own nothing can be reached but the image', () => {
  test('where Node denies it: files, processes', async () => {
    const { connect: _, signal: __, ...outcome } = await probe('process', { permissions: true });

    expect(outcome).toEqual({
      'the image': 'done',
      open: 'ERR_ACCESS_DENIED',
      create: 'ERR_ACCESS_DENIED',
      'change the image': 'EBADF',
      list: 'ERR_ACCESS_DENIED',
      permissions: 'ERR_ACCESS_DENIED',
      run: 'ERR_ACCESS_DENIED',
    });
  });

  test('where bubblewrap denies it, whatever Node does: files, programs, the network', async () => {
    const { signal: _, ...outcome } = await probe('bwrap', { permissions: false });

    expect(outcome).toEqual({
      'the image': 'done',
      open: 'ENOENT',
      create: 'ENOENT',
      'change the image': 'EBADF',
      list: 'ENOENT',
      permissions: 'ENOENT',
      run: 'ENOENT',
      connect: expect.stringMatching(/^(ENETUNREACH|ECONNREFUSED)$/),
    });
  });

  test('where Landlock and seccomp deny it, whatever Node does: all of it', async () => {
    const outcome = await probe('landlock', { permissions: false });

    expect(outcome).toEqual({
      'the image': 'done',
      open: 'EACCES',
      create: 'EACCES',
      'change the image': 'EBADF',
      list: 'EACCES',
      permissions: 'EPERM',
      run: 'EPERM',
      signal: 'EPERM',
      connect: 'EPERM',
    });
  });
});

test('every level comes to the same report', async () => {
  const path = writtenImage();
  const reports = ['wasm', ...LEVELS].map(async (level) => {
    const { stdout } = await corralHere('inspect', '--depth=full', '--output=json', '--sandbox', level, path);
    const { sandbox, ...report } = JSON.parse(stdout);
    expect(sandbox.level).toBe(level);
    return report;
  });

  const [first, ...others] = await Promise.all(reports);

  expect(first.verdict.result).toBe('accept');
  for (const other of others) expect(other).toEqual(first);
});

test('the strongest level is chosen, and shown', () => {
  const { status, stdout } = corral(['inspect', writtenImage()]);

  expect(status).toBe(0);
  expect(stdout).toContain('\nsandbox: landlock\n');
});

test('a level that is required is not done without', async () => {
  const { status, stdout, stderr } = await corralHere(
    'inspect',
    '--sandbox=process',
    '--require-sandbox=bwrap',
    writtenImage(),
  );

  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/^corral: The sandbox that was asked for cannot be had here/);
});

test('stronger levels satisfy a requirement', () => {
  expect(levelsToTry('auto', 'bwrap')).toEqual(['landlock', 'bwrap']);
  expect(levelsToTry('landlock', 'process')).toEqual(['landlock']);
  expect(levelsToTry('wasm', 'process')).toEqual([]);
});

/** A file that is read by the parent, in a way of the test's. */
class HeldFile extends MemoryFile {
  constructor(private readonly held: (target: Uint8Array) => Promise<void>) {
    super(new Uint8Array(1 << 20), true);
  }

  override async read(_: number, target: Uint8Array): Promise<void> {
    await this.held(target);
  }
}

/** Processes of this one that are sandboxes. */
function children(): number[] {
  const ids = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  return ids.filter((id) => readFileSync(`/proc/${id}/cmdline`, 'utf8').includes('--max-old-space-size'));
}

test('what does not end in its time is killed', async () => {
  const never = new HeldFile(() => new Promise(() => {}));
  const start = performance.now();

  const { level, answer } = await runSandboxed(JOB, never, { level: 'process', maxTime: 200 });

  expect({ level, answer }).toEqual({ level: 'process', answer: undefined });
  expect(performance.now() - start).toBeLessThan(20_000);
  expect(children()).toEqual([]);
});

test('a sandbox that dies is no verdict', async () => {
  const deadly = new HeldFile(async () => {
    for (const id of children()) process.kill(id, 'SIGKILL');
    await new Promise(() => {});
  });

  const outcome = runSandboxed(JOB, deadly, { level: 'process', maxTime: 20_000 });

  await expect(outcome).rejects.toBeInstanceOf(SandboxBroken);
});

test('a signal ends the sandbox', async () => {
  const controller = new AbortController();
  const stopped = new HeldFile(async () => {
    controller.abort();
    await new Promise(() => {});
  });

  const outcome = runSandboxed(JOB, stopped, { level: 'landlock', maxTime: 20_000, signal: controller.signal });

  await expect(outcome).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
  expect(children()).toEqual([]);
});

test('a file that only the parent can read is read by it', async () => {
  const bytes = readFileSync(writtenImage());
  const file = new MemoryFile(Uint8Array.from(bytes), true);

  const { answer } = await runSandboxed(JOB, file, { level: 'landlock', maxTime: 20_000 });

  expect(answer?.verdict.result).toBe('accept');
});

test('an error of the file is told as one', async () => {
  const broken = new HeldFile(() => Promise.reject(new Error('EIO')));

  const { answer } = await runSandboxed(JOB, broken, { level: 'process', maxTime: 20_000 });

  expect(answer?.verdict).toEqual({ result: 'incomplete', failed: [], incomplete: ['inspect.read-error'] });
});

test('--max-time ends an inspection from outside: incomplete', async () => {
  const path = writtenImage();

  const { status, stdout } = await corralHere('inspect', '--max-time=0', '--sandbox=landlock', path);

  expect(status).toBe(3);
  expect(stdout).toContain('limit.time');
});

describe('frames', () => {
  test('are put together from pieces of any length', () => {
    const payload = new Uint8Array(300).map((_, index) => index % 251);
    const whole = Buffer.concat([frameHead(FrameKind.Read, 0), frameHead(FrameKind.Answer, 300), payload]);

    for (const length of [1, 3, 7, 200, 1000]) {
      const reader = new FrameReader();
      const frames = [];
      for (let at = 0; at < whole.length; at += length) frames.push(...reader.take(whole.subarray(at, at + length)));
      expect(frames.map(({ kind }) => kind)).toEqual([FrameKind.Read, FrameKind.Answer]);
      expect(Buffer.from(frames[1]?.payload ?? []).equals(Buffer.from(payload))).toBe(true);
    }
  });

  test('that claim to be longer than any are refused at their head', () => {
    const reader = new FrameReader();

    expect(() => [...reader.take(frameHead(FrameKind.Answer, 2 ** 31))]).toThrow(RangeError);
  });
});

describe('the launcher', () => {
  const LAUNCHER = join(import.meta.dirname, '../../dist/native/corral-sandbox');

  test.each([
    [['--cpu', 'much', '/bin/true'], /no such option, or no number/],
    [['--memory', '1', '/bin/true'], /no such option, or no number/],
    [['true'], /not an absolute path/],
    [['/nowhere/program'], /No such file or directory/],
    [[], /usage/],
  ])('starts nothing when it is told nonsense: %s', (args, complaint) => {
    const { status, stderr } = spawnSync(LAUNCHER, args, { encoding: 'utf8' });

    expect(status).toBe(125);
    expect(stderr).toMatch(complaint);
  });

  test('ends what uses more processor time than it may', () => {
    const { signal } = spawnSync(LAUNCHER, ['--cpu', '1', process.execPath, '-e', 'for (;;);'], {
      env: { OPENSSL_CONF: '' },
    });

    expect(signal).toBe('SIGKILL');
  });
});
