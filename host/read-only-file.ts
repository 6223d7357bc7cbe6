/** What files have in common that can only be read. */

import type { BlockFile } from './block-file.js';
import { CorralError } from './errors.js';

export abstract class ReadOnlyFile implements BlockFile {
  readonly readOnly = true;

  /** @param refusal what whoever wants to change the file is told */
  protected constructor(
    private readonly refusal: string,
    readonly zeroBeyondEnd = true,
  ) {}

  abstract size(): Promise<number>;

  abstract read(offset: number, target: Uint8Array): Promise<void>;

  write(): Promise<void> {
    return this.refuse();
  }

  writeZeroes(): Promise<void> {
    return this.refuse();
  }

  discard(): Promise<void> {
    return this.refuse();
  }

  truncate(): Promise<void> {
    return this.refuse();
  }

  /** There is nothing to be made durable. */
  async flush(): Promise<void> {}

  async close(): Promise<void> {}

  private async refuse(): Promise<never> {
    throw new CorralError('ERR_READ_ONLY', { reason: this.refusal });
  }
}
