/** Commands about the shell itself. */

import type { Command } from '../command.js';
import { CommandFailure } from '../failures.js';
import { cNumber, numberArgument } from '../values.js';

export const quit: Command = {
  name: 'quit',
  short: 'q',
  usage: '',
  about: 'exit the program',
  count: [0],
  run: (session) => {
    session.ended = true;
    return true;
  },
};

export const aioFlush: Command = {
  name: 'aio_flush',
  usage: '',
  about: 'completes all outstanding aio requests',
  count: [0, 0],
  needs: 'read',
  run: async (session) => {
    await session.settle();
    return true;
  },
};

export const sleep: Command = {
  name: 'sleep',
  usage: '',
  about: 'waits for the given value in milliseconds',
  count: [1, 1],
  run: async (_session, { operands: [text = ''] }) => {
    const milliseconds = cNumber(text);
    if (milliseconds === undefined) throw new CommandFailure(`${text} is not a valid number`);
    await wait(milliseconds);
    return true;
  },
};

export const sigraise: Command = {
  name: 'sigraise',
  usage: 'signal',
  about: 'raises a signal',
  help: ` The program gets the signal with this number: 'sigraise 9' is a crash.`,
  count: [1, 1],
  run: async (_session, { operands: [text = ''] }) => {
    await raise(numberArgument(text));
    return true;
  },
};

export const abort: Command = {
  name: 'abort',
  usage: '',
  about: 'simulate a program crash using abort(3)',
  count: [0, 0],
  run: async () => {
    await raise('SIGABRT');
    return true;
  },
};

/** Without a handler of ours: what the system does by default happens. */
async function raise(signal: number | NodeJS.Signals): Promise<void> {
  try {
    process.kill(process.pid, signal);
  } catch {
    // No such signal: C's raise says so, and QEMU's shell goes on as if nothing were.
    return;
  }
  // It comes at once, but perhaps by way of another thread.
  if (signal !== 0) await wait(100);
}

function wait(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
