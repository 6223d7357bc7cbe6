/** Doing a job in a child that has lost everything but the file that it is about: starting it, and being its only company. */

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { BlockFile } from '../block-file.js';
import { CorralError, type CorralErrorCode, cancelled } from '../errors.js';
import { corePath, loadCore } from './core.js';
import { nodeCodec } from './node-codec.js';
import { NodeFile } from './node-file.js';
import type { ChildOrder } from './sandbox-child.js';
import { type Frame, FrameKind, FrameReader, frameHead, LONGEST_READ } from './sandbox-frames.js';
import { type Job, type JobAnswer, runJob } from './sandbox-job.js';
import { commandOf, levelsToTry, type SandboxLevel } from './sandbox-levels.js';

/** Path of the program for the child, in the built package. */
const CHILD = fileURLToPath(new URL('../../bundle/sandbox/main.cjs', import.meta.url));
/** Milliseconds until a child must run. */
const START_LIMIT = 30_000;
/** Milliseconds that a child gets beyond its own clock. */
const GRACE = 1000;
/** Characters of what a child writes to standard error that are looked at. */
const LONGEST_COMPLAINT = 1000;

export interface SandboxOptions {
  /** Which level; default auto: the strongest that works here. */
  level?: SandboxLevel | 'auto' | undefined;
  /** No level below this one. Default: wasm. */
  least?: SandboxLevel | undefined;
  /** Milliseconds from the start of the work until it is killed. */
  maxTime: number;
  signal?: AbortSignal | undefined;
}

/** How a job has ended. */
export interface SandboxOutcome<Answer> {
  readonly level: SandboxLevel;
  /** Undefined: it was killed because its time was over. */
  readonly answer: Answer | undefined;
}

/** The child has died, or says what makes no sense: whatever it looked at may have had a hand in it. */
export class SandboxBroken extends CorralError {
  constructor(
    readonly level: SandboxLevel,
    reason: string,
  ) {
    super('ERR_BROKEN', { reason: `The process in the sandbox ${reason}` });
  }
}

/** Why a level cannot be had here. */
class NotStarted extends Error {}

/**
 * Does the job with the file, which stays the caller's. Rejects with what the job rejects with; ERR_UNSUPPORTED when none of
 * the levels can be had; `SandboxBroken` when the child dies or says what makes no sense.
 */
export async function runSandboxed<J extends Job>(
  job: J,
  file: BlockFile,
  options: SandboxOptions,
): Promise<SandboxOutcome<JobAnswer<J>>> {
  const reasons: string[] = [];
  for (const level of levelsToTry(options.level ?? 'auto', options.least)) {
    if (level === 'wasm') return { level, answer: await runHere(job, file, options) };
    try {
      return { level, answer: (await runIn(level, job, file, options)) as JobAnswer<J> | undefined };
    } catch (error) {
      if (!(error instanceof NotStarted)) throw error;
      reasons.push(`${level}: ${error.message}`);
    }
  }
  const reason = `The sandbox that was asked for cannot be had here (${reasons.join('; ') || 'the level is too weak'})`;
  throw new CorralError('ERR_UNSUPPORTED', { reason });
}

async function runHere<J extends Job>(job: J, file: BlockFile, { signal }: SandboxOptions): Promise<JobAnswer<J>> {
  return runJob(job, { file, core: loadCore(), codec: nodeCodec, signal });
}

/** What `node -e` gets: it reads a length and that many bytes of program, and runs that. */
const BOOTSTRAP = `const{readSync}=require('fs');const take=n=>{const b=Buffer.alloc(n);for(let d=0;d<n;){const c=readSync(0,b,d,n-d,null);
if(c===0)process.exit(1);d+=c}return b};const code=take(take(4).readUInt32LE()).toString();
new(require('vm').Script)('(function(require,module,exports){'+code+'\\n})',{filename:'sandbox'}).runInThisContext()(require,{},{})`;

async function runIn(
  level: Exclude<SandboxLevel, 'wasm'>,
  job: Job,
  file: BlockFile,
  { maxTime, signal }: SandboxOptions,
): Promise<unknown> {
  if (signal?.aborted) throw cancelled(signal);
  const command = commandOf(level, BOOTSTRAP, { maxTime });
  if (command === undefined) throw new NotStarted('it was not built');
  const isOpen = file instanceof NodeFile && !file.isDirect;
  const order: ChildOrder = { job, length: await file.size(), zeroBeyondEnd: file.zeroBeyondEnd, isOpen };
  const child = spawn(command.program, command.args, {
    stdio: ['pipe', 'pipe', 'pipe', isOpen ? file.descriptor : 'ignore'],
    // Without its configuration, which it may not read.
    env: { OPENSSL_CONF: '' },
  });
  return new Conversation(child, file, { level, maxTime, signal }).run(order);
}

