/** What the shell's commands work in: the open disk, and the requests that have not ended. */

import { CommandError, errorLine } from '../output.js';
import type { Disk } from './disk.js';
import type { DiskOptions } from './disk-options.js';
import { openDisk } from './open-disk.js';

/** Where the shell prints. */
export interface ShellOutput {
  /** The name by which the program was called. */
  readonly program: string;
  /** Standard output, as it is. */
  print(text: string): void;
  /** A line of standard error with the program's name in front. */
  complain(line: string): void;
  /** A line of standard error. */
  note(line: string): void;
}

export class Session {
  disk: Disk | undefined;
  /** No command is read any more. */
  ended = false;
  /** Bytes that nobody could write when a disk was closed. */
  lost = false;
  private readonly requests = new Set<Promise<void>>();

  constructor(readonly output: ShellOutput) {}

  /** Opens a disk; on failure says why and resolves to false. */
  async open(path: string, options: DiskOptions): Promise<boolean> {
    try {
      const { disk, warnings } = await openDisk(path, options);
      this.disk = disk;
      for (const line of warnings) this.output.note(line);
      return true;
    } catch (error) {
      this.complainOpening(path, error);
      return false;
    }
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

  /** Closes the disk, if one is open, once nothing is under way. */
  async close(): Promise<void> {
    const { disk } = this;
    if (disk === undefined) return;
    await this.settle();
    this.disk = undefined;
    try {
      await disk.close();
    } catch (error) {
      this.lost = true;
      this.output.complain(`Failed to flush what was written: ${errorLine(error)}`);
    }
  }

  private complainOpening(path: string, error: unknown): void {
    const [line = '', ...more] = (error instanceof CommandError ? error.message : errorLine(error)).split('\n');
    this.output.complain(`can't open device ${path}: ${line}`);
    for (const next of more) this.output.note(next);
  }
}
