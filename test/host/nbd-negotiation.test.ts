import { describe, expect, test } from 'vitest';
import { encodeInfoRequest, MemoryExport, NbdClient, serve, uint32, until } from './nbd-client.js';

const ACK = 1;
const SERVER = 2;
const INFO = 3;
const ERR_UNSUP = 0x80000001;
const ERR_INVALID = 0x80000003;
const ERR_UNKNOWN = 0x80000006;
const ERR_TOO_BIG = 0x80000009;

const OPT_EXPORT_NAME = 1;
const OPT_ABORT = 2;
const OPT_LIST = 3;
const OPT_INFO = 6;
const OPT_GO = 7;
const OPT_STRUCTURED_REPLY = 8;

/** Has flags, flush, FUA, trim, zeroes, several connections, cache, fast zeroes. */
const WRITABLE_FLAGS = 0xd6d;
/** Has flags, read-only, flush, FUA, several connections, cache. */
const READ_ONLY_FLAGS = 0x50f;

async function greet(exported = new MemoryExport(4096)) {
  const { server, lines } = await serve(exported);
  const client = await NbdClient.connect(server);
  const greeting = await client.take(18);
  return { server, lines, client, greeting };
}

async function greetFixed(exported = new MemoryExport(4096)) {
  const parts = await greet(exported);
  parts.client.send(uint32(3));
  return parts;
}

describe('the greeting', () => {
  test('offers fixed newstyle and no zeroes', async () => {
    const { greeting } = await greet();

    expect(greeting.toString('latin1', 0, 16)).toBe('NBDMAGICIHAVEOPT');
    expect(greeting.readUInt16BE(16)).toBe(3);
  });

  test('unknown client flags close the connection with one line', async () => {
    const { client, lines } = await greet();

    client.send(uint32(0x83));

    expect(await client.takeEnd()).toHaveLength(0);
    expect(lines).toEqual(['nbd: client 1: unknown client flags 0x83']);
  });

  test('a client that only looks whether somebody listens leaves no line', async () => {
    const { client, lines, server } = await greet();

    client.socket.end();
    await client.takeEnd();
    await server.close();

    expect(lines).toEqual([]);
  });
});

describe('EXPORT_NAME', () => {
  test('the empty name enters the export, without zeroes when the client knows how', async () => {
    const { client } = await greetFixed();

    client.sendOption(OPT_EXPORT_NAME);

    const answer = await client.take(10);
    expect(answer.readBigUInt64BE(0)).toBe(4096n);
    expect(answer.readUInt16BE(8)).toBe(WRITABLE_FLAGS);
    expect((await client.ask({ command: 0, length: 4096 })).error).toBe(0);
  });

  test('124 zeroes follow for a client that did not ask to leave them out', async () => {
    const { client } = await greet();
    client.send(uint32(1));

    client.sendOption(OPT_EXPORT_NAME, Buffer.from('disk'));

    const answer = await client.take(134);
    expect(answer.subarray(10).every((byte) => byte === 0)).toBe(true);
    expect((await client.ask({ command: 0, length: 4096 })).error).toBe(0);
  });

  test('a client without fixed newstyle may use it, and nothing else', async () => {
    const { client, server, lines } = await greet();
    client.send(uint32(0));
    client.sendOption(OPT_EXPORT_NAME);
    await client.take(134);

    const other = await NbdClient.connect(server);
    await other.take(18);
    other.send(uint32(0));
    other.sendOption(OPT_LIST);

    expect(await other.takeEnd()).toHaveLength(0);
    expect(lines).toEqual(['nbd: client 2: option 3 from a client without fixed newstyle']);
  });

  test('an unknown name closes the connection, because this option has no way to say no', async () => {
    const { client, lines } = await greetFixed();

    client.sendOption(OPT_EXPORT_NAME, Buffer.from('other'));

    expect(await client.takeEnd()).toHaveLength(0);
    expect(lines).toEqual(['nbd: client 1: the client asked for an export that does not exist']);
  });

  test('a read-only export says so', async () => {
    const { client } = await greetFixed(new MemoryExport(512, { readOnly: true }));

    client.sendOption(OPT_EXPORT_NAME);

    expect((await client.take(10)).readUInt16BE(8)).toBe(READ_ONLY_FLAGS);
  });
});