/** All that is said between a child and its parent. */
class Conversation {
  private readonly frames = new FrameReader();
  private complaint = '';
  private isReady = false;
  private timer: NodeJS.Timeout | undefined;
  private readonly ended: Promise<unknown>;
  private resolve: (answer: unknown) => void = () => {};
  private reject: (error: unknown) => void = () => {};

  constructor(
    private readonly child: ChildProcess,
    private readonly file: BlockFile,
    private readonly options: { level: SandboxLevel; maxTime: number; signal: AbortSignal | undefined },
  ) {
    this.ended = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** What the child answers; undefined when its time is over before that. The child has ended, whatever happens. */
  async run(order: ChildOrder): Promise<unknown> {
    const { child } = this;
    const { signal } = this.options;
    const onAbort = (): void => this.reject(cancelled(signal));
    signal?.addEventListener('abort', onAbort);
    this.timer = setTimeout(() => this.reject(new NotStarted('it does not start')), START_LIMIT);
    child.on('error', (error: NodeJS.ErrnoException) => this.reject(new NotStarted(error.code ?? error.message)));
    child.on('close', (status, killer) => this.reject(this.deathOf(status, killer)));
    child.stderr?.on('data', (chunk: Buffer) => {
      this.complaint = (this.complaint + chunk.toString('latin1')).slice(0, LONGEST_COMPLAINT);
    });
    // A child that is gone is told of by its end.
    child.stdin?.on('error', () => {});
    child.stdout?.on('data', (chunk: Buffer) => this.listen(chunk));
    this.order(order);
    try {
      return await this.ended;
    } finally {
      clearTimeout(this.timer);
      signal?.removeEventListener('abort', onAbort);
      await killed(child);
    }
  }

  private order(order: ChildOrder): void {
    const program = readFileSync(CHILD);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(program.length);
    this.write(length);
    this.write(program);
    this.say(FrameKind.Core, readFileSync(corePath()));
    this.say(FrameKind.Job, Buffer.from(JSON.stringify(order)));
  }

  private listen(chunk: Uint8Array): void {
    try {
      for (const frame of this.frames.take(chunk)) this.hear(frame);
    } catch {
      this.reject(this.nonsense());
    }
  }

  private hear({ kind, payload }: Frame): void {
    if (kind === FrameKind.Ready) {
      this.isReady = true;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.resolve(undefined), this.options.maxTime + GRACE);
      return;
    }
    switch (kind) {
      case FrameKind.Read:
        void this.readFor(payload);
        break;
      case FrameKind.Answer:
        this.resolve(JSON.parse(Buffer.from(payload).toString()));
        break;
      case FrameKind.Failure:
        this.reject(failureIn(payload));
        break;
      default:
        this.reject(this.nonsense());
    }
  }

  /** The child has asked for bytes of the file. */
  private async readFor(payload: Uint8Array): Promise<void> {
    if (payload.length !== 16) return this.reject(this.nonsense());
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    const [offset, length] = [view.getFloat64(0, true), view.getFloat64(8, true)];
    const isPlace = Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(offset + LONGEST_READ);
    if (!isPlace || !Number.isInteger(length) || length < 0 || length > LONGEST_READ)
      return this.reject(this.nonsense());
    const bytes = new Uint8Array(length);
    try {
      await this.file.read(offset, bytes);
      this.say(FrameKind.Bytes, bytes);
    } catch (error) {
      this.say(FrameKind.ReadFailed, Buffer.from((error as Error).message));
    }
  }

  private say(kind: FrameKind, payload: Uint8Array): void {
    this.write(frameHead(kind, payload.length));
    this.write(payload);
  }

  private write(bytes: Uint8Array): void {
    (this.child.stdin as Writable).write(bytes);
  }

  private nonsense(): Error {
    return new SandboxBroken(this.options.level, 'says what makes no sense');
  }

  private deathOf(status: number | null, killer: NodeJS.Signals | null): Error {
    const why = this.complaint.trim().split('\n').at(-1) ?? '';
    const how = killer === null ? `exit status ${status}` : killer;
    if (!this.isReady) return new NotStarted(why === '' ? how : why);
    return new SandboxBroken(this.options.level, `has died (${how})`);
  }
}

/** What a child rejected its job with. It may claim what it likes, but only that it has failed. */
function failureIn(payload: Uint8Array): CorralError {
  const { code, reason } = JSON.parse(Buffer.from(payload).toString()) as { code?: unknown; reason?: unknown };
  return new CorralError(String(code) as CorralErrorCode, { reason: String(reason) });
}

/** Ends when the child has. */
async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  await new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}
