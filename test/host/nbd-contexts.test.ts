import { describe, expect, test } from 'vitest';
import type { MetaContext, StatusExtent } from '../../host/nbd/export.js';
import { type EnterOptions, encodeContextRequest, MemoryExport, NbdClient, serve, uint32 } from './nbd-client.js';

const READ = 0;
const WRITE = 1;
const FLUSH = 3;
const TRIM = 4;
const CACHE = 5;
const WRITE_ZEROES = 6;
const BLOCK_STATUS = 7;
const REQ_ONE = 8;
const FAST_ZERO = 16;
const PAYLOAD_LEN = 32;

const ACK = 1;
const META_CONTEXT = 4;
const ERR_INVALID = 0x80000003;
const ERR_UNKNOWN = 0x80000006;
const ERR_EXT_HEADER_REQD = 0x8000000a;

const OPT_STRUCTURED_REPLY = 8;
const OPT_LIST_META_CONTEXT = 9;
const OPT_SET_META_CONTEXT = 10;
const OPT_EXTENDED_HEADERS = 11;

const EINVAL = 22;
const ENOTSUP = 95;

const MIB = 1024 * 1024;

/** Stretches of so many bytes, whose status is 0 and 1 by turns. */
function striped(name: string, stripe: number): MetaContext {
  return {
    name,
    async *extents(offset, length): AsyncGenerator<StatusExtent> {
      for (let at = offset; at < offset + length; ) {
        const end = Math.min(offset + length, (Math.floor(at / stripe) + 1) * stripe);
        yield { length: end - at, status: Math.floor(at / stripe) % 2 };
        at = end;
      }
    },
  };
}

const CONTEXTS = [striped('base:allocation', 4096), striped('qemu:dirty-bitmap:a', 65536), striped('other:x', 512)];

function exportWith(contexts: readonly MetaContext[], size = MIB): MemoryExport {
  const exported = new MemoryExport(size);
  exported.contexts = contexts;
  return exported;
}

async function negotiating(exported = exportWith(CONTEXTS)): Promise<NbdClient> {
  const { server } = await serve(exported);
  const client = await NbdClient.connect(server);
  await client.take(18);
  client.send(uint32(3));
  return client;
}

async function enter(options: EnterOptions, exported = exportWith(CONTEXTS)) {
  const { server, lines } = await serve(exported);
  const client = await NbdClient.enter(server, { structured: true, ...options });
  return { client, exported, lines };
}

/** The names that an option is answered with. */
async function takeContexts(client: NbdClient): Promise<{ names: string[]; ids: number[]; end: number }> {
  const [names, ids]: [string[], number[]] = [[], []];
  while (true) {
    const { type, data } = await client.takeOptionReply();
    if (type !== META_CONTEXT) return { names, ids, end: type };
    ids.push(data.readUInt32BE(0));
    names.push(data.toString('utf8', 4));
  }
}

/** What a chunk says: pairs of length and status. */
function extentsOf(data: Buffer): [number, number][] {
  return Array.from({ length: (data.length - 4) / 8 }, (_, index) => [
    data.readUInt32BE(4 + index * 8),
    data.readUInt32BE(8 + index * 8),
  ]);
}

describe('metadata contexts', () => {
  test.each([
    ['no query lists all', [], ['base:allocation', 'qemu:dirty-bitmap:a', 'other:x']],
    ['a namespace lists what is in it', ['qemu:'], ['qemu:dirty-bitmap:a']],
    ['a leaf that ends in a colon too', ['qemu:dirty-bitmap:', 'base:'], ['base:allocation', 'qemu:dirty-bitmap:a']],
    ['a name lists itself', ['base:allocation'], ['base:allocation']],
    ['what is unknown lists nothing', ['base:alloc', 'nothing:'], []],
  ])('%s', async (_, queries, expected) => {
    const client = await negotiating();
    client.sendOption(OPT_STRUCTURED_REPLY);
    await client.takeOptionReply();

    client.sendOption(OPT_LIST_META_CONTEXT, encodeContextRequest('', queries));

    expect(await takeContexts(client)).toMatchObject({ names: expected, end: ACK });
  });

  test('only what is named is chosen, each with a number of its own', async () => {
    const client = await negotiating();
    client.sendOption(OPT_STRUCTURED_REPLY);
    await client.takeOptionReply();

    const queries = ['other:x', 'base:allocation', 'base:allocation', 'qemu:', 'qemu:dirty-bitmap:b'];
    client.sendOption(OPT_SET_META_CONTEXT, encodeContextRequest('disk', queries));

    const { names, ids, end } = await takeContexts(client);
    expect({ names, end }).toEqual({ names: ['base:allocation', 'other:x'], end: ACK });
    expect(new Set(ids).size).toBe(2);
  });

  test.each([OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT])(
    'option %i is refused before structured replies, for a missing export, and when its lengths contradict',
    async (option) => {
      const client = await negotiating();
      const types: number[] = [];
      const ask = async (data: Uint8Array): Promise<void> => {
        client.sendOption(option, data);
        types.push((await client.takeOptionReply()).type);
      };

      await ask(encodeContextRequest('', []));
      client.sendOption(OPT_STRUCTURED_REPLY);
      await client.takeOptionReply();
      await ask(encodeContextRequest('missing', []));
      await ask(Buffer.alloc(3));
      await ask(Buffer.concat([uint32(0), uint32(0xffffffff)]));
      await ask(Buffer.concat([encodeContextRequest('', ['base:']), Buffer.alloc(1)]));
      await ask(Buffer.concat([uint32(0), uint32(1), uint32(4097), Buffer.alloc(4097)]));

      expect(types).toEqual([ERR_INVALID, ERR_UNKNOWN, ERR_INVALID, ERR_INVALID, ERR_INVALID, ERR_INVALID]);
    },
  );

  test('what was chosen for one export is not chosen for another', async () => {
    const other = new MemoryExport(512);
    Object.assign(other, { name: 'other', contexts: CONTEXTS });
    const { server } = await serve([exportWith(CONTEXTS), other]);
    const client = await NbdClient.connect(server);
    await client.take(18);
    client.send(uint32(3));
    client.sendOption(OPT_STRUCTURED_REPLY);
    await client.takeOptionReply();
    client.sendOption(OPT_SET_META_CONTEXT, encodeContextRequest('disk', ['base:allocation']));
    await takeContexts(client);

    client.sendOption(1, Buffer.from('other'));
    await client.take(10);

    expect((await client.ask({ command: BLOCK_STATUS, length: 512 })).error).toBe(EINVAL);
  });
});

