import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NbdServer, NbdServerOptions } from '../../host/nbd/server.js';
import { serveNbd } from '../../host/nbd/server.js';
import { MemoryExport, NbdClient, serve, temporaryFolder, uint32, until } from '../host/nbd-client.js';

const run = promisify(execFile);

const ACK = 1;
const ERR_POLICY = 0x80000002;
const ERR_INVALID = 0x80000003;
const ERR_TLS_REQD = 0x80000005;

const OPT_EXPORT_NAME = 1;
const OPT_ABORT = 2;
const OPT_LIST = 3;
const OPT_STARTTLS = 5;

const KEY = 'c0ffee'.repeat(10);

/** Made once: an authority, a certificate of it for each side, one of nobody's, and a key that both sides know. */
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'corral-tls-'));
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  writeFileSync(join(folder, 'names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  openssl(
    'req',
    '-x509',
    ...key,
    '-days',
    '2',
    '-keyout',
    'ca-key.pem',
    '-out',
    'ca-cert.pem',
    '-subj',
    '/CN=authority',
  );
  openssl(
    'req',
    '-x509',
    ...key,
    '-days',
    '2',
    '-keyout',
    'other-key.pem',
    '-out',
    'other-cert.pem',
    '-subj',
    '/CN=other',
  );
  for (const side of ['server', 'client']) {
    openssl('req', ...key, '-keyout', `${side}-key.pem`, '-out', `${side}.csr`, '-subj', `/CN=${side}`);
    const signed = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '2', '-extfile', 'names'];
    openssl('x509', '-req', '-in', `${side}.csr`, ...signed, '-out', `${side}-cert.pem`);
  }
  writeFileSync(join(folder, 'keys.psk'), `# who, and what they know\nalice:${KEY}\n`);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const certificates = (): NbdServerOptions => ({ tcp: { port: 0 }, tls: { certificates: folder } });
const keys = (): NbdServerOptions => ({ tcp: { port: 0 }, tls: { keys: join(folder, 'keys.psk') } });

/** Connects up to the point where options may be sent, in clear text. */
async function greet(server: NbdServer): Promise<NbdClient> {
  const client = await NbdClient.connect(server);
  await client.take(18);
  client.send(uint32(3));
  return client;
}

describe('real clients over TLS', () => {
  test('nbdinfo and qemu-io with certificates', async () => {
    const exported = new MemoryExport(1024 * 1024);
    const { server, lines } = await serve(exported, certificates());
    const creds = `tls-creds-x509,id=t,dir=${folder},endpoint=client`;
    const node = `driver=nbd,host=localhost,port=${server.port},tls-creds=t`;

    const info = await run('nbdinfo', [`nbds://localhost:${server.port}/?tls-certificates=${folder}`]);
    const io = await run('qemu-io', [
      '--object',
      creds,
      '--image-opts',
      node,
      '-c',
      'write -P 7 4k 8k',
      '-c',
      'read -P 7 4k 8k',
    ]);

    expect(server.uri).toBe(`nbds://127.0.0.1:${server.port}`);
    expect(info.stdout).toContain('newstyle-fixed with TLS');
    expect(io.stdout).toMatch(/^wrote 8192.*^read 8192/ms);
    expect(exported.bytes.subarray(4096, 12288).every((byte) => byte === 7)).toBe(true);
    expect(lines).toEqual([]);
  });

  test('nbdinfo and qemu-img with a key that both sides know', async () => {
    const { server, lines } = await serve(new MemoryExport(1024 * 1024), keys());
    const creds = `tls-creds-psk,id=t,dir=${folder},endpoint=client,username=alice`;
    const node = `driver=nbd,host=localhost,port=${server.port},tls-creds=t`;

    const info = await run('nbdinfo', [`nbds://alice@localhost:${server.port}/?tls-psk-file=${folder}/keys.psk`]);
    const image = await run('qemu-img', ['info', '--object', creds, '--image-opts', node]);

    expect(info.stdout).toContain('newstyle-fixed with TLS');
    expect(image.stdout).toContain('virtual size: 1 MiB');
    expect(lines).toEqual([]);
  });

  test('nbdcopy over TLS on a Unix socket', async () => {
    const exported = new MemoryExport(8 * 1024 * 1024);
    exported.bytes.fill(5);
    const { server } = await serve(exported, { tls: { certificates: folder, verifyPeer: false } });
    const target = new MemoryExport(exported.size);
    const { server: plain } = await serve(target);

    await run('nbdcopy', [`${server.uri}&tls-certificates=${folder}&tls-verify-peer=false`, plain.uri]);

    expect(Buffer.compare(target.bytes, exported.bytes)).toBe(0);
  });
});

