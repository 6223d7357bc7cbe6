/** What happened, as a hash that two runs can compare, and as lines for a reader. */

/** Takes every event of a seed. Numbers only go into the hash: no text is made unless somebody reads it. */
export class Trace {
  private state = 0x811c9dc5 | 0;
  private time = 0;

  /** @param print takes the lines; without it only the hash is kept */
  constructor(private readonly print?: (line: string) => void) {}

  /** Eight hexadecimal digits over all events so far. */
  get hash(): string {
    return (this.state >>> 0).toString(16).padStart(8, '0');
  }

  event(name: string, first = 0, second = 0, third = 0): void {
    this.time++;
    this.mix(name.length * 31 + name.charCodeAt(0));
    this.mix(first);
    this.mix(second);
    this.mix(third);
    this.print?.(`${String(this.time).padStart(6)} ${name} ${first} ${second} ${third}`);
  }

  /** For the reader only. */
  note(text: () => string): void {
    this.print?.(`       ${text()}`);
  }

  private mix(value: number): void {
    const low = Math.imul(this.state ^ (value | 0), 0x01000193);
    this.state = Math.imul(low ^ (low >>> 15) ^ Math.floor(value / 0x100000000), 0x01000193);
  }
}

/** The seed found something wrong; the message says what. */
export class SimulationFailure extends Error {
  override readonly name = 'SimulationFailure';
}
