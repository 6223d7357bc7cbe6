/** Commands for the error injector: requests are held at an event, and go on when they are told. */

import type { FaultInjector } from '../../../fault-injector.js';
import type { Command } from '../command.js';
import { CommandFailure } from '../failures.js';
import type { Session } from '../session.js';

export const breakAt: Command = {
  name: 'break',
  usage: 'event tag',
  about: 'sets a breakpoint on event and tags the stopped request as tag',
  count: [2, 2],
  needs: 'read',
  run: (session, { operands: [event = '', tag = ''] }) => {
    if (!injectorOf(session, 'Could not set breakpoint').break(event, tag)) missing('Could not set breakpoint');
    return true;
  },
};

export const removeBreak: Command = {
  name: 'remove_break',
  usage: 'tag',
  about: 'remove a breakpoint by tag',
  count: [1, 1],
  needs: 'read',
  run: (session, { operands: [tag = ''] }) => {
    const words = `Could not remove breakpoint ${tag}`;
    if (!injectorOf(session, words).removeBreak(tag)) missing(words);
    return true;
  },
};

export const resume: Command = {
  name: 'resume',
  usage: 'tag',
  about: 'resumes the request tagged as tag',
  count: [1, 1],
  needs: 'read',
  run: (session, { operands: [tag = ''] }) => {
    if (!injectorOf(session, 'Could not resume request').resume(tag)) missing('Could not resume request');
    return true;
  },
};

export const waitBreak: Command = {
  name: 'wait_break',
  usage: 'tag',
  about: 'waits for the suspension of a request',
  count: [1, 1],
  needs: 'read',
  run: async (session, { operands: [tag = ''] }) => {
    const injector = injectorOf(session, 'Could not wait for request');
    // Only a request that is under way can still come to a break.
    await Promise.race([injector.untilSuspended(tag), session.settle()]);
    if (!injector.isSuspended(tag)) missing('Could not wait for request');
    return true;
  },
};

function injectorOf({ injector }: Session, words: string): FaultInjector {
  if (injector === undefined) throw new CommandFailure(`${words}: Operation not supported`);
  return injector;
}

function missing(words: string): never {
  throw new CommandFailure(`${words}: No such file or directory`);
}
