/** A program of the command line as a process: its name, its streams, its exit status. */

import module from 'node:module';
import { basename } from 'node:path';
import { BROKEN_PIPE, errorLine, escapeText, OutputClosed, reasonOf, type Terminal } from './output.js';

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
  // What was compiled once need not be compiled again, where Node can remember it (22.8).
  (module as { enableCompileCache?(): void }).enableCompileCache?.();
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
  await Promise.all([process.stdout, process.stderr].map(flush));
  // Not by running out of work: then Node gives up its signal handlers first, and a late signal would spoil the status.
  process.exit(exitCode);
}

/** The process's own streams. */
class ProcessTerminal implements Terminal {
  /** How standard output failed. */
  failure: NodeJS.ErrnoException | undefined;

  constructor(readonly program: string) {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      this.failure ??= error;
    });
    process.stderr.on('error', () => {});
  }

  get columns(): number | undefined {
    return process.stdout.isTTY ? process.stdout.columns : undefined;
  }

  print(text: string): void {
    if (this.failure !== undefined) throw new OutputClosed();
    process.stdout.write(text);
  }

  complain(line: string): void {
    this.note(`${this.program}: ${line}`);
  }

  note(line: string): void {
    process.stderr.write(`${escapeText(line)}\n`);
  }
}

function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}
