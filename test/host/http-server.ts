/** An HTTP server of one file that can misbehave: what a test wants it to answer. */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach } from 'vitest';

export interface Served {
  contents: Uint8Array;
  etag?: string | undefined;
  lastModified?: string | undefined;
  /** Answers instead of the server, when it returns true. */
  answer?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export interface FileServer {
  readonly url: string;
  readonly served: Served;
  /** The Range header of each request, in their order. */
  readonly ranges: (string | undefined)[];
  /** Most requests that were under way at once. */
  readonly mostAtOnce: () => number;
}

const closers: (() => void)[] = [];

afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Serves `served`, as it is at each request, until the test ends. */
export async function serveFile(served: Served): Promise<FileServer> {
  const ranges: (string | undefined)[] = [];
  let now = 0;
  let most = 0;
  const server = createServer((request, response) => {
    ranges.push(request.headers.range);
    most = Math.max(most, ++now);
    response.on('close', () => now--);
    if (!served.answer?.(request, response)) answerRange(served, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.qcow2`;
  return { url, served, ranges, mostAtOnce: () => most };
}

/** As a server should (RFC 9110): 206, 412, 416. */
export function answerRange(served: Served, request: IncomingMessage, response: ServerResponse): void {
  const { contents, etag, lastModified } = served;
  if (etag !== undefined) response.setHeader('etag', etag);
  if (lastModified !== undefined) response.setHeader('last-modified', lastModified);
  const match = request.headers['if-match'];
  const since = request.headers['if-unmodified-since'];
  if ((match !== undefined && match !== etag) || (since !== undefined && since !== lastModified)) {
    response.writeHead(412).end();
    return;
  }
  const [, start = '0', end = '0'] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  if (Number(start) >= contents.length) {
    response.writeHead(416, { 'content-range': `bytes */${contents.length}` }).end();
    return;
  }
  const last = Math.min(Number(end), contents.length - 1);
  const range = `bytes ${start}-${last}/${contents.length}`;
  response.writeHead(206, { 'content-range': range }).end(contents.subarray(Number(start), last + 1));
}
