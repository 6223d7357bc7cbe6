/** A file on an HTTP server: which ranges are asked for, and servers that do not do what they should. */

import { describe, expect, test } from 'vitest';
import { HttpFile, type HttpFileOptions } from '../../host/http-file.js';
import { expectSameBytes } from '../same-bytes.js';
import { answerRange, type FileServer, type Served, serveFile } from './http-server.js';

const BLOCK = 65536;
const FAST: HttpFileOptions = { retries: 0 };

describe('reading', () => {
  test('the length comes with the first bytes, which are not fetched again', async () => {
    const server = await serve({ contents: pattern(1_000_000) });

    const file = await HttpFile.open(server.url, FAST);

    expect(await file.size()).toBe(1_000_000);
    expectSameBytes(await read(file, 100, 5000), pattern(1_000_000).subarray(100, 5100));
    expect(server.ranges).toEqual(['bytes=0-65535']);
  });

  test('reads at the same time of places near each other are one request', async () => {
    const server = await serve({ contents: pattern(40 * BLOCK) });
    const file = await HttpFile.open(server.url, FAST);

    const parts = await Promise.all([
      read(file, 10 * BLOCK, 10),
      read(file, 13 * BLOCK, 10),
      read(file, 30 * BLOCK, 9),
    ]);

    expect(server.ranges.slice(1)).toEqual([range(10, 14), range(30, 31)]);
    expectSameBytes(parts[1], pattern(40 * BLOCK).subarray(13 * BLOCK, 13 * BLOCK + 10));
  });

  test('the same place is fetched once, by however many readers', async () => {
    const server = await serve({ contents: pattern(20 * BLOCK) });
    const file = await HttpFile.open(server.url, FAST);

    await Promise.all([read(file, 5 * BLOCK, 10), read(file, 5 * BLOCK + 100, 10)]);
    await read(file, 5 * BLOCK + 7, 1000);

    expect(server.ranges.slice(1)).toEqual([range(5, 6)]);
  });

  test('a reader that goes forward gets more and more ahead', async () => {
    const server = await serve({ contents: pattern(64 * BLOCK) });
    const file = await HttpFile.open(server.url, { ...FAST, readAhead: 8 * BLOCK });

    for (let block = 4; block < 40; block++) await read(file, block * BLOCK, BLOCK);

    expect(server.ranges.slice(1)).toEqual([
      range(4, 5),
      range(5, 7),
      range(7, 10),
      range(10, 15),
      range(15, 24),
      range(24, 33),
      range(33, 42),
    ]);
  });

  test('what was read last stays in memory, and no more than that', async () => {
    const server = await serve({ contents: pattern(64 * BLOCK) });
    const file = await HttpFile.open(server.url, { ...FAST, cacheSize: 4 * BLOCK });
    for (const block of [40, 10, 30, 20]) await read(file, block * BLOCK, 1);
    await read(file, 40 * BLOCK, 1);
    await read(file, 50 * BLOCK, 1);
    const before = server.ranges.length;

    for (const block of [40, 30, 20, 50]) await read(file, block * BLOCK, 1);
    const kept = server.ranges.length - before;
    await read(file, 10 * BLOCK, 1);

    expect([kept, server.ranges.length - before]).toEqual([0, 1]);
  });

  test('a long read goes past the memory, a few requests at a time', async () => {
    const contents = pattern(200 * BLOCK);
    const server = await serve({ contents });
    const file = await HttpFile.open(server.url, { ...FAST, cacheSize: 4 * BLOCK, requests: 2 });

    const found = await read(file, 1000, 199 * BLOCK);

    expectSameBytes(found, contents.subarray(1000, 1000 + 199 * BLOCK));
    expect(server.ranges.length).toBe(5);
    expect(server.mostAtOnce()).toBe(2);
  });

  test('an empty file has no bytes, and is none the less one', async () => {
    const server = await serve({ contents: new Uint8Array(0) });

    const file = await HttpFile.open(server.url, FAST);

    expect(await file.size()).toBe(0);
    expectSameBytes(await read(file, 5, 10), new Uint8Array(10));
  });
});

