import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, MAIN, mustQemuImg } from './run-corral.js';
import { newImage } from './sample-images.js';

interface Server {
  child: ChildProcess;
  text: () => string;
  complaints: () => string;
  uri: string;
}

/** `corral serve ARGS`, once it has said where. */
async function serve(args: string[], cwd: string): Promise<Server> {
  const child = spawn(process.execPath, [MAIN, 'serve', ...args], {
    cwd,
    env: { ...process.env, XDG_RUNTIME_DIR: cwd },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  let complaints = '';
  child.stdout.on('data', (data: Buffer) => {
    text += data;
  });
  child.stderr.on('data', (data: Buffer) => {
    complaints += data;
  });
  while (!text.includes('Next:') && child.exitCode === null) await wait(10);
  const uri = /nbds?(\+unix)?:[^']*/.exec(text.slice(text.indexOf('Next:')))?.[0];
  if (uri === undefined) throw new Error(`no server: ${text}${complaints}`);
  return { child, text: () => text, complaints: () => complaints, uri };
}

/** The command that the server proposes, as a user would type it, with other qemu-io commands. */
async function qemuIo(server: Server, ...commands: string[]): Promise<string> {
  const proposed = /Next: (qemu-io .*) -c '.*'$/m.exec(server.text())?.[1];
  const line = [proposed, ...commands.map((command) => `-c '${command}'`)].join(' ');
  const client = spawn('bash', ['-c', `${line} 2>&1`], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  client.stdout.on('data', (data: Buffer) => {
    output += data;
  });
  await once(client, 'close');
  return output;
}

async function tool(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args);
  return stdout;
}

describe('corral serve --nbd', () => {
  test('takes an image as a list of options, which can make it read-only', async () => {
    const image = newImage();
    const server = await serve(
      ['--nbd', '--image-opts', `driver=qcow2,read-only=on,file.filename=${image}`],
      temporaryFolder(),
    );

    const output = await qemuIo(server, 'read -P 0 1M 64k', 'write 1M 64k');

    expect(output).toContain('read 65536/65536 bytes at offset 1048576');
    expect(output).toContain('Block node is read-only');
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('serves an image until %s, and loses nothing', async (signal) => {
    const image = newImage();
    const folder = temporaryFolder();
    const server = await serve(['--nbd', image], folder);

    const output = await qemuIo(server, 'write -P 7 1M 64k', 'read -P 7 1M 64k');
    server.child.kill(signal);
    server.child.kill(signal);
    const [code] = await once(server.child, 'close');

    expect(output).toMatch(/^wrote 65536.*^read 65536/ms);
    expect({ code, complaints: server.complaints() }).toEqual({ code: 0, complaints: '' });
    expect(mustQemuImg('check', image)).toContain('No errors were found');
    expect(mustQemuImg('map', image)).toMatch(/^0x100000 +0x10000 /m);
    expect(readdirSync(join(folder, 'corral'))).toEqual([]);
  });

  test('makes a sample image where none is named, and keeps it the next time', async () => {
    const folder = temporaryFolder();

    const first = await serve(['--nbd'], folder);
    await qemuIo(first, 'write -P 9 0 64k');
    first.child.kill('SIGTERM');
    await once(first.child, 'close');
    const second = await serve(['--nbd'], folder);
    const output = await qemuIo(second, 'read -P 9 0 64k');
    second.child.kill('SIGTERM');
    await once(second.child, 'close');

    expect(first.text()).toContain('made corral-sample.qcow2');
    expect(second.text()).not.toContain('made');
    expect(output).toMatch(/^read 65536/m);
    expect(mustQemuImg('check', join(folder, 'corral-sample.qcow2'))).toContain('No errors were found');
  });

  test('--read-only refuses writes, and --socket says where', async () => {
    const image = newImage();
    const before = readFileSync(image);
    const folder = temporaryFolder();
    const socket = join(folder, 'here.sock');
    const server = await serve(['--read-only', '--socket', socket, image], folder);

    const read = await qemuIo(server, 'read -P 0 0 4k');
    const written = await qemuIo(server, 'write 0 4k');
    server.child.kill('SIGINT');
    const [code] = await once(server.child, 'close');

    expect(server.uri).toContain(socket);
    expect(read).toMatch(/^read 4096/m);
    expect(written).not.toMatch(/^wrote/m);
    expect(code).toBe(0);
    expect(readFileSync(image).equals(before)).toBe(true);
  });

  test('keeps other writers away, and gives the image back', async () => {
    const image = newImage();
    const server = await serve(['--nbd', image], temporaryFolder());

    const during = corral(['check', image]);
    server.child.kill('SIGTERM');
    await once(server.child, 'close');
    const after = corral(['check', image]);

    expect(during.stderr).toMatch(/^corral: .*lock\nIs another.*\n$/);
    expect(after.status).toBe(0);
  });

  test('serves several images on a port, each by its name, a snapshot of one and its bitmap', async () => {
    const cwd = temporaryFolder();
    for (const name of ['one', 'two']) mustQemuImg('create', '-q', '-f', 'qcow2', join(cwd, name), '1M');
    const several = await serve(['--tcp', '0', 'one', 'two'], cwd);

    const list = await tool('nbdinfo', '--list', '--json', several.uri);
    const written = await tool('qemu-io', '-f', 'raw', '-c', 'write -P 3 0 64k', `${several.uri}/two`);
    several.child.kill('SIGTERM');
    await once(several.child, 'close');
    mustQemuImg('snapshot', '-c', 'then', join(cwd, 'two'));
    mustQemuImg('bitmap', '--add', join(cwd, 'two'), 'b');
    const options = ['--snapshot', 'then', '-B', 'b', '-x', 'disk', '--once', 'two'];
    const one = await serve(options, cwd);
    const facts = await tool('nbdinfo', '--list', '--json', one.uri);
    await once(one.child, 'close');

    expect(several.uri).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+$/);
    expect(JSON.parse(list).exports).toMatchObject([{ 'export-name': 'one' }, { 'export-name': 'two' }]);
    expect(written).toMatch(/^wrote 65536/m);
    expect(mustQemuImg('map', join(cwd, 'one'))).not.toMatch(/^0 /m);
    expect(mustQemuImg('map', join(cwd, 'two'))).toMatch(/^0 +0x10000 /m);
    const contexts = expect.arrayContaining(['qemu:dirty-bitmap:b']);
    expect(JSON.parse(facts).exports).toMatchObject([{ 'export-name': 'disk', is_read_only: true, contexts }]);
    expect(one.complaints()).toBe('');
  });

  test('lets clients write an image into a raw disk with --no-guard', async () => {
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, 'raw'), Buffer.alloc(1024 * 1024));
    const server = await serve(['-f', 'raw', '--no-guard', 'raw'], cwd);

    await tool('qemu-img', 'create', '-q', '-f', 'qcow2', server.uri, '64k');
    server.child.kill('SIGTERM');
    await once(server.child, 'close');

    expect(readFileSync(join(cwd, 'raw')).toString('latin1', 0, 4)).toBe('QFI\xfb');
  });

  test('serves a raw disk where that is said, and lets nobody make an image of it', async () => {
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, 'raw'), Buffer.alloc(1024 * 1024));
    const server = await serve(['-f', 'raw', 'raw'], cwd);

    const good = await qemuIo(server, 'write -P 5 4k 4k', 'read -P 5 4k 4k');
    // 'Q', 'F', 'I' and 0xfb, one after the other.
    const bytes = ['0x51 0 1', '0x46 1 1', '0x49 2 1', '0xfb 3 1'];
    const bad = await qemuIo(server, ...bytes.map((one) => `write -P ${one}`));
    server.child.kill('SIGTERM');
    await once(server.child, 'close');

    expect(good).toMatch(/^wrote 4096.*^read 4096/ms);
    expect(bad).toMatch(/write failed/);
    const start = readFileSync(join(cwd, 'raw')).subarray(0, 4).toString('latin1');
    expect(start).not.toBe('QFI\xfb');
    expect(server.complaints()).toMatch(/first sector of this raw disk/);
  });

  test.each([
    ['two images of one name', ['a/same', 'b/same'], /called 'same'/],
    ['a name for two images', ['-x', 'n', 'a/same', 'b/same'], /--export-name is for one image/],
    ['a port of another machine', ['--tcp', '0.0.0.0:0', 'a/same'], /without TLS only loopback addresses/],
    ['a port and a socket', ['--tcp', '0', '--socket', 's', 'a/same'], /exclude each other/],
    ['no port', ['--tcp', 'localhost', 'a/same'], /Invalid port specified: 'localhost'/],
    ['a missing bitmap', ['-B', 'none', 'a/same'], /Dirty bitmap 'none' not found/],
    ['a missing snapshot', ['-l', 'none', 'a/same'], /Can't find snapshot/],
    ['a folder without certificates', ['--tls-certificates', 'a', 'a/same'], /server-cert\.pem|server-key\.pem/],
    ['raw disks without their guard where there are none', ['--no-guard', 'a/same'], /--no-guard .* needs -f raw/],
    ['bitmaps of a raw disk', ['-f', 'raw', '-B', 'b', 'text'], /raw disk: it has no bitmaps/],
  ])('complains in one line about %s', (_, args, reason) => {
    const cwd = temporaryFolder();
    for (const name of ['a', 'b']) {
      mkdirSync(join(cwd, name));
      mustQemuImg('create', '-q', '-f', 'qcow2', join(cwd, name, 'same'), '1M');
    }
    writeFileSync(join(cwd, 'text'), Buffer.alloc(512));

    const { status, stdout, stderr } = corral(['serve', '--nbd', ...args], { cwd });

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr.split('\n')[0]).toMatch(/^corral: /);
    expect(stderr).toMatch(reason);
  });

  test.each([
    ['a missing image', ['missing.qcow2'], /Could not open 'missing\.qcow2': No such file or directory/],
    ['no image at all', ['text'], /Could not open 'text': Image is not in qcow2 format/],
    ['a socket in a missing folder', ['--socket', 'missing/socket', 'image'], /missing\/socket.*no such folder/],
    ['something else where the socket should be', ['--socket', 'text', 'image'], /text.*no socket/],
    ['a folder of the sample image’s name', [], /'corral-sample\.qcow2' is no file/],
  ])('complains in one line about %s', (_, args, reason) => {
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, 'text'), 'text');
    mkdirSync(join(cwd, 'corral-sample.qcow2'));
    mustQemuImg('create', '-q', '-f', 'qcow2', join(cwd, 'image'), '1M');

    const { status, stdout, stderr } = corral(['serve', '--nbd', ...args], { cwd });

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^corral: .*\n$/);
    expect(stderr).toMatch(reason);
  });
});

