/** The two halves of a client's socket, which may become another one on the way. */
import type { Socket } from 'node:net';
import { ProtocolError } from './protocol.js';
import { ReplyWriter } from './reply-writer.js';
import { SocketReader } from './socket-reader.js';
import type { TlsCredentials } from './tls.js';

/** What is read and written belongs together: both change when TLS begins. */
export class Wire {
  #socket: Socket;
  #reader: SocketReader;
  #writer: ReplyWriter;
  #secure = false;
  readonly #onError: (failure: NodeJS.ErrnoException) => void;

  /** @param onError told why a connection broke */
  constructor(socket: Socket, onError: (failure: NodeJS.ErrnoException) => void) {
    this.#onError = onError;
    this.#socket = socket.on('error', onError);
    this.#reader = new SocketReader(socket);
    this.#writer = new ReplyWriter(socket);
  }

  get reader(): SocketReader {
    return this.#reader;
  }

  get writer(): ReplyWriter {
    return this.#writer;
  }

  /** What is said is private. */
  get secure(): boolean {
    return this.#secure;
  }

  /**
   * Tells the client to begin with TLS, and waits until it has done so.
   *
   * @throws ProtocolError when it does something else.
   */
  async startTls(credentials: TlsCredentials, goAhead: Uint8Array): Promise<void> {
    // Whoever sits between could have put more behind the question, to be taken for the client's private words later.
    if (!this.#reader.release()) {
      this.#socket.destroy();
      throw new ProtocolError('the client went on in clear text after it had asked for TLS');
    }
    await this.#writer.send(goAhead);
    const secured = await credentials.upgrade(this.#socket);
    this.#socket = secured.on('error', this.#onError);
    this.#reader = new SocketReader(secured);
    this.#writer = new ReplyWriter(secured);
    this.#secure = true;
  }

  /** Breaks the connection off. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** Says that nothing more comes, and ends when the socket is closed, at the latest after `patience` milliseconds. */
  async hangUp(patience: number): Promise<void> {
    const timer = setTimeout(() => this.destroy(), patience);
    await this.#writer.end();
    clearTimeout(timer);
    if (!this.#socket.closed) {
      const closed = new Promise((resolve) => this.#socket.once('close', resolve));
      this.destroy();
      await closed;
    }
  }
}
