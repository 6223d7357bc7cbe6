import { describe, expect, test } from 'vitest';
import { CorralError, type CorralErrorCode } from '../../host/errors.js';
import { encodeRequest, Gate, MemoryExport, NbdClient, serve, until } from './nbd-client.js';

const READ = 0;
const WRITE = 1;
const DISC = 2;
const FLUSH = 3;
const TRIM = 4;
const WRITE_ZEROES = 6;
const FUA = 1;
const NO_HOLE = 2;
const DF = 4;

const EPERM = 1;
const EIO = 5;
const EINVAL = 22;
const ENOSPC = 28;
const EOVERFLOW = 75;
const ESHUTDOWN = 108;

const MIB = 1024 * 1024;

async function enter(exported = new MemoryExport(MIB), options: { structured?: boolean } = {}) {
  const { server, lines } = await serve(exported);
  const client = await NbdClient.enter(server, options);
  return { exported, server, lines, client };
}

/** An export whose reads and writes wait until the test lets them go on. */
class GatedExport extends MemoryExport {
  readonly started: number[] = [];
  readonly gates = new Map<number, Gate>();

  async #pass(offset: number): Promise<void> {
    this.started.push(offset);
    await this.gates.get(offset)?.opened;
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    await this.#pass(offset);
    await super.read(offset, target);
  }

  override async write(offset: number, source: Uint8Array, options: { durable: boolean }): Promise<void> {
    await this.#pass(offset);
    await super.write(offset, source, options);
  }
}

/** An export all of whose operations fail with a code. */
class FailingExport extends MemoryExport {
  readonly code: string;

  constructor(code: string) {
    super(4096);
    this.code = code;
  }

  #fail(): Promise<never> {
    const reason = 'the disk is\non fire';
    return Promise.reject(
      this.code.startsWith('ERR_')
        ? new CorralError(this.code as CorralErrorCode, { reason })
        : Object.assign(new Error(reason), { code: this.code }),
    );
  }

  override read(): Promise<void> {
    return this.#fail();
  }

  override write(): Promise<void> {
    return this.#fail();
  }

  override flush(): Promise<void> {
    return this.#fail();
  }
}

