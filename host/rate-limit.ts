/** Work that must not go faster than somebody wants. */

/** Milliseconds after which a signal is looked at again. */
const LONGEST_WAIT = 200;

export class RateLimit {
  private passedBytes = 0;
  private readonly begun = Date.now();

  /** @param bytesPerSecond 0 or undefined: as fast as can be */
  constructor(private readonly bytesPerSecond = 0) {}

  /** So many bytes have been moved: waits until that may have been so. A signal ends the wait, and is left to the caller. */
  async passed(length: number, signal?: AbortSignal): Promise<void> {
    if (this.bytesPerSecond === 0) return;
    this.passedBytes += length;
    const due = this.begun + (this.passedBytes / this.bytesPerSecond) * 1000;
    while (Date.now() < due && !signal?.aborted) {
      const wait = Math.min(due - Date.now(), LONGEST_WAIT);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}