describe('redirects', () => {
  test('are followed once, and then the place they led to is asked', async () => {
    const place = await serve({ contents: pattern(10 * BLOCK) });
    const server = await serve({ contents: new Uint8Array(0), answer: redirectTo(place) });
    const file = await HttpFile.open(server.url, FAST);

    const found = await read(file, 5 * BLOCK, 100);

    expectSameBytes(found, pattern(10 * BLOCK).subarray(5 * BLOCK, 5 * BLOCK + 100));
    expect([server.ranges.length, place.ranges.length]).toEqual([1, 2]);
    expect(file.location).toBe(server.url);
  });

  test('to a place that is valid for a while only are followed anew', async () => {
    const place = await serve({ contents: pattern(10 * BLOCK) });
    const server = await serve({ contents: new Uint8Array(0), answer: redirectTo(place) });
    const file = await HttpFile.open(server.url, FAST);
    let refusals = 0;
    place.served.answer = (_, response) => {
      if (refusals++ > 0) return false;
      response.writeHead(403).end();
      return true;
    };

    const found = await read(file, 5 * BLOCK, 100);

    expectSameBytes(found, pattern(10 * BLOCK).subarray(5 * BLOCK, 5 * BLOCK + 100));
    expect(server.ranges.length).toBe(2);
  });

  test('are not followed with headers, which may be secrets', async () => {
    const place = await serve({ contents: pattern(100) });
    const server = await serve({ contents: new Uint8Array(0), answer: redirectTo(place) });

    const opening = HttpFile.open(server.url, { ...FAST, headers: { 'x-token': 'secret' } });

    await expect(opening).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
    expect(place.ranges).toEqual([]);
  });
});

describe('a file that changes on the server is read no more', () => {
  const cases = [
    { what: 'its ETag', version: { etag: '"1"' }, next: { etag: '"2"' } },
    { what: 'a weak ETag', version: { etag: 'W/"1"' }, next: { etag: 'W/"2"' } },
    { what: 'its ETag, which is gone', version: { etag: '"1"' }, next: { etag: undefined } },
    {
      what: 'its date',
      version: { lastModified: 'Tue, 01 Sep 2026 10:00:00 GMT' },
      next: { lastModified: 'Tue, 01 Sep 2026 10:00:01 GMT' },
    },
    { what: 'its length', version: {}, next: { contents: pattern(9 * BLOCK) } },
  ];

  test.each(cases)('when $what says so', async ({ version, next }) => {
    const server = await serve({ contents: pattern(8 * BLOCK), ...version });
    const file = await HttpFile.open(server.url, FAST);
    await read(file, 2 * BLOCK, 10);
    Object.assign(server.served, next);

    for (const block of [4, 6]) {
      await expect(read(file, block * BLOCK, 10)).rejects.toMatchObject({
        code: 'ERR_IO',
        message: `'${server.url}': The file on the server has changed since it was opened`,
      });
    }
    expect(server.ranges.length).toBe(3);
  });

  test('and a server that ignores the conditions is found out by its answers', async () => {
    const server = await serve({ contents: pattern(8 * BLOCK), etag: '"1"' });
    const file = await HttpFile.open(server.url, FAST);
    Object.assign(server.served, {
      etag: '"2"',
      answer: (request, response) => {
        delete request.headers['if-match'];
        answerRange(server.served, request, response);
        return true;
      },
    } satisfies Partial<Served>);

    await expect(read(file, 4 * BLOCK, 10)).rejects.toThrow('has changed');
  });
});

describe('a server without ranges', () => {
  const whole: Served['answer'] = (_request, response) => {
    response.writeHead(200).end(pattern(300_000));
    return true;
  };

  test('makes a short file be downloaded whole, with a warning', async () => {
    const server = await serve({ contents: new Uint8Array(0), answer: whole });
    const warnings: string[] = [];

    const file = await HttpFile.open(server.url, { ...FAST, onWarning: (text) => warnings.push(text) });

    expect(warnings).toEqual(['The server does not serve parts of the file: all 300000 bytes were downloaded']);
    expectSameBytes(await read(file, 1000, 200_000), pattern(300_000).subarray(1000, 201_000));
    expect(server.ranges.length).toBe(1);
  });

  test.each([true, false])('cannot be used for a longer one (length announced: %s)', async (announced) => {
    const answer: Served['answer'] = (_request, response) => {
      response.writeHead(200, announced ? { 'content-length': 300_000 } : {});
      response.write(pattern(150_000));
      response.end(pattern(150_000));
      return true;
    };
    const server = await serve({ contents: new Uint8Array(0), answer });

    const opening = HttpFile.open(server.url, { ...FAST, maximumDownload: 200_000 });

    await expect(opening).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
  });
});

