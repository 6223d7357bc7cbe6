/** Doing a job in a child that has lost everything but the file that it is about: starting it, and being its only company. */

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { BlockFile } from '../block-file.js';
import { CorralError, type CorralErrorCode, cancelled } from '../errors.js';
import { corePath, loadCore } from './core.js';
import { nodeCodec } from './node-codec.js';
import { NodeFile } from './node-file.js';
import type { ChildOrder } from './sandbox-child.js';
import type { Collector, FoundEntry } from './sandbox-filesystem.js';
import { type Frame, FrameKind, FrameReader, frameHead, LONGEST_READ } from './sandbox-frames.js';
import { type Job, type JobAnswer, runJob } from './sandbox-job.js';
import { commandOf, levelsToTry, type SandboxLevel } from './sandbox-levels.js';

/** Path of the program for the child, in the built package. */
const CHILD = fileURLToPath(new URL('../../bundle/sandbox/main.cjs', import.meta.url));
/** Milliseconds until a child must run. */
const START_LIMIT = 30_000;
/** Milliseconds that a child gets beyond its own clock. */
const GRACE = 1000;
/** A longer time is no limit: timers do not reach as far. */
const LONGEST_TIMER = 2 ** 31 - 1 - GRACE;
/** Characters of what a child writes to standard error that are looked at. */
const LONGEST_COMPLAINT = 1000;

export interface SandboxOptions {
  /** Which level; default auto: the strongest that works here. */
  level?: SandboxLevel | 'auto' | undefined;
  /** No level below this one. Default: wasm. */
  least?: SandboxLevel | undefined;
  /** Milliseconds from the start of the work until it is killed; may be infinite. */
  maxTime: number;
  /** Takes what the job tells beside its answer. It comes from the child: nothing about it is certain but its types. */
  collector?: Collector;
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

async function runHere<J extends Job>(
  job: J,
  file: BlockFile,
  { signal, collector = DEAF }: SandboxOptions,
): Promise<JobAnswer<J>> {
  return runJob(job, { file, core: loadCore(), codec: nodeCodec, signal, collector });
}

/** For jobs that tell nothing beside their answer. */
const DEAF: Collector = { entry: async () => {}, data: async () => {} };

/** What `node -e` gets: it reads a length and that many bytes of program, and runs that. */
const BOOTSTRAP = `const{readSync}=require('fs');const take=n=>{const b=Buffer.alloc(n);for(let d=0;d<n;){const c=readSync(0,b,d,n-d,null);
if(c===0)process.exit(1);d+=c}return b};const code=take(take(4).readUInt32LE()).toString();
new(require('vm').Script)('(function(require,module,exports){'+code+'\\n})',{filename:'sandbox'}).runInThisContext()(require,{},{})`;

async function runIn(
  level: Exclude<SandboxLevel, 'wasm'>,
  job: Job,
  file: BlockFile,
  { maxTime, signal, collector = DEAF }: SandboxOptions,
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
  return new Conversation(child, file, { level, maxTime, signal, collector }).run(order);
}

/** All that is said between a child and its parent. */
class Conversation {
  private readonly frames = new FrameReader();
  private complaint = '';
  private isReady = false;
  private isReading = false;
  private timer: NodeJS.Timeout | undefined;
  private readonly ended: Promise<unknown>;
  private resolve: (answer: unknown) => void = () => {};
  private reject: (error: unknown) => void = () => {};

  constructor(
    private readonly child: ChildProcess,
    private readonly file: BlockFile,
    private readonly options: {
      readonly level: SandboxLevel;
      readonly maxTime: number;
      readonly signal: AbortSignal | undefined;
      readonly collector: Collector;
    },
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
    const heard = this.listen(child.stdout as Readable);
    // Its last words may still be under way.
    child.on('close', (status, killer) => void heard.then(() => this.reject(this.deathOf(status, killer))));
    child.stderr?.on('data', (chunk: Buffer) => {
      this.complaint = (this.complaint + chunk.toString('latin1')).slice(0, LONGEST_COMPLAINT);
    });
    // A child that is gone is told of by its end.
    child.stdin?.on('error', () => {});
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

  /** One frame after the other: while one is dealt with, the pipe makes the child wait. */
  private async listen(output: Readable): Promise<void> {
    try {
      for await (const chunk of output) for (const frame of this.frames.take(chunk as Buffer)) await this.hear(frame);
    } catch (error) {
      this.reject(error instanceof SyntaxError || error instanceof RangeError ? this.nonsense() : error);
    }
  }

  private async hear({ kind, payload }: Frame): Promise<void> {
    const { collector } = this.options;
    switch (kind) {
      case FrameKind.Ready:
        this.begin();
        break;
      case FrameKind.Read:
        // Not waited for: its end must be noticed. Who asks for more than one at once is none of ours.
        if (this.isReading) this.reject(this.nonsense());
        else void this.readFor(payload);
        break;
      case FrameKind.Entry:
        await collector.entry(foundEntry(JSON.parse(Buffer.from(payload).toString())));
        break;
      case FrameKind.Data:
        await collector.data(payload);
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

  /** From here on its time counts. */
  private begin(): void {
    this.isReady = true;
    clearTimeout(this.timer);
    const { maxTime } = this.options;
    if (maxTime <= LONGEST_TIMER) this.timer = setTimeout(() => this.resolve(undefined), maxTime + GRACE);
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
    this.isReading = true;
    const failure = await this.file.read(offset, bytes).then(
      () => undefined,
      (error: unknown) => failureText(error),
    );
    this.isReading = false;
    if (failure === undefined) this.say(FrameKind.Bytes, bytes);
    else this.say(FrameKind.ReadFailed, Buffer.from(failure));
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

/** An error for the child: its code and its reason. */
function failureText(error: unknown): string {
  const code = error instanceof CorralError ? error.code : 'ERR_IO';
  return JSON.stringify({ code, reason: error instanceof Error ? error.message : String(error) });
}

/** What a child rejected its job with. It may claim what it likes, but only that it has failed. */
function failureIn(payload: Uint8Array): CorralError {
  const { code, path, reason } = JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>;
  const details = { reason: String(reason), ...(path === undefined ? {} : { path: String(path) }) };
  return new CorralError(String(code) as CorralErrorCode, details);
}

/** Ends when the child has. */
async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  await new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}

const KINDS: readonly unknown[] = ['file', 'directory', 'symlink', 'other', 'damaged'];

/** Throws `SyntaxError` for what is none: by its path a caller may make files. */
function foundEntry(value: Record<string, unknown>): FoundEntry {
  const { path, kind, id, size, modified, mode, uid, gid, target } = value;
  const isName = (name: unknown): boolean =>
    typeof name === 'string' && !/[/\0]/.test(name) && !['', '.', '..'].includes(name);
  const isNumber = (number: unknown): boolean => number === undefined || Number.isFinite(number);
  const isRight =
    Array.isArray(path) &&
    path.every(isName) &&
    KINDS.includes(kind) &&
    [size, id].every((number) => Number.isSafeInteger(number)) &&
    [modified, mode, uid, gid].every(isNumber) &&
    (target === undefined || typeof target === 'string');
  if (!isRight) throw new SyntaxError('no entry of a file system');
  return value as unknown as FoundEntry;
}
