#!/usr/bin/env node
/** The `corral` command. Called by a link named `qemu-img` it is that program. */

import { runProcess } from './process-terminal.js';
import { run } from './program.js';

void runProcess({
  name: 'corral',
  standsFor: 'qemu-img',
  run,
  stuck: 'Internal error: the command came to no end',
});
