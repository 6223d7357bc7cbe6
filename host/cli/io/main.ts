#!/usr/bin/env node
/** The `corral-io` command: this process's arguments and streams. Called by a link named `qemu-io` it is that program. */

import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { errorLine, escapeText, OutputClosed } from '../output.js';
import { runShell } from './program.js';
import type { ShellOutput } from './session.js';

class ProcessOutput implements ShellOutput {
  readonly program = basename(process.argv[1] ?? '') === 'qemu-io' ? 'qemu-io' : 'corral-io';
  private closed = false;

  constructor() {
    process.stdout.on('error', () => {
      this.closed = true;
    });
    process.stderr.on('error', () => {});
  }

  print(text: string): void {
    if (this.closed) throw new OutputClosed();
    process.stdout.write(text);
  }

  complain(line: string): void {
    this.note(`${this.program}: ${line}`);
  }

  note(line: string): void {
    process.stderr.write(`${escapeText(line)}\n`);
  }
}

const output = new ProcessOutput();

process.on('uncaughtException', (error) => {
  output.complain(errorLine(error));
  process.exit(1);
});

// A request that is held, and nobody left who could let it go: Node ends then.
process.on('exit', () => {
  if (process.exitCode !== undefined) return;
  output.complain('A request is held at a breakpoint, and nothing is left that could resume it');
  process.exitCode = 1;
});

async function* linesOfInput(): AsyncGenerator<string> {
  yield* createInterface({ input: process.stdin, terminal: false });
}

async function main(): Promise<void> {
  const exitCode = await runShell(process.argv.slice(2), output, linesOfInput());
  await Promise.all([process.stdout, process.stderr].map(flush));
  process.exit(exitCode);
}

function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}

void main();
