#!/usr/bin/env node
/**
 * `npm run inspector [-- --port N]`: builds the inspector page and serves it to this machine alone, until it is
 * interrupted. Any other web server does as well: the pages in dist/inspector/ are files without needs.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './lib/repository.mjs';
import { attach } from './lib/run.mjs';

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });
const built = await attach(process.execPath, [join(root, '.tools/build.mjs'), '--quiet', '--addon-optional'], {
  stdin: 'ignore',
});
// Type errors (2) leave a page that works as far as it does.
if (built !== 0 && built !== 2) process.exit(built);

/** @type {Readonly<Record<string, string>>} */
const PAGES = { '/': 'index.html', '/index.html': 'index.html', '/url.html': 'url.html' };

const server = createServer((request, response) => {
  const page = PAGES[(request.url ?? '').replace(/[?#].*/, '')];
  if (page === undefined) {
    response.writeHead(404, { 'Content-Type': 'text/plain' }).end('There is index.html, and url.html.\n');
    return;
  }
  response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' });
  response.end(readFileSync(join(root, 'dist/inspector', page)));
});
server.listen(Number(values.port), '127.0.0.1', () => {
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());
  console.log(`http://127.0.0.1:${address.port}/`);
});