describe.each([{ structured: false }, { structured: true }])('requests with structured: $structured', (options) => {
  test('what was written is read back, at any alignment', async () => {
    const { client } = await enter(undefined, options);
    const data = Buffer.from('a few bytes that begin and end anywhere');

    const written = await client.ask({ command: WRITE, cookie: 11n, offset: 777, data });
    const read = await client.ask({ command: READ, cookie: 0xfedcba9876543210n, offset: 770, length: 53 });

    expect(written).toMatchObject({ cookie: 11n, error: 0 });
    expect(read).toMatchObject({ cookie: 0xfedcba9876543210n, error: 0, structured: options.structured });
    const received = options.structured ? read.data.subarray(8) : read.data;
    expect(received.toString('latin1')).toBe(`${'\0'.repeat(7)}${data.toString()}${'\0'.repeat(7)}`);
  });

  test('the longest request is served, one byte more is refused and skipped', async () => {
    const { client, exported } = await enter(new MemoryExport(40 * MIB), options);
    const data = Buffer.alloc(32 * MIB + 1, 0x5a);

    const longest = await client.ask({ command: WRITE, data: data.subarray(1) });
    const tooLong = await client.ask({ command: WRITE, offset: 4 * MIB, data });
    const read = await client.ask({ command: READ, length: 32 * MIB });
    const readTooLong = await client.ask({ command: READ, length: 32 * MIB + 1 });

    expect(longest.error).toBe(0);
    expect(tooLong.error).toBe(EINVAL);
    expect(exported.bytes[32 * MIB]).toBe(0);
    expect(read.error).toBe(0);
    expect(read.data.subarray(-32 * MIB).equals(data.subarray(1))).toBe(true);
    expect(readTooLong.error).toBe(options.structured ? EOVERFLOW : EINVAL);
    expect((await client.ask({ command: READ, length: 512 })).error).toBe(0);
  });

  test.each([
    ['ends one byte behind the end', MIB - 511, 512],
    ['begins behind the end', MIB + 512, 512],
    ['begins at the last offset there is', 0xffffffffffffffffn, 512],
    ['would wrap around', 0xfffffffffffffe00n, 512],
    ['is empty and behind the end', MIB + 1, 0],
  ])('a request that %s is refused', async (_, offset, length) => {
    const { client, exported } = await enter(undefined, options);

    const read = await client.ask({ command: READ, offset, length });
    const write = await client.ask({ command: WRITE, offset, data: Buffer.alloc(length, 1) });

    expect(read.error).toBe(EINVAL);
    expect(write.error).toBe(ENOSPC);
    expect(exported.bytes.every((byte) => byte === 0)).toBe(true);
    expect(await client.ask({ command: READ, offset: MIB - 512, length: 512 })).toMatchObject({ error: 0 });
  });

  test('empty requests succeed and do nothing', async () => {
    const { client, exported } = await enter(undefined, options);

    const read = await client.ask({ command: READ, offset: MIB });
    const write = await client.ask({ command: WRITE, offset: MIB, flags: FUA });

    expect(read).toMatchObject({ error: 0, structured: options.structured });
    expect(read.data).toHaveLength(0);
    expect(write.error).toBe(0);
    expect(exported.durableWrites).toEqual([]);
  });

  test('a write with FUA is durable, one without is not; a flush flushes', async () => {
    const { client, exported } = await enter(undefined, options);
    const data = Buffer.alloc(512);

    await client.ask({ command: WRITE, data });
    await client.ask({ command: WRITE, data, flags: FUA });
    const flushed = await client.ask({ command: FLUSH });

    expect(exported.durableWrites).toEqual([false, true]);
    expect(flushed.error).toBe(0);
    expect(exported.flushCount).toBe(1);
  });

  test('write zeroes makes zeros, durably when asked, and frees their space unless told not to', async () => {
    const exported = new MemoryExport(70 * MIB);
    exported.bytes.fill(1);
    const { client } = await enter(exported, options);

    const short = await client.ask({ command: WRITE_ZEROES, offset: 1, length: 511, flags: NO_HOLE });
    const long = await client.ask({ command: WRITE_ZEROES, offset: MIB + 1, length: 65 * MIB, flags: FUA });

    expect([short.error, long.error]).toEqual([0, 0]);
    expect(exported.durableWrites).toEqual([false, true]);
    expect(exported.unmappedZeroes).toEqual([false, true]);
    const expected = Buffer.alloc(70 * MIB, 1)
      .fill(0, 1, 512)
      .fill(0, MIB + 1, 66 * MIB + 1);
    expect(expected.equals(exported.bytes)).toBe(true);
  });

  test('trim discards, durably when asked, also more than a write may have', async () => {
    const exported = new MemoryExport(70 * MIB);
    const { client } = await enter(exported, options);

    const short = await client.ask({ command: TRIM, offset: 4096, length: 8192 });
    const long = await client.ask({ command: TRIM, offset: MIB, length: 65 * MIB, flags: FUA });

    expect([short.error, long.error]).toEqual([0, 0]);
    expect(exported.discards).toEqual([
      [4096, 8192],
      [MIB, 65 * MIB],
    ]);
    expect(exported.flushCount).toBe(1);
  });

  test('write zeroes beyond the end changes nothing', async () => {
    const { client, exported } = await enter(undefined, options);
    exported.bytes.fill(1);

    const reply = await client.ask({ command: WRITE_ZEROES, offset: 512, length: 0xffffffff });

    expect(reply.error).toBe(ENOSPC);
    expect(exported.bytes.every((byte) => byte === 1)).toBe(true);
  });

  test('FUA on a read or a flush is ignored', async () => {
    const { client } = await enter(undefined, options);

    expect((await client.ask({ command: READ, length: 512, flags: FUA })).error).toBe(0);
    expect((await client.ask({ command: FLUSH, flags: FUA })).error).toBe(0);
  });

  test.each([
    ['trim without holes', { command: TRIM, length: 512, flags: NO_HOLE }],
    ['a trim in haste', { command: TRIM, length: 512, flags: 16 }],
    ['a read without holes', { command: READ, length: 512, flags: NO_HOLE }],
    ['a cache beyond the end', { command: 5, offset: MIB, length: 512 }],
    ['block status without a context', { command: 7, length: 512 }],
    ['a write that announces its data', { command: WRITE, data: Buffer.alloc(512), flags: 32 }],
    ['a command from the future', { command: 0xffff, length: 512 }],
    ['an unknown flag', { command: READ, length: 512, flags: 0x8000 }],
    ['a write that must not be fragmented', { command: WRITE, data: Buffer.alloc(512), flags: DF }],
    ['a flush of a range', { command: FLUSH, offset: 512 }],
  ])('%s is refused as invalid, and the connection goes on', async (_, request) => {
    const { client, lines } = await enter(undefined, options);

    const reply = await client.ask(request);

    expect(reply.error).toBe(EINVAL);
    expect((await client.ask({ command: READ, length: 512 })).error).toBe(0);
    expect(lines).toEqual([]);
  });

  test.each([
    ['a write', { command: WRITE, data: Buffer.alloc(512, 1) }],
    ['a write behind the end', { command: WRITE, offset: MIB, data: Buffer.alloc(512, 1) }],
    ['a trim', { command: TRIM, length: 512 }],
    ['write zeroes', { command: WRITE_ZEROES, length: 512 }],
  ])('%s on a read-only export is not permitted', async (_, request) => {
    const { client, exported } = await enter(new MemoryExport(MIB, { readOnly: true }), options);

    const reply = await client.ask(request);

    expect(reply.error).toBe(EPERM);
    expect(exported.bytes.every((byte) => byte === 0)).toBe(true);
    expect((await client.ask({ command: READ, length: 512 })).error).toBe(0);
    expect((await client.ask({ command: FLUSH })).error).toBe(0);
  });

  test.each([
    ['ERR_READ_ONLY', EPERM],
    ['ERR_PERMISSION', EPERM],
    ['ERR_NO_SPACE', ENOSPC],
    ['ERR_OUT_OF_RANGE', EINVAL],
    ['ERR_INVALID_ARGUMENT', EINVAL],
    ['ERR_UNSUPPORTED', EINVAL],
    ['ERR_CANCELLED', ESHUTDOWN],
    ['ERR_IMAGE_CORRUPT', EIO],
    ['ERR_IO', EIO],
    ['ERR_BROKEN', EIO],
    ['ENOSPC', ENOSPC],
    ['something new', EIO],
  ])('a failure with the code %s is error %i for the client', async (code, value) => {
    const { client, lines } = await enter(new FailingExport(code), options);

    const replies = [
      await client.ask({ command: READ, length: 512 }),
      await client.ask({ command: WRITE, data: Buffer.alloc(512) }),
      await client.ask({ command: FLUSH }),
    ];

    expect(replies.map((reply) => reply.error)).toEqual([value, value, value]);
    expect(lines).toEqual(['nbd: client 1: a request failed: the disk is on fire']);
  });
});

