/** A program of the command line as a process: its name, its streams, its exit status. */

import { writeSync } from 'node:fs';
import { basename } from 'node:path';
import { systemErrorCode } from '../errors.js';
import { BROKEN_PIPE, errorLine, escapeText, OutputClosed, reasonOf, type Terminal } from './output.js';

/** Descriptor of standard output. */
const STDOUT = 1;

type StreamName = 'stdout' | 'stderr';

/** One of the programs. */
export interface Program {
  readonly name: string;
  /** QEMU's program that it is when a link of that name is called. */
  readonly standsFor: string;
  /** Never throws; resolves to the exit status. */
  run(args: readonly string[], terminal: Terminal): Promise<number>;
  /** What is said when nothing is left that could go on, though `run` has come to no end. */
  readonly stuck: string;
}

/** Runs the program with this process's arguments, and ends the process. */
export async function runProcess(program: Program): Promise<never> {
  const called = basename(process.argv[1] ?? '');
  const terminal = new ProcessTerminal(called === program.standsFor ? program.standsFor : program.name);
  process.on('uncaughtException', (error) => {
    terminal.complain(errorLine(error));
    process.exit(1);
  });
  // Not before: that a write failed is only told afterwards.
  process.on('exit', () => {
    if (process.exitCode === undefined) {
      // Nobody called for the end: whoever was to answer has not.
      terminal.complain(program.stuck);
      process.exitCode = 1;
    }
    if (terminal.failure?.code === 'EPIPE') {
      process.exitCode ||= BROKEN_PIPE;
    } else if (terminal.failure !== undefined) {
      terminal.complain(`Standard output: ${reasonOf(terminal.failure)}`);
      process.exitCode = 1;
    }
  });
  const exitCode = await program.run(process.argv.slice(2), terminal);
  await terminal.flush();
  // Not by running out of work: then Node gives up its signal handlers first, and a late signal would spoil the status.
  process.exit(exitCode);
}

/** The process's own streams. */
class ProcessTerminal implements Terminal {
  /** How standard output failed. */
  failure: NodeJS.ErrnoException | undefined;
  /** What has been asked for of them: Node loads much for a stream, more than most verbs need in all. */
  private readonly used = new Map<StreamName, NodeJS.WriteStream>();

  constructor(readonly program: string) {
    this.watch('stdout', (error) => {
      this.failure ??= error;
    });
    this.watch('stderr', () => {});
  }

  get columns(): number | undefined {
    return process.stdout.isTTY ? process.stdout.columns : undefined;
  }

  print(text: string): void {
    if (this.failure !== undefined) throw new OutputClosed();
    // Nothing may overtake what waits in the stream.
    const left = this.used.has('stdout') ? text : this.printAtOnce(text);
    if (left.length > 0) process.stdout.write(left);
  }

  complain(line: string): void {
    this.note(`${this.program}: ${line}`);
  }

  note(line: string): void {
    process.stderr.write(`${escapeText(line)}\n`);
  }

  /** Ends when everything has been written, or cannot be. */
  async flush(): Promise<void> {
    await Promise.all([...this.used.values()].map(flush));
  }

  /** Returns what is left: of a pipe that is full and does not wait. */
  private printAtOnce(text: string): Uint8Array {
    let left = Buffer.from(text);
    try {
      while (left.length > 0) left = left.subarray(writeSync(STDOUT, left));
    } catch (error) {
      if (systemErrorCode(error) === 'EAGAIN') return left;
      this.failure = error as NodeJS.ErrnoException;
    }
    return left.subarray(left.length);
  }

  /** Whoever asks for the stream first gets it with somebody who hears of its errors. */
  private watch(name: StreamName, failed: (error: NodeJS.ErrnoException) => void): void {
    const property = Object.getOwnPropertyDescriptor(process, name) as PropertyDescriptor & {
      get(): NodeJS.WriteStream;
    };
    const get = (): NodeJS.WriteStream => {
      const stream = this.used.get(name) ?? property.get.call(process).on('error', failed);
      this.used.set(name, stream);
      return stream;
    };
    Object.defineProperty(process, name, { ...property, get });
  }
}

function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}
