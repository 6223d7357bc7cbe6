/**
 * One boot of one virtual machine: QEMU without KVM, and virtiofsd for the file trees that the guest shares.
 *
 * The guest's root is this machine's own file tree below a layer in the guest's memory, so every program that is
 * installed here is there, and nothing that the guest does to it stays. Only the shared folder is written through.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeInitramfs } from './initramfs.js';
import { type Kernel, repository } from './kernel.js';

/** What to boot. */
export interface GuestOptions {
  readonly kernel: Kernel;
  /** A folder of the host that the guest can write; it has the same path in the guest, and `$SHARED` names it. */
  readonly shared: string;
  /** The guest's memory in MiB. */
  readonly memoryMiB?: number;
  /** The size limit in MiB of the guest's own memory file system on `/mnt` (`$SCRATCH`). */
  readonly scratchMiB?: number;
  readonly cpus?: number;
  /** Kernel modules to load at boot. */
  readonly modules?: readonly string[];
}

/** What a job that ended, or ran into its time limit, left behind. */
export interface JobResult {
  /** The exit status of the script; 124 when its time was up. */
  readonly status: number;
  readonly timedOut: boolean;
  readonly seconds: number;
  /** What the script wrote to standard output and standard error. */
  readonly output: string;
}

/** The virtual machine itself ended, or never came up; no judgement on the job that it was running. */
export class GuestDied extends Error {}

interface Job {
  readonly id: number;
  readonly output: Buffer[];
  readonly onOutput: ((chunk: Buffer) => void) | undefined;
  readonly settle: (result: JobResult | GuestDied) => void;
}

const BOOT_SECONDS = 120;
/** How much longer than a job's time limit the host waits before it takes the guest for stuck. */
const GRACE_SECONDS = 20;
const RECORD_START = 0x1e;
const LINE_END = 0x0a;
/** Where the newer QEMU is unpacked, when this machine has an older one; see .tools/lib/qemu.mjs. */
const UNPACKED_EMULATOR = join(repository, '.cache/qemu-utils/usr/bin/qemu-system-x86_64');
const VIRTIOFSD = ['/usr/libexec/virtiofsd', '/usr/lib/qemu/virtiofsd'];

/** A processor that TCG gets through Debian's kernels with; the left out features are emulated wrongly or slowly. */
const CPU = 'Haswell-noTSX,-cx16,-erms,-pcid,-x2apic,-tsc-deadline,-invpcid';
const KERNEL_ARGUMENTS =
  'console=ttyS0 no_timer_check panic=-1 oops=panic quiet loglevel=4 edd=off nokaslr mitigations=off nowatchdog random.trust_cpu=on tsc=reliable';

/** A booted virtual machine that runs one job at a time. */
export class Guest {
  /** How long the guest's kernel and its scripts took, in seconds since the start of QEMU. */
  bootSeconds = 0;
  private readonly children: ChildProcess[] = [];
  private readonly server: Server = createServer();
  private socket: Socket | undefined;
  private received: Buffer = Buffer.alloc(0);
  private job: Job | undefined;
  private lastJob = 0;
  private dead = false;
  private qemuErrors = '';
  private onReady: (() => void) | undefined;
  private readonly removeFiles = (): void => {
    for (const child of this.children) child.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  };

  private constructor(private readonly folder: string) {
    process.once('exit', this.removeFiles);
  }

  /**
   * Starts a virtual machine and waits until it takes jobs.
   *
   * @throws GuestDied with the end of the kernel's log when it does not come up.
   */
  static async boot(options: GuestOptions): Promise<Guest> {
    const guest = new Guest(await mkdtemp(join(tmpdir(), 'corral-vm-')));
    try {
      await guest.start(options);
      return guest;
    } catch (error) {
      await guest.stop();
      throw error;
    }
  }

  /** False once the machine has ended, for whatever reason. */
  get alive(): boolean {
    return !this.dead;
  }

