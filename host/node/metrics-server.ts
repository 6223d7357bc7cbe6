/** Metrics over HTTP, for this machine alone: on a Unix socket for their owner, or on a loopback address. */
import { chmod, lstat, unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { CorralError, systemErrorCode } from '../errors.js';
import { deviceMetrics, type MeasuredDevice, metricsJson } from './metrics.js';
import type { MetricsAddress } from './metrics-address.js';

export interface MetricsServer extends AsyncDisposable {
  /** As for `parseMetricsAddress`, with the port that was chosen where 0 was asked for. */
  readonly address: string;
  close(): Promise<void>;
}

/** Milliseconds that a request may take to arrive. */
const PATIENCE = 10_000;
const MAXIMUM_CONNECTIONS = 16;

/**
 * Serves `/metrics`, in Prometheus' text format, and `/metrics.json`. Keeps no process alive.
 *
 * @param devices those that there are when somebody asks
 * @throws CorralError ERR_EXISTS when the place is taken, ERR_PERMISSION, ERR_IO
 */
export async function serveMetrics(
  address: MetricsAddress,
  devices: () => readonly MeasuredDevice[],
): Promise<MetricsServer> {
  const registry = deviceMetrics(devices);
  const respond = async ({ method, url }: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (method !== 'GET') return void response.writeHead(405).end();
    if (url === '/metrics.json') {
      const body = `${JSON.stringify(await metricsJson(devices()))}\n`;
      return void response.writeHead(200, { 'content-type': 'application/json' }).end(body);
    }
    if (url !== '/metrics') return void response.writeHead(404).end('There are /metrics and /metrics.json\n');
    return void response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics());
  };
  const server = createServer((request, response) => {
    respond(request, response).catch((error: Error) => response.destroy(error));
  });
  server.maxConnections = MAXIMUM_CONNECTIONS;
  server.requestTimeout = PATIENCE;
  if ('path' in address) await removeStale(address.path);
  await listen(server, address);
  if ('path' in address) await chmod(address.path, 0o600);
  server.unref();
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
    return closing;
  };
  return { address: addressOf(server, address), close, [Symbol.asyncDispose]: close };
}

function addressOf(server: Server, asked: MetricsAddress): string {
  if ('path' in asked) return `unix:${asked.path}`;
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : asked.port;
  return `${asked.host.includes(':') ? `[${asked.host}]` : asked.host}:${port}`;
}

function listen(server: Server, address: MetricsAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: Error) => {
      const where = 'path' in address ? address.path : `${address.host}:${address.port}`;
      const code = systemErrorCode(error);
      const details = { path: where, reason: error.message, cause: error };
      if (code === 'EADDRINUSE')
        reject(new CorralError('ERR_EXISTS', { ...details, reason: 'Somebody listens there' }));
      else reject(new CorralError(code === 'EACCES' || code === 'EPERM' ? 'ERR_PERMISSION' : 'ERR_IO', details));
    });
    server.listen(address, () => resolve());
  });
}

/** The socket of a server that is gone goes; anything else stays, and is in the way. */
async function removeStale(path: string): Promise<void> {
  const facts = await lstat(path).catch(() => undefined);
  if (facts === undefined || !facts.isSocket()) return;
  const refused = await new Promise((resolve) => {
    const probe = connect(path, () => probe.destroy());
    probe.once('error', (error) => resolve(systemErrorCode(error) === 'ECONNREFUSED'));
    probe.once('close', () => resolve(false));
  });
  if (refused) await unlink(path);
}