describe('block status', () => {
  test('has a chunk for each context, and covers the range', async () => {
    const { client } = await enter({ contexts: ['base:allocation', 'qemu:dirty-bitmap:a'] });

    client.sendRequest({ command: BLOCK_STATUS, cookie: 9n, offset: 2048, length: 8192 });
    const chunks = await client.takeChunks();

    expect(chunks.map(({ type, cookie }) => ({ type, cookie }))).toEqual([
      { type: 5, cookie: 9n },
      { type: 5, cookie: 9n },
    ]);
    expect(chunks.map(({ data }) => extentsOf(data))).toEqual([
      [
        [2048, 0],
        [4096, 1],
        [2048, 0],
      ],
      [[8192, 0]],
    ]);
  });

  test('has one stretch where one is asked for', async () => {
    const { client } = await enter({ contexts: ['base:allocation'] });

    client.sendRequest({ command: BLOCK_STATUS, offset: 4096, length: 65536, flags: REQ_ONE });

    expect(extentsOf((await client.takeReply()).data)).toEqual([[4096, 1]]);
  });

  test('is cut where a reply would become too long', async () => {
    const { client } = await enter({ contexts: ['other:x'] }, exportWith(CONTEXTS, 8 * MIB));

    client.sendRequest({ command: BLOCK_STATUS, length: 8 * MIB });
    const extents = extentsOf((await client.takeReply()).data);

    expect(extents).toHaveLength(4096);
    expect(extents.every(([length], index) => length === 512 && extents[index]?.[1] === index % 2)).toBe(true);
  });

  test('joins neighbours that are alike', async () => {
    const quiet = striped('base:allocation', 512);
    const contexts = [
      {
        ...quiet,
        async *extents(offset: number, length: number) {
          for await (const extent of quiet.extents(offset, length)) yield { ...extent, status: 3 };
        },
      },
    ];
    const { client } = await enter({ contexts: ['base:allocation'] }, exportWith(contexts, 8 * MIB));

    client.sendRequest({ command: BLOCK_STATUS, length: 8 * MIB, flags: REQ_ONE });

    expect(extentsOf((await client.takeReply()).data)).toEqual([[8 * MIB, 3]]);
  });

  test('is refused for no bytes and beyond the end, and a context that fails says why', async () => {
    const failing: MetaContext = {
      name: 'base:allocation',
      // biome-ignore lint/correctness/useYield: it fails before there is anything
      async *extents() {
        throw new Error('the L2 table is damaged');
      },
    };
    const { client, lines } = await enter({ contexts: ['base:allocation'] }, exportWith([failing]));

    const nothing = await client.ask({ command: BLOCK_STATUS, length: 0 });
    const beyond = await client.ask({ command: BLOCK_STATUS, offset: MIB - 512, length: 1024 });
    const failed = await client.ask({ command: BLOCK_STATUS, length: 512 });

    expect([nothing.error, beyond.error, failed.error]).toEqual([EINVAL, EINVAL, 5]);
    expect(failed.data.toString('utf8', 6)).toBe('the L2 table is damaged');
    expect(lines).toEqual(['nbd: client 1: a request failed: the L2 table is damaged']);
  });
});

