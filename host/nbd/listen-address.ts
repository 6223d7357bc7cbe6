/** Where a server listens: a Unix socket, private from its first moment, or a TCP port. */
import { once } from 'node:events';
import { chmodSync, existsSync } from 'node:fs';
import { BlockList, isIP, type Server } from 'node:net';
import { dirname, resolve } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { CorralError, systemErrorCode } from '../errors.js';
import { checkSocketPath, removeStaleSocket } from './socket-path.js';

/** A TCP port. */
export interface TcpAddress {
  /** An address of this machine as a number, or `localhost`. Default: 127.0.0.1. */
  readonly host?: string;
  /** 0: any that is free. Default: 10809, which is NBD's. */
  readonly port?: number;
  /** In clear text, for whoever reaches it, also where it is not a loopback address. Default: false. */
  readonly insecure?: boolean;
}

/** Where a server is. */
export interface ListenAddress {
  /** The absolute path of the socket; undefined for TCP. */
  readonly socketPath: string | undefined;
  readonly host: string | undefined;
  readonly port: number | undefined;
}

/** NBD's port. */
const DEFAULT_PORT = 10809;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/**
 * Listens on a Unix socket. A dead server's socket is replaced.
 *
 * @throws CorralError ERR_EXISTS when the path is taken, ERR_INVALID_ARGUMENT, ERR_PERMISSION, ERR_NOT_FOUND
 */
export async function listenOnSocket(server: Server, path: string): Promise<ListenAddress> {
  const socketPath = resolve(path);
  checkSocketPath(socketPath);
  try {
    await bindSocket(server, socketPath);
  } catch (failure) {
    if (systemErrorCode(failure) !== 'EADDRINUSE') {
      throw socketError(socketPath, failure);
    }
    await removeStaleSocket(socketPath);
    await bindSocket(server, socketPath).catch((second: unknown) => {
      throw socketError(socketPath, second);
    });
  }
  return { socketPath, host: undefined, port: undefined };
}

async function bindSocket(server: Server, socketPath: string): Promise<void> {
  const listening = once(server, 'listening');
  // The socket is made during this call, and with the mask it is private from its first moment. A worker has no
  // say in the mask, which is the process's: there it is private a moment later, before anyone is accepted.
  const mask = isMainThread ? process.umask(0o177) : undefined;
  try {
    server.listen({ path: socketPath, exclusive: true });
  } finally {
    if (mask !== undefined) {
      process.umask(mask);
    }
  }
  if (mask === undefined && server.listening) {
    chmodSync(socketPath, 0o600);
  }
  await listening;
}

/** The few ways in which a folder refuses a socket. */
function socketError(socketPath: string, cause: unknown): CorralError {
  const code = systemErrorCode(cause);
  const details = { path: socketPath, reason: 'The socket cannot be made there', cause };
  if (code === 'EADDRINUSE') {
    return new CorralError('ERR_EXISTS', { ...details, reason: 'Another server took the socket just now' });
  }
  // Node reports a missing folder as one without permission.
  if (code === 'EACCES' && !existsSync(dirname(socketPath))) {
    return new CorralError('ERR_NOT_FOUND', { ...details, reason: 'There is no such folder' });
  }
  return new CorralError(code === 'EACCES' || code === 'EROFS' ? 'ERR_PERMISSION' : 'ERR_IO', details);
}

/**
 * Listens on a port.
 *
 * @param isSecure clients have to use TLS
 * @throws CorralError ERR_PERMISSION for an address that others reach in clear text, ERR_EXISTS when the port is taken,
 *   ERR_INVALID_ARGUMENT for what is no address
 */
export async function listenOnPort(server: Server, address: TcpAddress, isSecure: boolean): Promise<ListenAddress> {
  const { port = DEFAULT_PORT, insecure = false } = address;
  // A name could be somebody else's address by the time it is looked up.
  const host = address.host === undefined || address.host === 'localhost' ? '127.0.0.1' : address.host;
  const family = isIP(host);
  if (family === 0) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: `'${host}' is no address: a number like 127.0.0.1 is needed`,
    });
  }
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `${port} is no port` });
  }
  if (!isSecure && !insecure && !LOOPBACK.check(host, family === 6 ? 'ipv6' : 'ipv4')) {
    throw new CorralError('ERR_PERMISSION', {
      reason: `Whoever reaches ${host} could read and write the image: without TLS only loopback addresses are served`,
    });
  }
  const listening = once(server, 'listening');
  server.listen({ host, port, exclusive: true });
  await listening.catch((cause: unknown) => {
    throw portError(host, port, cause);
  });
  const bound = server.address();
  return { socketPath: undefined, host, port: typeof bound === 'object' && bound !== null ? bound.port : port };
}

function portError(host: string, port: number, cause: unknown): CorralError {
  const where = `${host}, port ${port}`;
  switch (systemErrorCode(cause)) {
    case 'EADDRINUSE':
      return new CorralError('ERR_EXISTS', { reason: `Somebody listens on ${where} already`, cause });
    case 'EACCES':
      return new CorralError('ERR_PERMISSION', { reason: `This user may not listen on ${where}`, cause });
    case 'EADDRNOTAVAIL':
      return new CorralError('ERR_INVALID_ARGUMENT', { reason: `${host} is no address of this machine`, cause });
    default:
      return new CorralError('ERR_IO', { reason: `Listening on ${where} failed: ${String(cause)}`, cause });
  }
}
