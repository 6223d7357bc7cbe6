/** The one file of an inspection: it only can be read, and every byte that is read counts. */

import type { BlockFile } from '../block-file.js';
import { CorralError, cancelled } from '../errors.js';
import { ReadOnlyFile } from '../read-only-file.js';
import type { RuleId } from './rules.js';

/** What an inspection may use. */
export interface Meter {
  /** Bytes to read at most. */
  readonly maxRead: number;
  /** Milliseconds until it must be done. */
  readonly maxTime: number;
  /** Milliseconds since any moment. */
  now(): number;
  readonly signal: AbortSignal | undefined;
}

export class MeteredFile extends ReadOnlyFile {
  bytesRead = 0;
  reads = 0;
  /** The limit that ended the inspection. */
  hit: Extract<RuleId, 'limit.read' | 'limit.time'> | undefined;
  /** The file's own error. */
  failure: unknown;
  private readonly deadline: number;

  constructor(
    private readonly file: BlockFile,
    /** Bytes of the file when the inspection began; what is appended later is not looked at. */
    readonly length: number,
    private readonly meter: Meter,
  ) {
    super('An inspection changes nothing', file.zeroBeyondEnd);
    this.deadline = meter.now() + meter.maxTime;
  }

  async size(): Promise<number> {
    return this.length;
  }

  /** Rejects once a limit is hit, and from then on always. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    this.spend(target.length);
    try {
      await this.file.read(offset, target);
    } catch (error) {
      this.failure ??= error;
      throw error;
    }
  }

  /** `length` bytes from `offset` on, zeros behind the end of the file. */
  async bytes(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const target = new Uint8Array(length);
    await this.read(offset, target);
    return target;
  }

  private spend(length: number): void {
    const { signal, maxRead } = this.meter;
    if (signal?.aborted) throw cancelled(signal);
    if (this.hit === undefined && this.meter.now() > this.deadline) this.hit = 'limit.time';
    if (this.hit === undefined && this.bytesRead + length > maxRead) this.hit = 'limit.read';
    if (this.hit !== undefined) throw new CorralError('ERR_TOO_LARGE', { reason: 'A limit of the inspection was hit' });
    this.bytesRead += length;
    this.reads++;
  }
}
