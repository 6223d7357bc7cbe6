/** What a verb has opened. */

/** Closes everything, last first, whatever fails. For `await using`. */
export class Closers {
  private readonly closers: (() => Promise<unknown>)[] = [];

  add<T extends { close(): Promise<unknown> }>(opened: T): T {
    this.closers.push(() => opened.close());
    return opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.closers.reverse()) await close().catch(() => {});
  }
}
