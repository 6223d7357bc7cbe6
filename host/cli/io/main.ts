#!/usr/bin/env node
/** The `corral-io` command. Called by a link named `qemu-io` it is that program. */

import { createInterface } from 'node:readline';
import { runProcess } from '../process-terminal.js';
import { runShell } from './program.js';

async function* linesOfInput(): AsyncGenerator<string> {
  yield* createInterface({ input: process.stdin, terminal: false });
}

void runProcess({
  name: 'corral-io',
  standsFor: 'qemu-io',
  run: (args, terminal) => runShell(args, terminal, linesOfInput()),
  stuck: 'A request is held at a breakpoint, and nothing is left that could resume it',
});
