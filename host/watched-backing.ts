/** The file of a disk behind an image, which is only read: reads of its guest's bytes are events of the image's injector. */

import type { BlockFile } from './block-file.js';
import { CorralError } from './errors.js';
import type { FaultFile } from './fault-file.js';
import { StructureTracker } from './structure-tracker.js';

const EVENT = 'read_backing_aio';
/** A scratch buffer is of the image in front: nothing is written here. */
const GUESTS: ReadonlySet<string> = new Set(['read_aio', 'read_compressed', 'cow_read']);

export class WatchedBacking implements BlockFile {
  readonly readOnly = true;
  private readonly tracker: StructureTracker | undefined;

  /**
   * @param file belongs to this one from here on
   * @param image the file of the image in front of it
   * @param format what this file holds
   */
  constructor(
    private readonly file: BlockFile,
    private readonly image: FaultFile,
    format: 'raw' | 'qcow2',
  ) {
    this.tracker = format === 'qcow2' ? new StructureTracker() : undefined;
  }

  get zeroBeyondEnd(): boolean {
    return this.file.zeroBeyondEnd;
  }

  get identity(): string | undefined {
    return this.file.identity;
  }

  get location(): string | undefined {
    return this.file.location;
  }

  size(): Promise<number> {
    return this.file.size();
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const events = this.tracker?.beforeRead(offset, target) ?? ['read_aio'];
    const isGuests = events.some((event) => GUESTS.has(event));
    // For the rest of a cluster that is written in part.
    if (isGuests) await this.image.announce(this.image.isScratch(target) ? ['cow_read', EVENT] : [EVENT]);
    await this.file.read(offset, target);
    this.tracker?.afterRead(offset, target);
  }

  async write(): Promise<void> {
    throw new CorralError('ERR_READ_ONLY');
  }

  async writeZeroes(): Promise<void> {
    throw new CorralError('ERR_READ_ONLY');
  }

  async discard(): Promise<void> {
    throw new CorralError('ERR_READ_ONLY');
  }

  async truncate(): Promise<void> {
    throw new CorralError('ERR_READ_ONLY');
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
