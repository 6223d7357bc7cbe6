/** Sends replies, several at a time when they are ready together. */
import type { Socket } from 'node:net';

/** The sending half of a connection. A broken connection swallows what is sent: the reading half notices the end. */
export class ReplyWriter {
  readonly #socket: Socket;
  #corked = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /**
   * Sends one message; it must not be changed until it is gone.
   *
   * @returns once the kernel has it, or the connection is broken.
   */
  send(message: Uint8Array): Promise<void> {
    if (!this.#socket.writable) {
      return Promise.resolve();
    }
    // Completions come in batches; one system call then carries the replies of a whole batch.
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    return new Promise((resolve) => {
      this.#socket.write(message, () => resolve());
    });
  }

  /** Says that nothing more comes. @returns once the kernel has everything, or the connection is broken. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.destroyed) {
        resolve();
        return;
      }
      this.#socket.once('close', () => resolve());
      this.#socket.end(() => resolve());
    });
  }
}
