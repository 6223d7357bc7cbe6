/** The NBD server: listens on a Unix socket, serves one export to several clients, and ends in order. */
import { once } from 'node:events';
import { chmodSync, existsSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname, resolve } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { CorralError, cancelled, systemErrorCode } from '../errors.js';
import { Connection, type Patience } from './connection.js';
import type { NbdExport } from './export.js';
import { MAXIMUM_PAYLOAD, MAXIMUM_STRING_LENGTH } from './protocol.js';
import { checkSocketPath, removeStaleSocket } from './socket-path.js';

/** How to serve. */
export interface NbdServerOptions {
  /** Where the socket is made. A dead server's socket is replaced; anything else there is an error. */
  readonly socketPath: string;
  /** Aborting it closes the server; `close()` then tells how that went. */
  readonly signal?: AbortSignal;
  /** Takes one line per client that misbehaves or is failed. */
  readonly log?: (line: string) => void;
  /** Clients at a time; further ones are hung up on. Each can make the server hold 32 MiB. 16 when not given. */
  readonly maximumConnections?: number;
  /** How long a client may keep the server waiting. */
  readonly patience?: Partial<Patience>;
}

/** A server at work. */
export interface NbdServer {
  /** What NBD clients call it: `nbd+unix:///?socket=…`. */
  readonly uri: string;
  /** The absolute path of the socket. */
  readonly socketPath: string;
  /**
   * Stops accepting, removes the socket, finishes and answers the requests in flight, hangs up, and flushes the
   * export. Calling it again waits for the same end.
   *
   * @throws what the export's flush throws.
   */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Serves an export until `close()`. The export itself stays the caller's to close.
 *
 * @throws CorralError ERR_EXISTS when the path is taken, ERR_INVALID_ARGUMENT when it or the export cannot be
 *   served, ERR_PERMISSION and ERR_NOT_FOUND when its folder does not allow it, ERR_CANCELLED when the signal is
 *   aborted already.
 */
export async function serveNbd(exported: NbdExport, options: NbdServerOptions): Promise<NbdServer> {
  const { signal } = options;
  const socketPath = resolve(options.socketPath);
  checkExport(exported);
  checkSocketPath(socketPath);
  if (signal?.aborted) {
    throw cancelled(signal);
  }
  const listener = new Listener(exported, options);
  await listener.listen(socketPath);

  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    signal?.removeEventListener('abort', onAbort);
    closing ??= listener.close();
    return closing;
  };
  const onAbort = (): void => {
    // Who calls close() later gets the failure; nobody else does.
    close().catch(() => {});
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) {
    onAbort();
  }
  const query = socketPath.split('/').map(encodeURIComponent).join('/');
  return { uri: `nbd+unix:///?socket=${query}`, socketPath, close, [Symbol.asyncDispose]: close };
}

function checkExport(exported: NbdExport): void {
  const { name, size, preferredBlockSize } = exported;
  if (Buffer.byteLength(name) > MAXIMUM_STRING_LENGTH) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: `An export's name has at most ${MAXIMUM_STRING_LENGTH} bytes`,
    });
  }
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `${size} is no size that can be exported` });
  }
  const isPowerOfTwo = Number.isInteger(Math.log2(preferredBlockSize));
  if (!isPowerOfTwo || preferredBlockSize < 512 || preferredBlockSize > MAXIMUM_PAYLOAD) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `${preferredBlockSize} is no block size for an export` });
  }
}

class Listener {
  readonly #exported: NbdExport;
  readonly #log: (line: string) => void;
  readonly #patience: Patience;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  #clientCount = 0;

  constructor(exported: NbdExport, options: NbdServerOptions) {
    this.#exported = exported;
    this.#log = options.log ?? (() => {});
    this.#patience = { handshake: 30_000, farewell: 10_000, ...options.patience };
    // Half open: a client may shut its side down and still wait for its replies.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = options.maximumConnections ?? 16;
    this.#server.on('drop', () => this.#log('nbd: too many clients; one was hung up on'));
  }

  async listen(socketPath: string): Promise<void> {
    try {
      await this.#bind(socketPath);
    } catch (failure) {
      if (systemErrorCode(failure) !== 'EADDRINUSE') {
        throw listenError(socketPath, failure);
      }
      await removeStaleSocket(socketPath);
      await this.#bind(socketPath).catch((second: unknown) => {
        throw listenError(socketPath, second);
      });
    }
    this.#server.on('error', (failure) => this.#log(`nbd: a client could not be accepted: ${failure.message}`));
  }

  async #bind(socketPath: string): Promise<void> {
    const listening = once(this.#server, 'listening');
    // The socket is made during this call, and with the mask it is private from its first moment. A worker has no
    // say in the mask, which is the process's: there it is private a moment later, before anyone is accepted.
    const mask = isMainThread ? process.umask(0o177) : undefined;
    try {
      this.#server.listen({ path: socketPath, exclusive: true });
    } finally {
      if (mask !== undefined) {
        process.umask(mask);
      }
    }
    if (mask === undefined && this.#server.listening) {
      chmodSync(socketPath, 0o600);
    }
    await listening;
  }

  async close(): Promise<void> {
    // Stops accepting and removes the socket at once.
    const closed = new Promise((resolveClosed) => this.#server.close(resolveClosed));
    for (const connection of this.#connections) {
      connection.stop();
    }
    await Promise.all([...this.#connections].map((connection) => connection.done));
    await closed;
    if (!this.#exported.readOnly) {
      await this.#exported.flush();
    }
  }

  #accept(socket: Socket): void {
    this.#clientCount += 1;
    const name = `nbd: client ${this.#clientCount}`;
    const connection = new Connection({
      socket,
      exported: this.#exported,
      patience: this.#patience,
      log: (line) => this.#log(`${name}: ${line}`),
    });
    this.#connections.add(connection);
    void connection.done.then(() => this.#connections.delete(connection));
  }
}

/** The few ways in which a folder refuses a socket. */
function listenError(socketPath: string, cause: unknown): CorralError {
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
