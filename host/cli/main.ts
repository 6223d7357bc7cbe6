#!/usr/bin/env node
/** The `corral` command: this process's arguments and streams. */

import { escapeText, OutputClosed, reasonOf, type Terminal } from './output.js';
import { BROKEN_PIPE, run } from './program.js';

class ProcessTerminal implements Terminal {
  /** How standard output failed. */
  failure: NodeJS.ErrnoException | undefined;

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
    this.note(`corral: ${line}`);
  }

  note(line: string): void {
    process.stderr.write(`${escapeText(line)}\n`);
  }
}

const terminal = new ProcessTerminal();
// Not before: that a write failed is only told afterwards.
process.on('exit', () => {
  if (terminal.failure === undefined) return;
  if (terminal.failure.code === 'EPIPE') {
    process.exitCode ||= BROKEN_PIPE;
  } else {
    terminal.complain(`Standard output: ${reasonOf(terminal.failure)}`);
    process.exitCode = 1;
  }
});
const exitCode = await run(process.argv.slice(2), terminal);
await Promise.all(
  [process.stdout, process.stderr].map(
    (stream) =>
      new Promise<void>((flushed) => {
        stream.write('', () => flushed());
      }),
  ),
);
// Not by running out of work: then Node gives up its signal handlers first, and a late signal would spoil the status.
process.exit(exitCode);
