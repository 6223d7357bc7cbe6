/** One open file for several users, as the private file system gives a file to one only. */

import type { BlockFile } from '../host/block-file.js';
import { CorralError } from '../host/errors.js';

/** What another user does with a file that somebody else opened, and closes. */
export class SharedFile implements BlockFile {
  readonly zeroBeyondEnd: boolean;
  readonly identity: string | undefined;
  readonly location: string | undefined;

  /** @param readOnly this user only reads */
  constructor(
    private readonly file: BlockFile,
    readonly readOnly: boolean = file.readOnly,
  ) {
    this.zeroBeyondEnd = file.zeroBeyondEnd;
    this.identity = file.identity;
    this.location = file.location;
  }

  size(): Promise<number> {
    return this.file.size();
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.file.read(offset, target);
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.refuseReadOnly();
    await this.file.write(offset, pieces);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.refuseReadOnly();
    await this.file.writeZeroes(offset, length);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.refuseReadOnly();
    await this.file.discard(offset, length);
  }

  async truncate(length: number): Promise<void> {
    this.refuseReadOnly();
    await this.file.truncate(length);
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  async close(): Promise<void> {}

  private refuseReadOnly(): void {
    if (this.readOnly) throw new CorralError('ERR_READ_ONLY', { reason: 'The file is open read-only' });
  }
}