describe('GO and INFO', () => {
  test('GO tells size, flags and block sizes, then the transmission begins', async () => {
    const { client } = await greetFixed();

    client.sendOption(OPT_GO, encodeInfoRequest('', [3]));

    const exportInfo = await client.takeOptionReply();
    expect(exportInfo).toMatchObject({ option: OPT_GO, type: INFO });
    expect(exportInfo.data.toString('hex')).toBe('0000' + '0000000000001000' + '0d6d');
    const blockSizes = await client.takeOptionReply();
    expect(blockSizes).toMatchObject({ option: OPT_GO, type: INFO });
    expect(blockSizes.data.toString('hex')).toBe('0003' + '00000001' + '00010000' + '02000000');
    expect(await client.takeOptionReply()).toMatchObject({ option: OPT_GO, type: ACK });
    expect((await client.ask({ command: 0, length: 512 })).error).toBe(0);
  });

  test('INFO tells the name when asked, and negotiation goes on', async () => {
    const { client } = await greetFixed();

    client.sendOption(OPT_INFO, encodeInfoRequest('', [1, 77]));

    await client.takeOptionReply();
    await client.takeOptionReply();
    const name = await client.takeOptionReply();
    expect(name.data.toString('latin1')).toBe('\0\x01disk');
    expect((await client.takeOptionReply()).type).toBe(ACK);
    client.sendOption(OPT_LIST);
    expect((await client.takeOptionReply()).type).toBe(SERVER);
  });

  test('structured replies that were agreed on first bring the "do not fragment" flag', async () => {
    const { client } = await greetFixed();
    client.sendOption(OPT_STRUCTURED_REPLY);
    expect((await client.takeOptionReply()).type).toBe(ACK);

    client.sendOption(OPT_GO, encodeInfoRequest('disk'));

    expect((await client.takeOptionReply()).data.readUInt16BE(10)).toBe(WRITABLE_FLAGS | 0x80);
  });

  test('an unknown name is refused, and the client may try another', async () => {
    const { client } = await greetFixed();

    client.sendOption(OPT_GO, encodeInfoRequest('other'));
    const refusal = await client.takeOptionReply();
    client.sendOption(OPT_GO, encodeInfoRequest('disk'));

    expect(refusal.type).toBe(ERR_UNKNOWN);
    expect((await client.takeOptionReply()).type).toBe(INFO);
  });

  test.each([
    ['no data', Buffer.alloc(0)],
    ['a name longer than the data', Buffer.concat([uint32(0xffffffff), Buffer.alloc(2)])],
    ['a name over the place of the list', Buffer.concat([uint32(2), Buffer.alloc(2)])],
    ['more items than the data has', Buffer.concat([uint32(0), Buffer.from([0, 2, 0, 3])])],
    ['bytes after the list', Buffer.concat([uint32(0), Buffer.from([0, 0, 1])])],
    ['a name of more than 4096 bytes', encodeInfoRequest('x'.repeat(4097))],
  ])('%s is refused as invalid, and negotiation goes on', async (_, data) => {
    const { client, lines } = await greetFixed();

    client.sendOption(OPT_GO, data);

    expect((await client.takeOptionReply()).type).toBe(ERR_INVALID);
    client.sendOption(OPT_LIST);
    expect((await client.takeOptionReply()).type).toBe(SERVER);
    expect(lines).toEqual([]);
  });
});

describe('the other options', () => {
  test('LIST names the one export', async () => {
    const { client } = await greetFixed();

    client.sendOption(OPT_LIST);

    const entry = await client.takeOptionReply();
    expect(entry).toMatchObject({ option: OPT_LIST, type: SERVER });
    expect(entry.data.toString('latin1')).toBe('\0\0\0\x04disk');
    expect(await client.takeOptionReply()).toMatchObject({ option: OPT_LIST, type: ACK });
  });

  test.each([OPT_LIST, OPT_STRUCTURED_REPLY])('option %i with data is refused as invalid', async (option) => {
    const { client } = await greetFixed();

    client.sendOption(option, Buffer.from('x'));

    expect(await client.takeOptionReply()).toMatchObject({ option, type: ERR_INVALID });
  });

  test('ABORT is acknowledged, then the server hangs up', async () => {
    const { client, lines } = await greetFixed();

    client.sendOption(OPT_ABORT, Buffer.from('with data, which is ignored'));

    expect((await client.takeOptionReply()).type).toBe(ACK);
    expect(await client.takeEnd()).toHaveLength(0);
    expect(lines).toEqual([]);
  });

  test.each([4, 12, 0xffffffff])('the unknown option %i is answered so, its data skipped', async (option) => {
    const { client } = await greetFixed();

    client.sendOption(option, Buffer.alloc(1000, 7));

    expect(await client.takeOptionReply()).toMatchObject({ option, type: ERR_UNSUP });
    client.sendOption(OPT_LIST);
    expect((await client.takeOptionReply()).type).toBe(SERVER);
  });

  test('an option with megabytes of data is refused, and negotiation goes on', async () => {
    const { client } = await greetFixed();

    client.sendOption(OPT_GO, Buffer.alloc(5_000_000));

    expect((await client.takeOptionReply()).type).toBe(ERR_TOO_BIG);
    client.sendOption(OPT_LIST);
    expect((await client.takeOptionReply()).type).toBe(SERVER);
  });
});

describe('a client that breaks the handshake', () => {
  test('an option without its magic number closes the connection with one line; others go on', async () => {
    const { client, server, lines } = await greetFixed();
    const other = await NbdClient.enter(server);

    client.send(Buffer.alloc(16, 0x41));

    expect(await client.takeEnd()).toHaveLength(0);
    expect(lines).toEqual(['nbd: client 1: what should be an option does not begin with its magic number']);
    expect((await other.ask({ command: 0, length: 512 })).error).toBe(0);
  });

  test.each([
    ['its flags', Buffer.alloc(2)],
    ['an option', Buffer.from('\0\0\0\x03IHAVEOPT', 'latin1')],
    ['an option', Buffer.from('\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x63short', 'latin1')],
  ])('hanging up in the middle of %s leaves one line', async (what, bytes) => {
    const { client, lines } = await greet();

    client.send(bytes);
    client.socket.end();
    await client.takeEnd();

    expect(lines).toEqual([`nbd: client 1: the client hung up in the middle of ${what}`]);
  });

  test('who chooses no export in time is hung up on', async () => {
    const { server, lines } = await serve(new MemoryExport(4096), { patience: { handshake: 30 } });
    const client = await NbdClient.connect(server);
    await client.take(18);

    await client.takeEnd();

    await until(() => lines.length > 0);
    expect(lines).toEqual(['nbd: client 1: the client did not choose an export in time']);
  });
});
