/** Looking into the disk of an image: `IMAGE[@SNAPSHOT][:PARTITION]`, and the sandbox in which its file systems are read. */

import { existsSync } from 'node:fs';
import { CorralError } from '../errors.js';
import { runSandboxed } from '../node/sandbox.js';
import type { Collector, FileSystemJob } from '../node/sandbox-filesystem.js';
import type { JobAnswer } from '../node/sandbox-job.js';
import { ReadOnlyFile } from '../read-only-file.js';
import { FORCE_SHARE, IMAGE, NO_BACKING } from './common-options.js';
import { type Disk, openDisk } from './disk.js';
import { text } from './option-table.js';
import { CommandError, reasonOf, type Terminal } from './output.js';
import { SANDBOX, type SandboxChoice, sandboxOptions } from './sandbox-options.js';
import { stopSignal } from './signals.js';

/** Options of every verb that looks into a disk. */
export const GUEST = {
  ...IMAGE,
  snapshot: text('-l, --snapshot SNAPSHOT', 'the disk as an internal snapshot has it, by id or name'),
  ...FORCE_SHARE,
  ...NO_BACKING,
  ...SANDBOX,
};

export interface GuestOptions extends SandboxChoice {
  readonly format: string | undefined;
  readonly imageOpts: boolean;
  readonly snapshot: string | undefined;
  readonly forceShare: boolean;
  readonly noBacking: boolean;
}

/** What a part of a disk is called. */
export interface GuestName {
  readonly image: string;
  readonly snapshot: string | undefined;
  readonly partition: number | undefined;
}

/**
 * Reads `IMAGE[@SNAPSHOT][:PARTITION]`. As much of it is the image's name as there is a file of; with `isOptions` only the
 * partition is told apart.
 */
export function parseGuestName(given: string, { isOptions = false } = {}): GuestName {
  const nothing = { snapshot: undefined, partition: undefined };
  if (!isOptions && existsSync(given)) return { image: given, ...nothing };
  const numbered = /^(.+):(\d{1,9})$/s.exec(given);
  const rest = numbered?.[1] ?? given;
  const partition = numbered === null ? undefined : Number(numbered[2]);
  const tagged = isOptions || existsSync(rest) ? null : /^(.+?)@([^/]+)$/s.exec(rest);
  return { image: tagged?.[1] ?? rest, snapshot: tagged?.[2], partition };
}

/** Opens what is named, does the job in a sandbox, closes it. Throws `CommandError`, and what the collector throws. */
export async function lookInto<J extends FileSystemJob>(
  given: string,
  options: GuestOptions,
  jobOf: (partition: number | undefined) => J,
  terminal: Terminal,
  collector?: Collector,
): Promise<JobAnswer<J>> {
  const name = parseGuestName(given, { isOptions: options.imageOpts });
  const snapshot = options.snapshot ?? name.snapshot;
  const disk = await openDisk(name.image, { ...options, snapshot });
  const { signal, release } = stopSignal();
  try {
    const { answer } = await runSandboxed(jobOf(name.partition), new DiskFile(disk), {
      ...sandboxOptions(options),
      maxTime: Number.POSITIVE_INFINITY,
      signal,
      ...(collector === undefined ? {} : { collector }),
    });
    // Without a limit there is no end but its own.
    const whole = answer as JobAnswer<J>;
    if ('remarks' in whole) for (const remark of whole.remarks) terminal.note(`Note: ${remark}`);
    return whole;
  } catch (error) {
    if (!(error instanceof CorralError)) throw error;
    const { path } = error.details;
    throw new CommandError(path === undefined ? reasonOf(error) : `'${path}': ${reasonOf(error)}`, 1, { cause: error });
  } finally {
    release();
    await disk.close();
  }
}

/** A disk as a file that can only be read. */
class DiskFile extends ReadOnlyFile {
  constructor(private readonly disk: Disk) {
    super('The disk can only be read here');
  }

  async size(): Promise<number> {
    return this.disk.size;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.disk.size - offset));
    if (inside > 0) await this.disk.read(offset, target.subarray(0, inside));
    target.fill(0, inside);
  }
}
