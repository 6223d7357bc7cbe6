/** Buffers of one connection that are used again: making one for each request costs more than the request. */

/** Bytes that wait to be used again. */
const MAXIMUM_KEPT = 8 * 1024 * 1024;

/**
 * Buffers by their length, of which a client uses few. What one holds is from this connection, or zeros: it is never
 * somebody else's memory.
 */
export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  #kept = 0;

  take(length: number): Buffer {
    const buffer = this.#free.get(length)?.pop();
    if (buffer === undefined) return Buffer.alloc(length);
    this.#kept -= length;
    return buffer;
  }

  /** Nobody else uses the buffer, which came from `take`, any more. */
  giveBack(buffer: Buffer): void {
    const { length } = buffer;
    if (this.#kept + length > MAXIMUM_KEPT) {
      // Perhaps they are of lengths that the client no longer uses.
      this.#free.clear();
      this.#kept = 0;
      if (length > MAXIMUM_KEPT) return;
    }
    this.#kept += length;
    const others = this.#free.get(length);
    if (others === undefined) this.#free.set(length, [buffer]);
    else others.push(buffer);
  }
}