  /**
   * Runs a bash script as root.
   *
   * @param seconds the script's time limit. When the guest cannot even stop a script in time it is switched off.
   * @throws GuestDied when the machine ends meanwhile.
   */
  async run(script: string, seconds: number, onOutput?: (chunk: Buffer) => void): Promise<JobResult> {
    if (this.job !== undefined) throw new Error('a guest runs one job at a time');
    if (this.dead) throw this.death('the virtual machine is off');
    const id = ++this.lastJob;
    const started = Date.now();
    let timer: NodeJS.Timeout | undefined;
    const result = await new Promise<JobResult | GuestDied>((settle) => {
      this.job = { id, output: [], onOutput, settle };
      timer = setTimeout(() => this.giveUp(started), (seconds + GRACE_SECONDS) * 1000);
      this.socket?.write(`${id} ${seconds} ${Buffer.from(script).toString('base64')}\n`);
    });
    clearTimeout(timer);
    this.job = undefined;
    if (result instanceof GuestDied) throw result;
    return result;
  }

  /** Switches the machine off, without asking it, and removes its files. */
  async stop(): Promise<void> {
    this.dead = true;
    process.off('exit', this.removeFiles);
    this.socket?.destroy();
    this.server.close();
    const ended = this.children.map(
      (child) => child.exitCode ?? child.signalCode ?? new Promise((resolve) => child.once('exit', resolve)),
    );
    this.removeFiles();
    await Promise.all(ended);
  }

  /** The end of the kernel's log. */
  kernelLog(lineCount = 30): string {
    const path = join(this.folder, 'kernel.log');
    const text = existsSync(path) ? readFileSync(path, 'utf8').replaceAll('\r', '') : '';
    return text.trimEnd().split('\n').slice(-lineCount).join('\n');
  }

  private async start(options: GuestOptions): Promise<void> {
    const memoryMiB = options.memoryMiB ?? 2048;
    const initramfs = await makeInitramfs(options.kernel, {
      RELEASE: options.kernel.release,
      MODULES_FOLDER: options.kernel.modules,
      LOAD_MODULES: (options.modules ?? ['ublk_drv']).join(' '),
      SCRATCH_MIB: String(options.scratchMiB ?? Math.floor(memoryMiB / 2)),
      SHARED: options.shared,
      REPOSITORY: repository,
      GUEST_PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    });
    await writeFile(join(this.folder, 'initramfs'), initramfs);
    const rootSocket = await this.serveFiles('root', '/', 'always');
    // The host adds files while the guest runs, so the guest may not believe for long what it knows of this one.
    const sharedSocket = await this.serveFiles('shared', options.shared, 'auto');
    const jobs = await this.listen();

    const started = Date.now();
    const ready = new Promise<void>((resolve, reject) => {
      this.onReady = resolve;
      const timer = setTimeout(
        () => reject(this.death(`it did not boot within ${BOOT_SECONDS} s`)),
        BOOT_SECONDS * 1000,
      );
      timer.unref();
      this.launch(existsSync(UNPACKED_EMULATOR) ? UNPACKED_EMULATOR : 'qemu-system-x86_64', [
        ...['-machine', 'q35,memory-backend=memory', '-accel', 'tcg,thread=multi,tb-size=256', '-cpu', CPU],
        ...['-smp', String(options.cpus ?? Math.min(4, availableParallelism())), '-m', String(memoryMiB)],
        // virtiofsd reads and writes the guest's memory itself, so the two must share it.
        ...['-object', `memory-backend-memfd,id=memory,size=${memoryMiB}M,share=on`],
        ...['-nodefaults', '-no-user-config', '-nographic', '-no-reboot', '-monitor', 'none'],
        ...['-kernel', options.kernel.image, '-initrd', join(this.folder, 'initramfs'), '-append', KERNEL_ARGUMENTS],
        ...['-chardev', `file,id=log,path=${join(this.folder, 'kernel.log')}`, '-serial', 'chardev:log'],
        ...['-chardev', `socket,id=root,path=${rootSocket}`],
        ...['-device', 'vhost-user-fs-pci,queue-size=1024,chardev=root,tag=root'],
        ...['-chardev', `socket,id=shared,path=${sharedSocket}`],
        ...['-device', 'vhost-user-fs-pci,queue-size=1024,chardev=shared,tag=shared'],
        ...['-chardev', `socket,id=jobs,path=${jobs}`, '-device', 'virtio-serial-pci'],
        ...['-device', 'virtserialport,chardev=jobs,name=jobs', '-device', 'virtio-rng-pci'],
      ]).once('exit', () => {
        this.dead = true;
        reject(this.death('it ended before it was ready'));
        this.job?.settle(this.death('it ended without a word'));
      });
    });
    await ready;
    this.bootSeconds = (Date.now() - started) / 1000;
  }

