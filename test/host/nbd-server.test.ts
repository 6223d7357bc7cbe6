import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { serveNbd } from '../../host/nbd/server.js';
import { defaultSocketPath } from '../../host/nbd/socket-path.js';
import { encodeRequest, Gate, MemoryExport, NbdClient, serve, temporaryFolder, until } from './nbd-client.js';

const READ = 0;
const WRITE = 1;

/** An export whose writes wait until the test lets them go on. */
class SlowExport extends MemoryExport {
  readonly gate = new Gate();
  started = 0;

  override async write(offset: number, source: Uint8Array, options: { durable: boolean }): Promise<void> {
    this.started += 1;
    await this.gate.opened;
    await super.write(offset, source, options);
  }
}

/** The same numbers below 2^32 for the same seed. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state ^ (state >>> 16)) >>> 0;
  };
}

/** Leaves a socket file whose server is dead: a process that is killed cannot remove it. */
function leaveStaleSocket(path: string): void {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
}

describe('the socket', () => {
  test('is private to the user, named by the address, and removed at the end', async () => {
    const socketPath = join(await temporaryFolder(), 'a disk?.sock');

    const { server } = await serve(new MemoryExport(512), { socketPath });
    const { mode } = await stat(socketPath);
    await server.close();

    expect(mode & 0o777).toBe(0o600);
    expect(server.socketPath).toBe(socketPath);
    expect(server.uri).toMatch(/^nbd\+unix:\/\/\/\?socket=\/.*\/a%20disk%3F\.sock$/);
    expect(existsSync(socketPath)).toBe(false);
  });

  test('of a dead server is replaced', async () => {
    const socketPath = join(await temporaryFolder(), 'socket');
    leaveStaleSocket(socketPath);
    expect(existsSync(socketPath)).toBe(true);

    const { server } = await serve(new MemoryExport(512), { socketPath });

    const client = await NbdClient.enter(server);
    expect((await client.ask({ command: READ, length: 512 })).error).toBe(0);
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
  });

  test('of a living server is an error, and that server is not disturbed', async () => {
    const { server, lines } = await serve(new MemoryExport(512));

    const second = serveNbd(new MemoryExport(512), { socketPath: server.socketPath ?? '' });

    await expect(second).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    const client = await NbdClient.enter(server);
    expect((await client.ask({ command: READ, length: 512 })).error).toBe(0);
    expect(lines).toEqual([]);
  });

  test('of a living server that is no NBD server is an error too', async () => {
    const socketPath = join(await temporaryFolder(), 'socket');
    const other = createServer().listen(socketPath);
    await until(() => other.listening);

    await expect(serveNbd(new MemoryExport(512), { socketPath })).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    expect(existsSync(socketPath)).toBe(true);

    other.close();
  });

  test('never replaces what is no socket', async () => {
    const socketPath = join(await temporaryFolder(), 'precious');
    await writeFile(socketPath, 'data');

    await expect(serveNbd(new MemoryExport(512), { socketPath })).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    expect((await stat(socketPath)).size).toBe(4);
  });

  test('with a path of 107 bytes works, one byte more is refused with the limit in the message', async () => {
    const folder = await temporaryFolder();
    const longest = join(folder, 'x'.repeat(106 - Buffer.byteLength(folder)));

    const { server } = await serve(new MemoryExport(512), { socketPath: longest });
    const tooLong = serveNbd(new MemoryExport(512), { socketPath: `${longest}y` });

    expect(Buffer.byteLength(server.socketPath ?? '')).toBe(107);
    await expect(tooLong).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(tooLong).rejects.toThrow(/107.*108/);
  });

  test('in a folder that does not exist is an error', async () => {
    const socketPath = join(await temporaryFolder(), 'missing/socket');

    await expect(serveNbd(new MemoryExport(512), { socketPath })).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  });
});