describe('structured replies', () => {
  test('a read is one chunk with its offset, whether it may be fragmented or not', async () => {
    const { client, exported } = await enter(undefined, { structured: true });
    exported.bytes.fill(7, 4096, 8192);

    const reply = await client.ask({ command: READ, offset: 4096, length: 4096, flags: DF });

    expect(reply.type).toBe(1);
    expect(reply.data.readBigUInt64BE(0)).toBe(4096n);
    expect(reply.data.subarray(8).equals(Buffer.alloc(4096, 7))).toBe(true);
  });

  test('an error says why in words', async () => {
    const { client } = await enter(new MemoryExport(4096), { structured: true });

    const reply = await client.ask({ command: READ, offset: 4096, length: 1 });

    expect(reply.data.readUInt16BE(4)).toBe(reply.data.length - 6);
    expect(reply.data.toString('utf8', 6)).toBe("the range reaches beyond the export's 4096 bytes");
  });

  test('"do not fragment" is refused where structured replies were not agreed on', async () => {
    const { client } = await enter();

    expect((await client.ask({ command: READ, length: 512, flags: DF })).error).toBe(EINVAL);
  });
});

describe('many requests at a time', () => {
  test('a slow request does not hold up those behind it', async () => {
    const exported = new GatedExport(MIB);
    exported.gates.set(0, new Gate());
    const { client } = await enter(exported);

    client.sendRequest({ command: WRITE, cookie: 1n, offset: 0, data: Buffer.alloc(512, 1) });
    client.sendRequest({ command: WRITE, cookie: 2n, offset: 512, data: Buffer.alloc(512, 2) });
    const first = await client.takeReply();
    exported.gates.get(0)?.open();
    const second = await client.takeReply();

    expect([first.cookie, second.cookie]).toEqual([2n, 1n]);
  });

  test('a thousand requests sent in one piece are all answered', async () => {
    const { client, exported } = await enter(undefined, { structured: true });
    exported.bytes.forEach((_, index) => {
      exported.bytes[index] = index >> 9;
    });
    const requests = Array.from({ length: 1000 }, (_, index) =>
      encodeRequest({ command: READ, cookie: BigInt(index), offset: index * 512, length: 512 }),
    );

    client.send(Buffer.concat(requests));

    const seen = new Set<bigint>();
    for (let count = 0; count < 1000; count += 1) {
      const reply = await client.takeReply();
      seen.add(reply.cookie);
      expect(reply.data[8]).toBe(Number(reply.cookie) & 0xff);
    }
    expect(seen.size).toBe(1000);
  });

  test('requests that arrive byte by byte are put together', async () => {
    const { client, exported } = await enter();
    client.socket.setNoDelay(true);

    for (const byte of encodeRequest({ command: WRITE, offset: 3, data: Buffer.from('slow') })) {
      client.send(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }

    expect((await client.takeReply()).error).toBe(0);
    expect(Buffer.from(exported.bytes.subarray(3, 7)).toString()).toBe('slow');
  });

  test('at most 32 MiB of a client are in work; the rest waits in its socket', async () => {
    const exported = new GatedExport(64 * MIB);
    const gate = new Gate();
    for (let offset = 0; offset < 64 * MIB; offset += MIB) {
      exported.gates.set(offset, gate);
    }
    const { client } = await enter(exported);

    for (let offset = 0; offset < 64 * MIB; offset += MIB) {
      client.sendRequest({ command: WRITE, offset, data: Buffer.alloc(MIB) });
    }
    await until(() => exported.started.length >= 32);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const startedBefore = exported.started.length;
    const unsent = client.socket.writableLength;
    gate.open();
    for (let count = 0; count < 64; count += 1) {
      expect((await client.takeReply()).error).toBe(0);
    }

    expect(startedBefore).toBe(32);
    expect(unsent).toBeGreaterThan(30 * MIB);
  });

  test('a client that takes no replies is not read for ever', async () => {
    const exported = new GatedExport(MIB);
    const { client } = await enter(exported);
    client.socket.pause();

    for (let count = 0; count < 1000; count += 1) {
      client.sendRequest({ command: READ, length: MIB });
    }
    await until(() => exported.started.length >= 32);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const startedBefore = exported.started.length;
    client.socket.resume();
    for (let count = 0; count < 1000; count += 1) {
      await client.takeReply(MIB);
    }

    // 32 that wait for the client, and what fits into the two socket buffers.
    expect(startedBefore).toBeLessThan(40);
    expect(exported.started).toHaveLength(1000);
  }, 30_000);
});

describe('the end of a connection', () => {
  test('what is in flight when the client disconnects is finished and answered', async () => {
    const exported = new GatedExport(MIB);
    exported.gates.set(0, new Gate());
    const { client, lines } = await enter(exported);

    client.sendRequest({ command: WRITE, cookie: 5n, data: Buffer.from('late') });
    client.sendRequest({ command: DISC });
    await until(() => exported.started.length === 1);
    exported.gates.get(0)?.open();

    expect(await client.takeReply()).toMatchObject({ cookie: 5n, error: 0 });
    expect(await client.takeEnd()).toHaveLength(0);
    expect(Buffer.from(exported.bytes.subarray(0, 4)).toString()).toBe('late');
    expect(lines).toEqual([]);
  });

  test('a client may shut its side down and still gets its replies', async () => {
    const { client } = await enter();

    client.send(Buffer.concat([1n, 2n, 3n].map((cookie) => encodeRequest({ command: READ, cookie, length: 512 }))));
    client.socket.end();

    for (let count = 0; count < 3; count += 1) {
      expect((await client.takeReply(512)).error).toBe(0);
    }
    expect(await client.takeEnd()).toHaveLength(0);
  });

  test('a write that breaks off is not begun, and leaves one line', async () => {
    const { client, exported, lines } = await enter(new GatedExport(MIB));

    client.send(encodeRequest({ command: WRITE, data: Buffer.alloc(512, 1) }).subarray(0, 300));
    client.socket.end();
    await client.takeEnd();

    expect((exported as GatedExport).started).toEqual([]);
    expect(lines).toEqual(['nbd: client 1: the client hung up in the middle of a request']);
  });

  test('a refused write that breaks off leaves one line too', async () => {
    const { client, lines } = await enter(new MemoryExport(512, { readOnly: true }));

    client.send(encodeRequest({ command: WRITE, data: Buffer.alloc(512, 1) }).subarray(0, 300));
    client.socket.end();
    await client.takeEnd();

    expect(lines).toEqual(['nbd: client 1: the client hung up in the middle of a request']);
  });

  test('bytes that are no request close that connection with one line; others go on', async () => {
    const { client, server, lines } = await enter();
    const other = await NbdClient.enter(server);

    client.send(Buffer.alloc(100_000, 0x25));
    await client.takeEnd();

    expect(lines).toEqual(['nbd: client 1: what should be a request does not begin with its magic number']);
    expect((await other.ask({ command: READ, length: 512 })).error).toBe(0);
  });

  test('requests in front of malformed bytes are still answered', async () => {
    const { client } = await enter();

    client.send(Buffer.concat([encodeRequest({ command: READ, cookie: 9n, length: 512 }), Buffer.alloc(28)]));

    expect(await client.takeReply(512)).toMatchObject({ cookie: 9n, error: 0 });
    expect(await client.takeEnd()).toHaveLength(0);
  });

  test('a client that vanishes with requests in flight harms nobody', async () => {
    const exported = new GatedExport(MIB);
    exported.gates.set(0, new Gate());
    const { client, server, lines } = await enter(exported);
    const other = await NbdClient.enter(server);

    client.sendRequest({ command: WRITE, data: Buffer.from('kept') });
    await until(() => exported.started.length === 1);
    client.socket.destroy();
    exported.gates.get(0)?.open();
    const read = await other.ask({ command: READ, offset: 4096, length: 4 });
    await server.close();

    expect(read.error).toBe(0);
    expect(Buffer.from(exported.bytes.subarray(0, 4)).toString()).toBe('kept');
    expect(lines.length).toBeLessThanOrEqual(1);
  });
});
