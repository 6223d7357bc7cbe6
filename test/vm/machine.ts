/**
 * A virtual machine as the tests want it: boots when first needed, runs scripts, and boots again when it must.
 *
 * A script's failure and the machine's death are different things. A script that fails has failed; but what it
 * leaves behind (a device, a mount) may not make the next one fail, so that one gets a fresh machine. A machine
 * that dies by itself is booted again once and told to run the same script; the second death is an error.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest, GuestDied, type GuestOptions, type JobResult } from './guest.js';
import { ensureKernel, type KernelSeries } from './kernel.js';

/** What a machine is made of; see {@link GuestOptions}. */
export interface MachineOptions extends Omit<GuestOptions, 'kernel' | 'shared'> {
  /** A folder to share; by default a temporary one that goes away with the machine. */
  readonly shared?: string;
  /** Gets every line that the machine has to say about itself: boots, deaths. Standard error by default. */
  readonly say?: (line: string) => void;
}

/** How one script is run. */
export interface RunOptions {
  /** The time limit of the script, without the time that a boot takes. */
  readonly seconds?: number;
  /** Gets the output while it comes. */
  readonly onOutput?: (chunk: Buffer) => void;
}

/** What a script left behind, and how often the machine died of its own meanwhile. */
export interface Outcome extends JobResult {
  readonly deaths: number;
}

const DEFAULT_SECONDS = 120;

/** A virtual machine with one of the known kernels. */
export class Machine {
  private guest: Guest | undefined;
  private readonly say: (line: string) => void;

  private constructor(
    private readonly options: GuestOptions,
    private readonly ownsShared: boolean,
    say: ((line: string) => void) | undefined,
  ) {
    this.say = say ?? ((line) => process.stderr.write(`${line}\n`));
  }

  /** Gets the kernel ready, from the network when it is not cached. The machine boots with its first script. */
  static async create(series: KernelSeries, options: MachineOptions = {}): Promise<Machine> {
    const { shared, say, ...rest } = options;
    const kernel = await ensureKernel(series);
    const folder = shared ?? (await mkdtemp(join(tmpdir(), 'corral-shared-')));
    return new Machine({ ...rest, kernel, shared: folder }, shared === undefined, say);
  }

  /** The folder of the host that has the same path in the guest and is written through. */
  get shared(): string {
    return this.options.shared;
  }

  /**
   * Runs a bash script as root in the guest; see the README for the variables that it finds.
   *
   * @throws GuestDied when the machine died twice.
   */
  async run(script: string, options: RunOptions = {}): Promise<Outcome> {
    for (let deaths = 0; ; deaths++) {
      try {
        const result = await this.runOnce(script, options);
        return { ...result, deaths };
      } catch (error) {
        await this.discard();
        if (!(error instanceof GuestDied) || deaths > 0) throw error;
        this.say(`${error.message}\nbooting it again, once`);
      }
    }
  }

  /** Switches the machine off and removes the shared folder when it is the machine's own. */
  async close(): Promise<void> {
    await this.discard();
    if (this.ownsShared) await rm(this.shared, { recursive: true, force: true });
  }

  private async runOnce(script: string, options: RunOptions): Promise<JobResult> {
    if (this.guest?.alive === false) await this.discard();
    this.guest ??= await this.boot();
    const result = await this.guest.run(script, options.seconds ?? DEFAULT_SECONDS, options.onOutput);
    if (result.status !== 0) await this.discard();
    return result;
  }

  private async boot(): Promise<Guest> {
    const guest = await Guest.boot(this.options);
    this.say(`booted Linux ${this.options.kernel.release} in ${guest.bootSeconds.toFixed(1)} s`);
    return guest;
  }

  private async discard(): Promise<void> {
    await this.guest?.stop();
    this.guest = undefined;
  }
}
