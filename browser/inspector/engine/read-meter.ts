/** How many bytes of files have been read: the page shows it. */

export class ReadMeter {
  private readonly counts: (() => number)[] = [];

  get bytes(): number {
    return this.counts.reduce((sum, count) => sum + count(), 0);
  }

  /** A file that says how much was read of it. */
  watch(count: () => number): void {
    this.counts.push(count);
  }
}