  /** Starts a virtiofsd; either the C program of QEMU 7 or its successor in Rust. */
  private async serveFiles(name: string, source: string, cache: 'always' | 'auto'): Promise<string> {
    const program = VIRTIOFSD.find((path) => existsSync(path));
    if (program === undefined) {
      throw new Error('the virtual machine needs virtiofsd: apt-get install qemu-system-x86 (Debian 13: virtiofsd)');
    }
    const socket = join(this.folder, `${name}.socket`);
    const options = program.includes('/libexec/')
      ? [`--shared-dir=${source}`, '--sandbox=chroot', `--cache=${cache}`, '--xattr']
      : [
          '-o',
          `source=${source}`,
          '-o',
          'sandbox=chroot',
          '-o',
          `cache=${cache}`,
          '-o',
          'xattr',
          '--thread-pool-size=0',
        ];
    const log = openSync(join(this.folder, `${name}.log`), 'w');
    const child = this.launch(program, [`--socket-path=${socket}`, ...options], log);
    closeSync(log);
    for (let tries = 0; !existsSync(socket); tries++) {
      if (child.exitCode !== null || tries > 500) {
        const text = readFileSync(join(this.folder, `${name}.log`), 'utf8').trim();
        throw new Error(`virtiofsd did not start: ${text.split('\n').at(-1)}`);
      }
      await sleep(10);
    }
    return socket;
  }

  /** Starts a program that does not outlive this process, whatever happens to this process. */
  private launch(program: string, options: readonly string[], log?: number): ChildProcess {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...options], {
      stdio: ['ignore', log ?? 'ignore', log ?? 'pipe'],
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.qemuErrors += chunk.toString();
    });
    child.on('error', (error) => {
      this.qemuErrors += error.message;
    });
    this.children.push(child);
    return child;
  }

  private async listen(): Promise<string> {
    const path = join(this.folder, 'jobs.socket');
    this.server.on('connection', (socket) => {
      this.socket = socket;
      socket.on('data', (chunk: Buffer) => this.receive(chunk));
      // The machine's end shows as the end of its process.
      socket.on('error', () => {});
    });
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(path, resolve);
    });
    return path;
  }

  private receive(chunk: Buffer): void {
    this.received = Buffer.concat([this.received, chunk]);
    while (this.received.length > 0) {
      const start = this.received.indexOf(RECORD_START);
      this.takeOutput(start < 0 ? this.received : this.received.subarray(0, start));
      this.received = start < 0 ? Buffer.alloc(0) : this.received.subarray(start);
      const end = this.received.indexOf(LINE_END);
      if (end < 0) return;
      const line = this.received.subarray(0, end + 1);
      this.received = this.received.subarray(end + 1);
      if (!this.takeRecord(line.toString())) this.takeOutput(line);
    }
  }

  private takeOutput(chunk: Buffer): void {
    if (chunk.length === 0 || this.job === undefined) return;
    this.job.output.push(chunk);
    this.job.onOutput?.(chunk);
  }

  /** Returns false when the line is a job's own output that happens to start with the same byte. */
  private takeRecord(line: string): boolean {
    if (/^\x1e\{"ready":/.test(line)) {
      this.onReady?.();
      return true;
    }
    const [, id, status, milliseconds] = /^\x1e\{"id":(\d+),"status":(\d+),"milliseconds":(\d+)\}$/m.exec(line) ?? [];
    if (this.job === undefined || Number(id) !== this.job.id) return false;
    this.job.settle(jobResult(this.job, Number(status), Number(milliseconds) / 1000));
    return true;
  }

  private giveUp(started: number): void {
    this.dead = true;
    for (const child of this.children) child.kill('SIGKILL');
    if (this.job === undefined) return;
    this.takeOutput(Buffer.from(`\nthe guest was stuck and was switched off; its kernel said:\n${this.kernelLog()}\n`));
    this.job.settle(jobResult(this.job, 124, (Date.now() - started) / 1000));
  }

  private death(what: string): GuestDied {
    const detail = [this.qemuErrors.trim(), this.kernelLog()].filter((text) => text !== '').join('\n');
    return new GuestDied(`the virtual machine died: ${what}${detail === '' ? '' : `\n${detail}`}`);
  }
}

function jobResult(job: Job, status: number, seconds: number): JobResult {
  // 124 is what timeout(1) says; 137 when the script did not heed its first signal.
  return { status, timedOut: status === 124 || status === 137, seconds, output: Buffer.concat(job.output).toString() };
}
