/** What the shell's commands work in: the open disk, and the requests that have not ended. */

import { Structure } from '../../abi.js';
import { CorralError } from '../../errors.js';
import { FaultInjector } from '../../fault-injector.js';
import { requestErrorText } from '../errno-text.js';
import { CommandError, errorLine, type Terminal } from '../output.js';
import type { Disk } from './disk.js';
import type { DiskOptions } from './disk-options.js';
import type { DiskSource } from './disk-source.js';
import { openDisk } from './open-disk.js';

/** What was opened, and how. */
interface Opened {
  readonly source: DiskSource;
  readonly options: DiskOptions;
}

export class Session {
  disk: Disk | undefined;
  /** Makes requests of the open disk fail or wait. */
  injector: FaultInjector | undefined;
  /** No command is read any more. */
  ended = false;
  /** Bytes that nobody could write when a disk was closed. */
  lost = false;
  private opened: Opened | undefined;
  private readonly requests = new Set<Promise<void>>();

  constructor(readonly output: Terminal) {}

  /** How the disk is open. */
  get how(): Opened {
    return this.opened as Opened;
  }

  /**
   * Opens a disk; on failure says why and resolves to false.
   *
   * @param name how the user called it, if he did
   * @param find finds out what is meant
   */
  async open(name: string | undefined, find: () => DiskSource, options: DiskOptions): Promise<boolean> {
    try {
      const source = find();
      this.injector =
        source.faults && new FaultInjector(source.faults.rules, { onChange: (what, tag) => this.tellBreak(what, tag) });
      await this.openSource({ source, options });
      return true;
    } catch (error) {
      this.injector = undefined;
      this.complain(`can't open${name === undefined ? '' : ` device ${name}`}: `, error);
      return false;
    }
  }

  /** Opens the disk anew, with other options; when that fails says why, and it is open as it was. */
  async reopen(changed: Opened): Promise<boolean> {
    const { how, injector } = this;
    if (how.options.snapshot)
      throw new CommandError('With -s a disk cannot be opened anew: what was written would be lost');
    await this.close();
    this.injector = injector;
    try {
      await this.openSource(changed);
      return true;
    } catch (error) {
      this.complain('', error);
    }
    await this.openSource(how).catch((error: unknown) => this.complain('', error));
    return false;
  }

  /** A request that goes on while the next commands run. It must not reject. */
  start(request: Promise<void>): void {
    this.requests.add(request);
    void request.then(() => this.requests.delete(request));
  }

  /** Waits for all that were started. */
  async settle(): Promise<void> {
    await Promise.all(this.requests);
  }

  /** Closes the disk, if one is open, once nothing is under way. What is held goes on. */
  async close(): Promise<void> {
    const { disk } = this;
    if (disk === undefined) return;
    this.injector?.removeBreaks();
    await this.settle();
    this.disk = undefined;
    try {
      await disk.close();
    } catch (error) {
      this.lost = true;
      this.output.complain(`Failed to flush ${unwritten(error)}: ${requestErrorText(error)}`);
    }
    this.injector = undefined;
  }

  private async openSource(opened: Opened): Promise<void> {
    const { disk, warnings } = await openDisk(opened.source, opened.options, this.injector);
    this.disk = disk;
    this.opened = opened;
    for (const line of warnings) this.output.note(line);
  }

  private tellBreak(what: 'suspended' | 'resuming', tag: string): void {
    this.output.print(`blkdebug: ${what === 'suspended' ? 'Suspended' : 'Resuming'} request '${tag}'\n`);
  }

  private complain(prefix: string, error: unknown): void {
    const [line = '', ...more] = (error instanceof CommandError ? error.message : errorLine(error)).split('\n');
    this.output.complain(prefix + line);
    const hints = error instanceof CommandError ? error.hints : [];
    for (const next of [...more, ...hints]) this.output.note(next);
  }
}

/** What could not be written when a disk was closed: QEMU names its cache. */
function unwritten(error: unknown): string {
  const structure = error instanceof CorralError ? error.details.structureCode : undefined;
  if (structure === Structure.L2Table) return 'the L2 table cache';
  return structure === Structure.RefcountBlock ? 'the refcount block cache' : 'what was written';
}