describe('a server that errs', () => {
  test.each([
    [404, 'ERR_NOT_FOUND'],
    [401, 'ERR_PERMISSION'],
    [403, 'ERR_PERMISSION'],
    [500, 'ERR_IO'],
  ])('with %s is told of as %s', async (status, code) => {
    const server = await serve({ contents: pattern(10), answer: (_, response) => !!response.writeHead(status).end() });

    const opening = HttpFile.open(server.url, FAST);

    await expect(opening).rejects.toMatchObject({ code, message: expect.stringContaining(String(status)) });
  });

  test('for a moment is asked again', async () => {
    const server = await serve({ contents: pattern(10 * BLOCK) });
    const file = await HttpFile.open(server.url, { retries: 1 });
    let failures = 0;
    server.served.answer = (_, response) => failures++ === 0 && !!response.writeHead(503).end();

    expectSameBytes(await read(file, 4 * BLOCK, 3), pattern(10 * BLOCK).subarray(4 * BLOCK, 4 * BLOCK + 3));
    expect(failures).toBe(2);
  });

  const broken: { what: string; answer: (contents: Uint8Array) => [Record<string, string>, Uint8Array] }[] = [
    {
      what: 'sends another part',
      answer: (all) => [{ 'content-range': `bytes 1-65536/${all.length}` }, all.subarray(1, 65537)],
    },
    {
      what: 'sends less',
      answer: (all) => [{ 'content-range': `bytes 0-65535/${all.length}` }, all.subarray(0, 65535)],
    },
    {
      what: 'sends more',
      answer: (all) => [{ 'content-range': `bytes 0-65535/${all.length}` }, all.subarray(0, 65537)],
    },
    {
      what: 'does not say how long the file is',
      answer: (all) => [{ 'content-range': 'bytes 0-65535/*' }, all.subarray(0, 65536)],
    },
    { what: 'does not say what it sends', answer: (all) => [{}, all.subarray(0, 65536)] },
    {
      what: 'sends parts of something compressed',
      answer: (all) => [
        { 'content-range': `bytes 0-65535/${all.length}`, 'content-encoding': 'br' },
        all.subarray(0, 65536),
      ],
    },
  ];

  test.each(broken)('and $what is not believed', async ({ answer }) => {
    const contents = pattern(4 * BLOCK);
    const server = await serve({ contents });
    server.served.answer = (_, response) => {
      const [headers, body] = answer(contents);
      return !!response.writeHead(206, headers).end(body);
    };

    await expect(HttpFile.open(server.url, FAST)).rejects.toMatchObject({ name: 'CorralError' });
  });

  test('and stops in the middle is waited for only so long', async () => {
    const contents = pattern(4 * BLOCK);
    const server = await serve({ contents });
    server.served.answer = (_, response) => {
      response.writeHead(206, { 'content-range': `bytes 0-65535/${contents.length}` });
      return response.write(contents.subarray(0, 100));
    };

    const opening = HttpFile.open(server.url, { ...FAST, timeout: 100 });

    await expect(opening).rejects.toMatchObject({ code: 'ERR_IO', message: expect.stringContaining('stopped') });
  });
});

describe('limits', () => {
  test('no more bytes are received than may be', async () => {
    const server = await serve({ contents: pattern(40 * BLOCK) });
    const file = await HttpFile.open(server.url, { ...FAST, maximumBytes: 4 * BLOCK });

    await read(file, 10 * BLOCK, 3 * BLOCK);

    await expect(read(file, 30 * BLOCK, 1)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    expect(file.bytesReceived).toBe(4 * BLOCK);
  });

  test('a signal ends what is under way, and all that would come', async () => {
    const ending = new AbortController();
    const server = await serve({ contents: pattern(40 * BLOCK) });
    const file = await HttpFile.open(server.url, { ...FAST, signal: ending.signal });
    server.served.answer = () => true;
    const reading = read(file, 10 * BLOCK, 1);

    setTimeout(() => ending.abort(), 50);

    await expect(reading).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    await expect(read(file, 20 * BLOCK, 1)).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
  });

  test.each(['ftp://a/b', 'file:///etc/passwd', 'nonsense', 'http://name:word@host/'])(
    '%s is no URL for it',
    async (url) => {
      await expect(HttpFile.open(url, FAST)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    },
  );
});

function serve(served: Served): Promise<FileServer> {
  return serveFile({ etag: 'etag' in served || 'lastModified' in served ? undefined : '"1"', ...served });
}

function redirectTo(place: FileServer): Served['answer'] {
  return (_request, response) => !!response.writeHead(302, { location: place.url }).end();
}

/** Header of the blocks from the first to the one before the last. */
function range(first: number, end: number): string {
  return `bytes=${first * BLOCK}-${end * BLOCK - 1}`;
}

function pattern(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = index * 7 + (index >> 8) * 13 + (index >> 16);
  return bytes;
}

async function read(file: HttpFile, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xee);
  await file.read(offset, target);
  return target;
}
