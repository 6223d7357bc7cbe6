#!/usr/bin/env node
/** The `corral` command: this process's arguments and streams. Called by a link named `qemu-img` it is that program. */

import module from 'node:module';
import { basename } from 'node:path';
import { errorLine, escapeText, OutputClosed, reasonOf, type Terminal } from './output.js';
import { BROKEN_PIPE, run } from './program.js';

// What was compiled once need not be compiled again, where Node can remember it (22.8).
(module as { enableCompileCache?(): void }).enableCompileCache?.();

class ProcessTerminal implements Terminal {
  /** How standard output failed. */
  failure: NodeJS.ErrnoException | undefined;
  readonly program = basename(process.argv[1] ?? '') === 'qemu-img' ? 'qemu-img' : 'corral';

  constructor() {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      this.failure ??= error;
    });
    process.stderr.on('error', () => {});
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

const terminal = new ProcessTerminal();

process.on('uncaughtException', (error) => {
  terminal.complain(errorLine(error));
  process.exit(1);
});

// Not before: that a write failed is only told afterwards.
process.on('exit', () => {
  if (process.exitCode === undefined) {
    // Nobody called for the end, and nothing is left that could go on: whoever was to answer has not.
    terminal.complain('Internal error: the command came to no end');
    process.exitCode = 1;
  }
  if (terminal.failure?.code === 'EPIPE') {
    process.exitCode ||= BROKEN_PIPE;
  } else if (terminal.failure !== undefined) {
    terminal.complain(`Standard output: ${reasonOf(terminal.failure)}`);
    process.exitCode = 1;
  }
});

async function main(): Promise<void> {
  const exitCode = await run(process.argv.slice(2), terminal);
  await Promise.all([process.stdout, process.stderr].map(flush));
  // Not by running out of work: then Node gives up its signal handlers first, and a late signal would spoil the status.
  process.exit(exitCode);
}

function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}

void main();
