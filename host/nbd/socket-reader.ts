/** Takes a socket's bytes in the portions that its owner asks for, and lets the peer wait meanwhile. */
import type { Socket } from 'node:net';

/** A portion that is being waited for. */
interface Wanted {
  readonly target: Uint8Array;
  filled: number;
  readonly resolve: (filled: number) => void;
}

const NOTHING = Buffer.alloc(0);

/**
 * Reads from a socket on demand. While nothing is asked for the socket is paused: apart from one chunk here and
 * Node's own small buffer, a client that sends faster than it is served fills its own send buffer.
 */
export class SocketReader {
  readonly #socket: Socket;
  #rest: Buffer = NOTHING;
  #wanted: Wanted | undefined;
  /** Nothing more comes: the peer said so, the connection broke, or `stop` was called. */
  #ended = false;
  #stopped = false;
  readonly #onData = (chunk: Buffer): void => this.#take(chunk);
  readonly #onEnd = (): void => this.#end();
  readonly #onClose = (): void => this.stop();

  constructor(socket: Socket) {
    this.#socket = socket;
    // What came before the end is still served: a client may send all it wants and then shut its side down.
    socket.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onClose);
  }

  /** The end is not the peer's doing: the connection broke, or `stop` was called. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** The next bytes if they are here already, else undefined: then `fill`. They are valid until the next call. */
  takeNow(length: number): Buffer | undefined {
    if (this.#rest.length < length) return undefined;
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }

  /**
   * Fills the target with the next bytes. Only one call at a time.
   *
   * @returns how many bytes came: fewer than asked for only when nothing more comes.
   */
  fill(target: Uint8Array): Promise<number> {
    const filled = Math.min(target.length, this.#rest.length);
    target.set(this.#rest.subarray(0, filled));
    this.#rest = this.#rest.subarray(filled);
    if (filled === target.length || this.#ended) {
      return Promise.resolve(filled);
    }
    return new Promise((resolve) => {
      this.#wanted = { target, filled, resolve };
      this.#socket.resume();
    });
  }

  /**
   * Drops the next bytes.
   *
   * @returns how many came, as `fill` does.
   */
  async skip(length: number): Promise<number> {
    const scratch = new Uint8Array(Math.min(length, 64 * 1024));
    let skipped = 0;
    while (skipped < length) {
      const portion = scratch.subarray(0, Math.min(scratch.length, length - skipped));
      const filled = await this.fill(portion);
      skipped += filled;
      if (filled < portion.length) {
        break;
      }
    }
    return skipped;
  }

  /** Takes nothing more from the socket: who waits gets what there is, and later calls get nothing. */
  stop(): void {
    this.#stopped = true;
    this.#rest = NOTHING;
    this.#end();
    // What still comes is thrown away; a paused socket would never report that its peer is gone.
    this.#socket.resume();
  }

  /**
   * Leaves the socket to somebody else. Only while nobody waits.
   *
   * @returns false when bytes have come that nobody asked for: they are lost
   */
  release(): boolean {
    this.#socket.pause();
    this.#socket.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose);
    return this.#rest.length === 0 && this.#socket.readableLength === 0;
  }

  #end(): void {
    this.#ended = true;
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.resolve(wanted.filled);
  }

  #take(chunk: Buffer): void {
    if (this.#ended) {
      return;
    }
    const wanted = this.#wanted;
    let used = 0;
    if (wanted) {
      used = Math.min(chunk.length, wanted.target.length - wanted.filled);
      wanted.target.set(chunk.subarray(0, used), wanted.filled);
      wanted.filled += used;
    }
    if (used < chunk.length) {
      // Almost always nothing is left by then: who asks takes what is here before it waits.
      this.#rest = this.#rest.length === 0 ? chunk.subarray(used) : Buffer.concat([this.#rest, chunk.subarray(used)]);
      this.#socket.pause();
    }
    if (wanted && wanted.filled === wanted.target.length) {
      this.#wanted = undefined;
      wanted.resolve(wanted.filled);
    }
  }
}