describe('a server that wants TLS', () => {
  test('answers nothing in clear text but STARTTLS and ABORT', async () => {
    const { server } = await serve(new MemoryExport(512), certificates());
    const client = await greet(server);

    client.sendOption(OPT_LIST);
    const list = await client.takeOptionReply();
    client.sendOption(OPT_STARTTLS, Buffer.alloc(1));
    const withData = await client.takeOptionReply();
    client.sendOption(OPT_ABORT);
    const abort = await client.takeOptionReply();

    expect([list.type, withData.type, abort.type]).toEqual([ERR_TLS_REQD, ERR_INVALID, ACK]);
  });

  test('hangs up on who asks for the export in clear text', async () => {
    const { server, lines } = await serve(new MemoryExport(512), certificates());
    const client = await greet(server);

    client.sendOption(OPT_EXPORT_NAME);

    expect(await client.takeEnd()).toHaveLength(0);
    expect(lines).toEqual(['nbd: client 1: the client asked for an export without TLS']);
  });

  test('does not take for private what came in clear text behind STARTTLS', async () => {
    const { server, lines } = await serve(new MemoryExport(512), certificates());
    const client = await greet(server);
    const both = Buffer.alloc(32);
    both.write('IHAVEOPT');
    both.writeUInt32BE(OPT_STARTTLS, 8);
    both.write('IHAVEOPT', 16);
    both.writeUInt32BE(OPT_LIST, 24);

    client.send(both);

    expect(await client.takeEnd()).toHaveLength(0);
    expect(lines).toEqual(['nbd: client 1: the client went on in clear text after it had asked for TLS']);
  });

  test.each([
    ['without a certificate', () => ({})],
    ['with somebody else’s certificate', () => pem('other')],
  ])('refuses a client %s, with one line, and goes on', async (_, credentials) => {
    const { server, lines } = await serve(new MemoryExport(512), certificates());
    const client = await startedTls(server);

    // TLS 1.3 lets the client believe that it is done before the server has looked at its certificate.
    const secured = connect({ socket: client.socket, rejectUnauthorized: false, ...credentials() });
    secured.on('error', () => {});
    await new Promise((resolve) => secured.once('close', resolve));
    const info = await run('nbdinfo', ['--size', `nbds://localhost:${server.port}/?tls-certificates=${folder}`]);

    expect(info.stdout).toBe('512\n');
    expect(lines).toEqual([expect.stringMatching(/^nbd: client 1: .*do not come together over TLS/)]);
  });

  test.each([
    ['a wrong key', 'alice', 'ab'.repeat(30)],
    ['an unknown name', 'bob', KEY],
  ])('refuses a client with %s, with one line', async (_, identity, key) => {
    const { server, lines } = await serve(new MemoryExport(512), keys());
    const client = await startedTls(server);

    const pskCallback = () => ({ psk: Buffer.from(key, 'hex'), identity });
    const options = { pskCallback, ciphers: 'PSK:TLS_AES_128_GCM_SHA256', checkServerIdentity: () => undefined };
    const secured = connect({ socket: client.socket, ...options });
    secured.on('error', () => {});
    await new Promise((resolve) => secured.once('close', resolve));

    await until(() => lines.length > 0);
    expect(lines).toEqual([expect.stringMatching(/^nbd: client 1: .*do not come together over TLS/)]);
  });

  test('hangs up on bytes that are no TLS, and ends while a client dawdles in the middle of it', async () => {
    const { server, lines } = await serve(new MemoryExport(512), certificates());
    const [noise, silent] = [await startedTls(server), await startedTls(server)];

    noise.send(Buffer.alloc(4096, 0x55));
    await noise.takeEnd();
    await server.close();
    await silent.takeEnd();

    expect(lines).toContainEqual(expect.stringMatching(/^nbd: client 1: .*do not come together over TLS/));
  });
});

