/** The NBD server: listens, serves exports to several clients, and ends in order. */
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import { CorralError, cancelled } from '../errors.js';
import { Connection, type Patience } from './connection.js';
import type { NbdExport } from './export.js';
import { type ListenAddress, listenOnPort, listenOnSocket, type TcpAddress } from './listen-address.js';
import type { Offer } from './negotiation.js';
import { MAXIMUM_PAYLOAD, MAXIMUM_STRING_LENGTH } from './protocol.js';
import { loadTls, type TlsOptionsOfServer } from './tls.js';

/** How to serve. */
export interface NbdServerOptions {
  /** Where the socket is made. A dead server's socket is replaced; anything else there is an error. */
  readonly socketPath?: string;
  /** A TCP port instead of a socket. */
  readonly tcp?: TcpAddress;
  /** Clients have to use TLS. Default: none may. */
  readonly tls?: TlsOptionsOfServer;
  /** Aborting it closes the server; `close()` then tells how that went. */
  readonly signal?: AbortSignal;
  /** Takes one line per client that misbehaves or is failed. */
  readonly log?: (line: string) => void;
  /** Told when the last client has left. */
  readonly onIdle?: () => void;
  /** Clients at a time; further ones are hung up on. Each can make the server hold 32 MiB. 16 when not given. */
  readonly maximumConnections?: number;
  /** How long a client may keep the server waiting. */
  readonly patience?: Partial<Patience>;
}

/** A server at work. */
export interface NbdServer extends ListenAddress {
  /** What NBD clients call its first export: `nbd+unix:///?socket=…`, `nbd://127.0.0.1:10809`, or `nbds…` with TLS. */
  readonly uri: string;
  /** What they call the export of that name. */
  uriOf(name: string): string;
  /** Clients that are being served. */
  readonly connectionCount: number;
  /**
   * Stops accepting, removes the socket, finishes and answers the requests in flight, hangs up, and flushes the
   * exports. Calling it again waits for the same end.
   *
   * @throws what an export's flush throws.
   */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Serves one export or several, of which the first is what the empty name means, until `close()`. They stay the
 * caller's to close.
 *
 * @throws CorralError ERR_EXISTS when the socket or port is taken, ERR_INVALID_ARGUMENT when it or an export cannot be
 *   served, ERR_PERMISSION and ERR_NOT_FOUND when its folder, its address or a file for TLS does not allow it,
 *   ERR_CANCELLED when the signal is aborted already.
 */
export async function serveNbd(
  exported: NbdExport | readonly NbdExport[],
  options: NbdServerOptions,
): Promise<NbdServer> {
  const { signal } = options;
  const exports = 'read' in exported ? [exported] : exported;
  checkExports(exports);
  if (signal?.aborted) {
    throw cancelled(signal);
  }
  const tls = options.tls === undefined ? undefined : await loadTls(options.tls);
  const listener = new Listener({ exports, tls }, options);
  const address = await listener.listen(options);

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
  return {
    ...address,
    uri: uriOf(address, '', tls !== undefined),
    uriOf: (name) => uriOf(address, name, tls !== undefined),
    get connectionCount() {
      return listener.connectionCount;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function uriOf({ socketPath, host, port }: ListenAddress, name: string, isSecure: boolean): string {
  const scheme = isSecure ? 'nbds' : 'nbd';
  const path = encodeURIComponent(name);
  if (socketPath !== undefined) {
    return `${scheme}+unix:///${path}?socket=${socketPath.split('/').map(encodeURIComponent).join('/')}`;
  }
  const place = host !== undefined && isIPv6(host) ? `[${host}]` : host;
  return `${scheme}://${place}:${port}${path === '' ? '' : `/${path}`}`;
}

function checkExports(exports: readonly NbdExport[]): void {
  const names = new Set(exports.map(({ name }) => name));
  if (exports.length === 0 || names.size < exports.length) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: exports.length === 0 ? 'There is nothing to serve' : 'Two exports have the same name',
    });
  }
  exports.forEach(checkExport);
}

function checkExport({ name, size, preferredBlockSize, contexts }: NbdExport): void {
  for (const text of [name, ...contexts.map((context) => context.name)]) {
    if (Buffer.byteLength(text) > MAXIMUM_STRING_LENGTH) {
      throw new CorralError('ERR_INVALID_ARGUMENT', {
        reason: `The name of an export or a metadata context has at most ${MAXIMUM_STRING_LENGTH} bytes`,
      });
    }
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
  readonly #offer: Offer;
  readonly #log: (line: string) => void;
  readonly #onIdle: () => void;
  readonly #patience: Patience;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  #clientCount = 0;

  constructor(offer: Offer, options: NbdServerOptions) {
    this.#offer = offer;
    this.#log = options.log ?? (() => {});
    this.#onIdle = options.onIdle ?? (() => {});
    this.#patience = { handshake: 30_000, farewell: 10_000, ...options.patience };
    // Half open: a client may shut its side down and still wait for its replies.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = options.maximumConnections ?? 16;
    this.#server.on('drop', () => this.#log('nbd: too many clients; one was hung up on'));
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  async listen({ socketPath, tcp }: NbdServerOptions): Promise<ListenAddress> {
    if ((socketPath === undefined) === (tcp === undefined)) {
      throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'Either a socket or a port is needed' });
    }
    const address =
      socketPath !== undefined
        ? await listenOnSocket(this.#server, socketPath)
        : await listenOnPort(this.#server, tcp ?? {}, this.#offer.tls !== undefined);
    this.#server.on('error', (failure) => this.#log(`nbd: a client could not be accepted: ${failure.message}`));
    return address;
  }

  async close(): Promise<void> {
    // Stops accepting and removes the socket at once.
    const closed = new Promise((resolveClosed) => this.#server.close(resolveClosed));
    for (const connection of this.#connections) {
      connection.stop();
    }
    await Promise.all([...this.#connections].map((connection) => connection.done));
    await closed;
    const writable = this.#offer.exports.filter(({ readOnly }) => !readOnly);
    // One that fails must not keep the others from being flushed.
    const flushes = await Promise.allSettled(writable.map((exported) => exported.flush()));
    for (const flush of flushes) if (flush.status === 'rejected') throw flush.reason;
  }

  #accept(socket: Socket): void {
    this.#clientCount += 1;
    const name = `nbd: client ${this.#clientCount}`;
    const connection = new Connection({
      socket,
      offer: this.#offer,
      patience: this.#patience,
      log: (line) => this.#log(`${name}: ${line}`),
    });
    this.#connections.add(connection);
    void connection.done.then(() => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0 && this.#server.listening) this.#onIdle();
    });
  }
}
