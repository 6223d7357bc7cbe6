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
   * @param onGone called once the kernel has it, or the connection is broken; not before this returns
   * @returns the same as a promise, without `onGone`.
   */
  send(message: Uint8Array, onGone: () => void): void;
  send(message: Uint8Array): Promise<void>;
  send(message: Uint8Array, onGone?: () => void): Promise<void> | undefined {
    if (onGone === undefined) return new Promise((resolve) => this.send(message, resolve));
    if (!this.#socket.writable) {
      queueMicrotask(onGone);
      return undefined;
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
    this.#socket.write(message, () => onGone());
    return undefined;
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
