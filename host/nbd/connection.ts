/** One client, from its first byte to its last. */
import type { Socket } from 'node:net';
import { messageOf } from './error-value.js';
import type { NbdExport } from './export.js';
import { negotiate } from './negotiation.js';
import { ProtocolError } from './protocol.js';
import { ReplyWriter } from './reply-writer.js';
import { SocketReader } from './socket-reader.js';
import { Transmission } from './transmission.js';

/** How long a client may keep the server waiting, in milliseconds. */
export interface Patience {
  /** For the whole handshake. */
  readonly handshake: number;
  /** To take the last replies, once everything else is done. */
  readonly farewell: number;
}

/** What a connection works with. */
export interface ConnectionParts {
  readonly socket: Socket;
  readonly exported: NbdExport;
  readonly patience: Patience;
  /** Takes one line. */
  readonly log: (line: string) => void;
}

/** A client being served. Whatever it sends, only its own connection suffers. */
export class Connection {
  /** Ends, never with an error, when the export is done with the client's requests and the socket is closed. */
  readonly done: Promise<void>;
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  readonly #writer: ReplyWriter;
  readonly #parts: ConnectionParts;
  #transmission: Transmission | undefined;
  #stopped = false;
  #endLogged = false;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#socket = parts.socket;
    this.#socket.on('error', (failure: NodeJS.ErrnoException) => {
      // During the handshake nothing is lost: so leaves who only looks whether somebody listens.
      if (this.#transmission) {
        this.#logEnd(`the connection broke (${failure.code ?? failure.message})`);
      }
    });
    this.#reader = new SocketReader(parts.socket);
    this.#writer = new ReplyWriter(parts.socket);
    this.done = this.#serve();
  }

  /** Takes no more requests, answers those that were taken, and hangs up. */
  stop(): void {
    this.#stopped = true;
    if (this.#transmission) {
      this.#transmission.stop();
    } else {
      this.#socket.destroy();
    }
  }

  async #serve(): Promise<void> {
    try {
      await this.#talk();
    } catch (failure) {
      this.#logEnd(failure instanceof ProtocolError ? failure.message : `unexpected: ${messageOf(failure)}`);
    }
    await this.#hangUp();
  }

  async #talk(): Promise<void> {
    const { exported, patience } = this.#parts;
    const timer = setTimeout(() => {
      this.#logEnd('the client did not choose an export in time');
      this.#socket.destroy();
    }, patience.handshake);
    try {
      const agreement = await negotiate(this.#reader, this.#writer, exported);
      if (!agreement || this.#stopped) {
        return;
      }
      this.#transmission = new Transmission({
        reader: this.#reader,
        writer: this.#writer,
        exported,
        agreement,
        onFailure: (message) => this.#parts.log(`a request failed: ${message}`),
      });
    } finally {
      clearTimeout(timer);
    }
    await this.#transmission.run();
  }

  /** A client that does not take its last replies must not hold up the server's end. */
  async #hangUp(): Promise<void> {
    const timer = setTimeout(() => this.#socket.destroy(), this.#parts.patience.farewell);
    await this.#writer.end();
    clearTimeout(timer);
    if (!this.#socket.closed) {
      const closed = new Promise((resolve) => this.#socket.once('close', resolve));
      this.#socket.destroy();
      await closed;
    }
  }

  /** One line per connection: the first reason is the true one, the others follow from it. */
  #logEnd(reason: string): void {
    if (!this.#endLogged) {
      this.#endLogged = true;
      this.#parts.log(reason);
    }
  }
}
