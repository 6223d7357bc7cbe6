/** Bounds what one client can make the server hold. */

/** What a connection may have in flight. */
export interface WindowLimits {
  /** Requests that are not answered yet. */
  readonly requests: number;
  /** Bytes of their data. */
  readonly bytes: number;
}

/**
 * Requests in flight on one connection, from before their data is taken from the socket until the kernel has their
 * reply. Who does not fit in waits, and with it the socket; a request larger than the limit goes in alone.
 */
export class Window {
  readonly #limits: WindowLimits;
  #requests = 0;
  #bytes = 0;
  #closed = false;
  #waiting: (() => void) | undefined;

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  /** Lets a request with this much data in if it fits now; false: `enter` waits. */
  enterNow(bytes: number): boolean {
    if (this.#closed || !this.#fits(bytes)) return false;
    this.#requests += 1;
    this.#bytes += bytes;
    return true;
  }

  /**
   * Lets a request with this much data in. Only one caller waits at a time.
   *
   * @returns false when the window was closed instead.
   */
  async enter(bytes: number): Promise<boolean> {
    while (!this.#closed && !this.#fits(bytes)) {
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
    return this.enterNow(bytes);
  }

  /** The request that entered with this much data is answered. */
  leave(bytes: number): void {
    this.#requests -= 1;
    this.#bytes -= bytes;
    this.#wake();
  }

  /** Lets nobody in any more. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  #fits(bytes: number): boolean {
    return (
      this.#requests === 0 || (this.#requests < this.#limits.requests && this.#bytes + bytes <= this.#limits.bytes)
    );
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }
}
