/** Lets so many pieces of asynchronous work run at once, in the order of the calls. */
export class Semaphore {
  private readonly waiting: (() => void)[] = [];

  /** @param free how many may run at once, at least 1 */
  constructor(private free: number) {}

  /** Starts `work` when there is room for it; settles as `work` does. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.free++;
      else next();
    }
  }
}