describe('cache and fast zeroes', () => {
  test('a range of any length can be cached, and no byte of it is sent', async () => {
    const exported = exportWith([], 3 * MIB);
    const reads: [number, number][] = [];
    exported.read = async (offset, target) => {
      reads.push([offset, target.length]);
    };
    const { client } = await enter({}, exported);

    const reply = await client.ask({ command: CACHE, offset: 512, length: 2 * MIB });

    expect({ error: reply.error, data: reply.data.length }).toEqual({ error: 0, data: 0 });
    expect(reads).toEqual([
      [512, MIB],
      [512 + MIB, MIB],
    ]);
  });

  test('zeroes in haste are written where they are fast, and refused where they are not', async () => {
    const exported = exportWith([]);
    const { client } = await enter({}, exported);

    const fast = await client.ask({ command: WRITE_ZEROES, length: 512, flags: FAST_ZERO });
    exported.zeroesFast = false;
    const slow = await client.ask({ command: WRITE_ZEROES, length: 512, flags: FAST_ZERO });
    const patient = await client.ask({ command: WRITE_ZEROES, length: 512 });

    expect([fast.error, slow.error, patient.error]).toEqual([0, ENOTSUP, 0]);
    expect(exported.unmappedZeroes).toHaveLength(2);
  });
});

describe('extended headers', () => {
  test('every kind of request is answered in the longer form', async () => {
    const { client, exported } = await enter({ extended: true });

    const written = await client.ask({ command: WRITE, cookie: 1n, offset: 512, data: Buffer.from('hello') });
    const read = await client.ask({ command: READ, cookie: 2n, offset: 512, length: 5 });
    const empty = await client.ask({ command: READ, cookie: 3n, length: 0 });
    const others = [];
    for (const command of [FLUSH, TRIM, CACHE, WRITE_ZEROES]) {
      others.push(await client.ask({ command, length: command === FLUSH ? 0 : 512 }));
    }
    const failed = await client.ask({ command: READ, cookie: 4n, offset: MIB, length: 1 });

    expect([written, empty].map(({ cookie, type, error }) => ({ cookie, type, error }))).toEqual([
      { cookie: 1n, type: 0, error: 0 },
      { cookie: 3n, type: 0, error: 0 },
    ]);
    expect({ type: read.type, data: read.data.toString('latin1', 8) }).toEqual({ type: 1, data: 'hello' });
    expect(others.every(({ type, error }) => type === 0 && error === 0)).toBe(true);
    expect({ type: failed.type, cookie: failed.cookie, error: failed.error }).toEqual({
      type: 0x8001,
      cookie: 4n,
      error: EINVAL,
    });
    expect(exported.bytes.subarray(0, 512).every((byte) => byte === 0)).toBe(true);
  });

  test('a status of many gigabytes fits into one stretch', async () => {
    const size = 2 ** 43;
    const exported = exportWith([striped('base:allocation', size)], 512);
    Object.defineProperty(exported, 'size', { value: size });
    const { client } = await enter({ extended: true, contexts: ['base:allocation'] }, exported);

    client.sendRequest({ command: BLOCK_STATUS, length: size });
    const { type, data } = await client.takeReply();

    expect(type).toBe(6);
    expect(data.readUInt32BE(4)).toBe(1);
    expect(data.readBigUInt64BE(8)).toBe(BigInt(size));
  });

  test('a status of many gigabytes is cut where lengths are short', async () => {
    const size = 2 ** 43;
    const exported = exportWith([striped('base:allocation', size)], 512);
    Object.defineProperty(exported, 'size', { value: size });
    const { client } = await enter({ contexts: ['base:allocation'] }, exported);

    client.sendRequest({ command: BLOCK_STATUS, length: 0xffffffff });

    expect(extentsOf((await client.takeReply()).data)).toEqual([[0xffff0000, 0]]);
  });

  test('data of a request that should have none are skipped, and it is refused', async () => {
    const { client } = await enter({ extended: true, contexts: ['base:allocation'] });

    client.sendRequest({ command: BLOCK_STATUS, length: 512, data: Buffer.alloc(512) });
    const refused = await client.takeReply();
    const next = await client.ask({ command: READ, length: 512 });

    expect([refused.error, next.error]).toEqual([EINVAL, 0]);
  });

  test('data without end close that connection with one line', async () => {
    const { client, lines } = await enter({ extended: true });

    client.sendRequest({ command: READ, length: 0, flags: 0 });
    await client.takeReply();
    const header = Buffer.alloc(32);
    header.writeUInt32BE(0x21e41c71, 0);
    header.writeUInt16BE(PAYLOAD_LEN, 4);
    header.writeBigUInt64BE(2n ** 63n, 24);
    client.send(header);

    await client.takeEnd();
    expect(lines).toEqual([expect.stringMatching(/^nbd: client 1: \d+ bytes of data for a request that was refused$/)]);
  });

  test('there is no way back to shorter ones', async () => {
    const client = await negotiating();
    const types: number[] = [];

    for (const option of [OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS, OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS]) {
      client.sendOption(option);
      types.push((await client.takeOptionReply()).type);
    }

    expect(types).toEqual([ACK, ACK, ERR_EXT_HEADER_REQD, ERR_INVALID]);
  });
});
