/** A file whose requests fail or wait as an error injector says. The engine on it does not know. */

import type { BlockFile, FileExtent } from './block-file.js';
import type { FaultInjector } from './fault-injector.js';
import { StructureTracker } from './structure-tracker.js';

export class FaultFile implements BlockFile {
  private readonly tracker: StructureTracker | undefined;

  /**
   * @param file belongs to this one from here on
   * @param format what the file holds: of a qcow2 image's I/O the injector learns what it is for
   */
  constructor(
    private readonly file: BlockFile,
    private readonly injector: FaultInjector,
    format: 'raw' | 'qcow2',
  ) {
    this.tracker = format === 'qcow2' ? new StructureTracker() : undefined;
  }

  get zeroBeyondEnd(): boolean {
    return this.file.zeroBeyondEnd;
  }

  get readOnly(): boolean {
    return this.file.readOnly;
  }

  get identity(): string | undefined {
    return this.file.identity;
  }

  get location(): string | undefined {
    return this.file.location;
  }

  extentAt(offset: number): FileExtent | undefined {
    return this.file.extentAt?.(offset);
  }

  size(): Promise<number> {
    return this.file.size();
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await this.announce(this.tracker?.beforeRead(offset, target) ?? ['read_aio']);
    this.check('read', offset, target.length);
    await this.file.read(offset, target);
    this.tracker?.afterRead(offset, target);
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    await this.announce(this.tracker?.beforeWrite(offset, pieces) ?? ['write_aio']);
    await this.announce(['pwritev']);
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.check('write', offset, length);
    await this.file.write(offset, pieces);
    this.tracker?.afterWrite(offset, pieces);
    await this.announce(['pwritev_done']);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.announce(this.tracker === undefined ? ['pwritev_zero'] : ['cluster_alloc_space', 'pwritev_zero']);
    this.check('write-zeroes', offset, length);
    await this.file.writeZeroes(offset, length);
    await this.announce(['pwritev_done']);
  }

  async discard(offset: number, length: number): Promise<void> {
    if (this.tracker !== undefined) await this.announce(['cluster_free']);
    this.check('discard', offset, length);
    await this.file.discard(offset, length);
  }

  truncate(length: number): Promise<void> {
    return this.file.truncate(length);
  }

  async flush(): Promise<void> {
    await this.announce(['flush_to_os']);
    await this.announce(['flush_to_disk']);
    this.check('flush', 0, 0);
    await this.file.flush();
  }

  /** Nothing may be held for ever: whoever closes the file has waited for what was under way. */
  async close(): Promise<void> {
    await this.file.close();
  }

  /** The bytes belong to the engine, which fills the rest of a cluster with them. */
  isScratch(bytes: Uint8Array): boolean {
    return this.tracker?.isPrivate(bytes) ?? false;
  }

  /** Errors say which file they are about, as those of the file below. */
  private check(...request: Parameters<FaultInjector['check']>): void {
    try {
      this.injector.check(...request);
    } catch (error) {
      throw Object.assign(error as Error, { path: this.location });
    }
  }

  /** Tells the injector of each event. */
  async announce(events: readonly string[]): Promise<void> {
    for (const event of events) if (!this.injector.ignores(event)) await this.injector.announce(event);
  }
}