/** What test/vm tests on a kernel with ublk, as far as it can be seen on any machine. */
describe('corral attach complains in one line about', () => {
  test.each([
    ['a missing file', ['missing.qcow2'], /Could not open 'missing\.qcow2': No such file or directory/],
    ['a folder', ['.'], /Could not open '\.': /],
    ['a bad block size', ['--block-size', '1024k', 'image'], /Invalid block size specified: '1024k'/],
    ['the second of two images', ['image', 'missing.qcow2'], /missing\.qcow2|ublk|addon|root/],
    ['a bad queue depth', ['--queue-depth', '0', 'image'], /Invalid queue depth specified: '0'/],
    ['a bad cache size', ['--cache-size', 'much', 'image'], /Invalid cache size specified: 'much'/],
  ])('%s', (_, args, reason) => {
    const cwd = temporaryFolder();
    mustQemuImg('create', '-q', '-f', 'qcow2', join(cwd, 'image'), '1M');

    const { status, stdout, stderr } = corral(['attach', ...args], { cwd });

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^corral: .*\n$/);
    expect(stderr).toMatch(reason);
  });

  test('an image that somebody uses', async () => {
    const image = newImage();
    const { NodeFile } = await import('../../host/node/index.js');
    const user = await NodeFile.open(image);

    const { status, stderr } = corral(['attach', image]);
    await user.close();

    expect(status).toBe(1);
    expect(stderr).toMatch(/^corral: Could not open '.*': Failed to get "write" lock\nIs another process using.*\n$/);
  });
});

describe('where no ublk devices can be', () => {
  /** As a user without rights; on a machine without ublk that makes no difference. */
  const nobody = { uid: 65534, gid: 65534, cwd: '/' };

  test('corral attach says what to do', () => {
    const options = process.getuid?.() === 0 ? nobody : {};

    const { status, stdout, stderr } = corral(['attach', '--read-only', '/proc/self/exe'], options);

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^corral: .*(root|modprobe|addon|io_uring|ublk).*\n$/);
  });

  test.each([['recover'], ['recover', '/dev/ublkb0']])('corral %s %s says what to do', (...args) => {
    const { status, stdout, stderr } = corral(args, process.getuid?.() === 0 ? nobody : {});

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^corral: Cannot recover devices: .*(root|modprobe|addon|io_uring|ublk).*\n$/);
  });

  test.each(['x', '/dev/sda', '/dev/ublkb', '-1', '99999999999'])('corral detach refuses %s', (name) => {
    const { status, stderr } = corral(['detach', '--', name]);

    expect(status).toBe(1);
    expect(stderr).toBe(`corral: '${name}' is no ublk device: /dev/ublkbN or N is needed\n`);
  });
});
