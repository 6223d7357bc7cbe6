/** The only source of chance: everything the simulator does is a function of its seed. */

/** sfc32 (Chris Doty-Humphrey): small, quick, and every seed of 53 bits gives another sequence. */
export class Random {
  private a: number;
  private b: number;
  private c = 0x9e3779b9 | 0;
  private counter = 1;

  constructor(seed: number) {
    this.a = seed | 0;
    this.b = Math.floor(seed / 0x100000000) | 0;
    for (let round = 0; round < 12; round++) this.next();
  }

  /** 32 random bits. */
  next(): number {
    const sum = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A whole number from 0 to `limit - 1`; limits up to 2^53. */
  below(limit: number): number {
    if (limit <= 0x100000000) return Math.floor((this.next() / 0x100000000) * limit);
    return Math.floor(((this.next() * 0x200000 + (this.next() >>> 11)) / 0x20000000000000) * limit);
  }

  /** A whole number from `first` to `last`, both included. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability * 0x100000000;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }
}
