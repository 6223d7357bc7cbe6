#!/usr/bin/env node
/** The `corral` command: this process's arguments and streams. */

import { escapeText, OutputClosed, reasonOf, type Terminal } from './output.js';
import { run } from './program.js';

class ProcessTerminal implements Terminal {
  /** Standard output failed, but not because its reader left. */
  failure: NodeJS.ErrnoException | undefined;
  private closed = false;

  constructor() {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      this.closed = true;
      if (error.code !== 'EPIPE') this.failure ??= error;
    });
    process.stderr.on('error', () => {});
  }

  print(text: string): void {
    if (this.closed) throw new OutputClosed();
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
  terminal.complain(`Standard output: ${reasonOf(terminal.failure)}`);
  process.exitCode = 1;
});
process.exitCode = await run(process.argv.slice(2), terminal);