describe('the default path', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test('is in a private folder of the runtime folder', async () => {
    const folder = await temporaryFolder();
    vi.stubEnv('XDG_RUNTIME_DIR', folder);

    const path = await defaultSocketPath('my disk/../é.qcow2');

    expect(path).toBe(join(folder, 'corral/my-disk-..-é.qcow2.sock'));
    expect((await stat(join(folder, 'corral'))).mode & 0o777).toBe(0o700);
  });

  test('is in a folder of this user for temporary files where there is no runtime folder', async () => {
    const folder = await temporaryFolder();
    vi.stubEnv('XDG_RUNTIME_DIR', '');
    vi.stubEnv('TMPDIR', folder);

    const path = await defaultSocketPath('disk');

    expect(path).toBe(join(folder, `corral-${process.getuid?.()}/disk.sock`));
    expect((await stat(join(path, '..'))).mode & 0o777).toBe(0o700);
  });

  test('is refused when others may enter the folder', async () => {
    const folder = await temporaryFolder();
    vi.stubEnv('XDG_RUNTIME_DIR', folder);
    await mkdir(join(folder, 'corral'));
    await chmod(join(folder, 'corral'), 0o755);

    await expect(defaultSocketPath('disk')).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
  });

  test('is refused when the folder is a link to somewhere else', async () => {
    const folder = await temporaryFolder();
    vi.stubEnv('XDG_RUNTIME_DIR', folder);
    await mkdir(join(folder, 'elsewhere'), { mode: 0o700 });
    await symlink(join(folder, 'elsewhere'), join(folder, 'corral'));

    await expect(defaultSocketPath('disk')).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
  });
});

describe('closing', () => {
  test('finishes and answers what is in flight, then flushes', async () => {
    const exported = new SlowExport(4096);
    const { server, lines } = await serve(exported);
    const client = await NbdClient.enter(server);
    const idle = await NbdClient.enter(server);
    const greeted = await NbdClient.connect(server);
    await greeted.take(18);
    client.sendRequest({ command: WRITE, cookie: 1n, data: Buffer.from('kept') });
    await until(() => exported.started === 1);

    const closed = server.close();
    await idle.takeEnd();
    await greeted.takeEnd();
    expect(exported.flushCount).toBe(0);
    exported.gate.open();
    await closed;

    expect(await client.takeReply()).toMatchObject({ cookie: 1n, error: 0 });
    expect(await client.takeEnd()).toHaveLength(0);
    expect(Buffer.from(exported.bytes.subarray(0, 4)).toString()).toBe('kept');
    expect(exported.flushCount).toBe(1);
    expect(lines).toEqual([]);
  });

  test('accepts nobody from its first moment on', async () => {
    const exported = new SlowExport(4096);
    const { server } = await serve(exported);
    const client = await NbdClient.enter(server);
    client.sendRequest({ command: WRITE, data: Buffer.alloc(512) });
    await until(() => exported.started === 1);

    const closed = server.close();

    await expect(NbdClient.connect(server)).rejects.toMatchObject({ code: 'ENOENT' });
    exported.gate.open();
    await closed;
  });

  test('does not wait for ever for a client that takes no replies', async () => {
    const { server } = await serve(new MemoryExport(4 * 1024 * 1024), { patience: { farewell: 50 } });
    const client = await NbdClient.enter(server);
    client.socket.pause();
    client.sendRequest({ command: READ, length: 4 * 1024 * 1024 });
    client.sendRequest({ command: WRITE, data: Buffer.alloc(100) });
    await new Promise((resolve) => setTimeout(resolve, 50));

    await server.close();

    expect(existsSync(server.socketPath ?? '')).toBe(false);
  });

  test('cuts off a write that is only half there, without a word', async () => {
    const exported = new SlowExport(4096);
    const { server, lines } = await serve(exported);
    const client = await NbdClient.enter(server);
    client.sendRequest({ command: WRITE, length: 4096, data: Buffer.alloc(100) });
    await new Promise((resolve) => setTimeout(resolve, 20));

    await server.close();

    expect(exported.started).toBe(0);
    expect(lines).toEqual([]);
  });

  test('twice is the same as once, and tells twice why the flush failed', async () => {
    const exported = new MemoryExport(512);
    exported.flush = () => Promise.reject(new Error('no flush'));
    const { server } = await serve(exported);

    const closings = [server.close(), server.close()];

    await expect(closings[0]).rejects.toThrow('no flush');
    await expect(closings[1]).rejects.toThrow('no flush');
  });

  test('does not flush what is read-only', async () => {
    const exported = new MemoryExport(512, { readOnly: true });
    const { server } = await serve(exported);

    await server.close();

    expect(exported.flushCount).toBe(0);
  });

  test('happens when the signal is aborted', async () => {
    const controller = new AbortController();
    const exported = new MemoryExport(512);
    const { server } = await serve(exported, { signal: controller.signal });
    const client = await NbdClient.enter(server);

    controller.abort();
    await client.takeEnd();
    await server.close();

    expect(exported.flushCount).toBe(1);
  });

  test('a signal that is aborted already makes no socket', async () => {
    const socketPath = join(await temporaryFolder(), 'socket');

    const serving = serveNbd(new MemoryExport(512), { socketPath, signal: AbortSignal.abort() });

    await expect(serving).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    expect(existsSync(socketPath)).toBe(false);
  });
});

