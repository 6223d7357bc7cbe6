/** One client, from its first byte to its last. */
import type { Socket } from 'node:net';
import { messageOf } from './error-value.js';
import { negotiate, type Offer } from './negotiation.js';
import { ProtocolError } from './protocol.js';
import { Transmission } from './transmission.js';
import { Wire } from './wire.js';

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
  readonly offer: Offer;
  readonly patience: Patience;
  /** Takes one line. */
  readonly log: (line: string) => void;
}

/** A client being served. Whatever it sends, only its own connection suffers. */
export class Connection {
  /** Ends, never with an error, when the export is done with the client's requests and the socket is closed. */
  readonly done: Promise<void>;
  readonly #wire: Wire;
  readonly #parts: ConnectionParts;
  #transmission: Transmission | undefined;
  #stopped = false;
  #endLogged = false;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#wire = new Wire(parts.socket, (failure) => {
      // During the handshake nothing is lost: so leaves who only looks whether somebody listens.
      if (this.#transmission) {
        this.#logEnd(`the connection broke (${failure.code ?? failure.message})`);
      }
    });
    this.done = this.#serve();
  }

  /** Takes no more requests, answers those that were taken, and hangs up. */
  stop(): void {
    this.#stopped = true;
    if (this.#transmission) {
      this.#transmission.stop();
    } else {
      this.#wire.destroy();
    }
  }

  async #serve(): Promise<void> {
    try {
      await this.#talk();
    } catch (failure) {
      this.#logEnd(failure instanceof ProtocolError ? failure.message : `unexpected: ${messageOf(failure)}`);
    }
    // A client that does not take its last replies must not hold up the server's end.
    await this.#wire.hangUp(this.#parts.patience.farewell);
  }

  async #talk(): Promise<void> {
    const { offer, patience } = this.#parts;
    const timer = setTimeout(() => {
      this.#logEnd('the client did not choose an export in time');
      this.#wire.destroy();
    }, patience.handshake);
    try {
      const agreement = await negotiate(this.#wire, offer);
      if (!agreement || this.#stopped) {
        return;
      }
      this.#transmission = new Transmission({
        reader: this.#wire.reader,
        writer: this.#wire.writer,
        agreement,
        onFailure: (message) => this.#parts.log(`a request failed: ${message}`),
      });
    } finally {
      clearTimeout(timer);
    }
    await this.#transmission.run();
  }

  /** One line per connection: the first reason is the true one, the others follow from it. */
  #logEnd(reason: string): void {
    if (!this.#endLogged) {
      this.#endLogged = true;
      this.#parts.log(reason);
    }
  }
}