test('a server without TLS says that it has none, and goes on', async () => {
  const { server } = await serve(new MemoryExport(512));
  const client = await greet(server);

  client.sendOption(OPT_STARTTLS);
  const refused = await client.takeOptionReply();
  client.sendOption(OPT_EXPORT_NAME);

  expect(refused.type).toBe(ERR_POLICY);
  expect((await client.take(10)).readBigUInt64BE(0)).toBe(512n);
});

describe('a port', () => {
  test('of a loopback address is served in clear text', async () => {
    const { server } = await serve(new MemoryExport(512), { tcp: { host: '::1', port: 0 } });

    const { stdout } = await run('nbdinfo', ['--size', server.uri]);

    expect(stdout).toBe('512\n');
  });

  test.each(['0.0.0.0', '::', '192.0.2.1'])('of %s is not, unless that is asked for', async (host) => {
    const serving = serveNbd(new MemoryExport(512), { tcp: { host, port: 0 } });

    await expect(serving).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
  });

  test.each([
    ['a name', { host: 'example.org' }, 'ERR_INVALID_ARGUMENT'],
    ['an address of somebody else', { host: '192.0.2.1', insecure: true }, 'ERR_INVALID_ARGUMENT'],
    ['no port', { port: 65536 }, 'ERR_INVALID_ARGUMENT'],
  ])('of %s is refused', async (_, tcp, code) => {
    await expect(serveNbd(new MemoryExport(512), { tcp: { port: 0, ...tcp } })).rejects.toMatchObject({ code });
  });

  test('that somebody listens on is refused; everybody may be served where that is asked for', async () => {
    const { server } = await serve(new MemoryExport(512), { tcp: { host: '0.0.0.0', port: 0, insecure: true } });

    const second = serveNbd(new MemoryExport(512), {
      tcp: { host: '0.0.0.0', port: server.port ?? 0, insecure: true },
    });

    await expect(second).rejects.toMatchObject({ code: 'ERR_EXISTS' });
  });
});

describe('files for TLS that cannot be used', () => {
  test.each([
    ['a folder without certificates', async () => ({ certificates: await temporaryFolder() }), 'ERR_NOT_FOUND'],
    ['a key that is no number', async () => ({ keys: await fileOf('alice:xyz\n') }), 'ERR_INVALID_ARGUMENT'],
    ['no key at all', async () => ({ keys: await fileOf('\n# nobody\n') }), 'ERR_INVALID_ARGUMENT'],
    ['certificates that are none', async () => ({ certificates: await brokenCertificates() }), 'ERR_INVALID_ARGUMENT'],
  ])('are refused before there is a socket: %s', async (_, tls, code) => {
    await expect(serveNbd(new MemoryExport(512), { tcp: { port: 0 }, tls: await tls() })).rejects.toMatchObject({
      code,
    });
  });
});

/** In the middle of the handshake, where the client's next words are TLS. */
async function startedTls(server: NbdServer): Promise<NbdClient> {
  const client = await greet(server);
  client.sendOption(OPT_STARTTLS);
  expect((await client.takeOptionReply()).type).toBe(ACK);
  client.socket.removeAllListeners('data');
  return client;
}

function pem(name: string): { cert: string; key: string } {
  const read = (part: string): string => readFileSync(join(folder, `${name}-${part}.pem`), 'utf8');
  return { cert: read('cert'), key: read('key') };
}

async function fileOf(text: string): Promise<string> {
  const path = join(await temporaryFolder(), 'file');
  writeFileSync(path, text);
  return path;
}

async function brokenCertificates(): Promise<string> {
  const broken = join(await temporaryFolder(), 'broken');
  await mkdir(broken);
  for (const name of ['ca-cert', 'server-cert', 'server-key'])
    writeFileSync(join(broken, `${name}.pem`), 'no certificate');
  return broken;
}