describe('several clients', () => {
  test('see what the others wrote', async () => {
    const { server } = await serve(new MemoryExport(4096));
    const first = await NbdClient.enter(server);
    const second = await NbdClient.enter(server, { structured: true });

    await first.ask({ command: WRITE, offset: 10, data: Buffer.from('shared') });
    const reply = await second.ask({ command: READ, offset: 10, length: 6 });

    expect(reply.data.toString('latin1', 8)).toBe('shared');
  });

  test('are served whatever bytes others send', async () => {
    const seed = randomInt(2 ** 31);
    console.log(`seed ${seed}`);
    const random = randomNumbers(seed);
    const { server, lines } = await serve(new MemoryExport(65536));
    const good = await NbdClient.enter(server);

    for (let round = 0; round < 200; round += 1) {
      const bad = round % 2 === 0 ? await NbdClient.connect(server) : await NbdClient.enter(server);
      const bytes = Buffer.concat([
        round % 2 === 0 ? Buffer.from('\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0', 'latin1') : Buffer.alloc(0),
        encodeRequest({ command: random() % 8, offset: random(), length: random() % 70000, data: Buffer.alloc(5000) }),
        encodeRequest({ command: READ, length: 4096 }),
      ]);
      for (let count = random() % 4; count >= 0; count -= 1) {
        bytes[random() % 64] = random();
      }
      bad.send(bytes.subarray(0, random() % bytes.length));
      bad.socket.end();
      await bad.takeEnd();
    }
    const reply = await good.ask({ command: READ, length: 65536 });
    await server.close();

    expect(reply.error).toBe(0);
    expect(lines.length).toBeGreaterThan(10);
    // No client has two lines, and none of them is a surprise to the server itself.
    expect(new Set(lines.map((line) => line.slice(0, line.indexOf(':', 5)))).size).toBe(lines.length);
    expect(lines.filter((line) => line.includes('unexpected'))).toEqual([]);
  });

  test('above the limit are hung up on with one line each', async () => {
    const { server, lines } = await serve(new MemoryExport(4096), { maximumConnections: 1 });
    const first = await NbdClient.enter(server);

    const second = await NbdClient.connect(server);

    expect(await second.takeEnd()).toHaveLength(0);
    expect(lines).toEqual(['nbd: too many clients; one was hung up on']);
    expect((await first.ask({ command: READ, length: 512 })).error).toBe(0);
  });
});

describe('an export that cannot be served', () => {
  test.each([
    ['a block size that is no power of two', { preferredBlockSize: 65537 }],
    ['a block size of 256', { preferredBlockSize: 256 }],
    ['a block size of 64 MiB', { preferredBlockSize: 64 * 1024 * 1024 }],
    ['a size that is no whole number', { size: 1.5 }],
    ['a size below zero', { size: -1 }],
    ['a name of more than 4096 bytes', { name: 'é'.repeat(2049) }],
  ])('because of %s is refused before there is a socket', async (_, wrong) => {
    const socketPath = join(await temporaryFolder(), 'socket');
    const right = { name: '', size: 512, readOnly: true, preferredBlockSize: 512, zeroesFast: false, contexts: [] };
    const nothing = async () => {};
    const operations = { read: nothing, write: nothing, writeZeroes: nothing, discard: nothing, flush: nothing };

    const serving = serveNbd({ ...right, ...operations, ...wrong }, { socketPath });

    await expect(serving).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect(existsSync(socketPath)).toBe(false);
  });
});
