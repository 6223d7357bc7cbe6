/** Carries out one line of the shell. */

import { CommandError } from '../output.js';
import type { Command } from './command.js';
import { alloc, discard, flush, info, length, map, truncate } from './commands/disk.js';
import { breakAt, removeBreak, resume, waitBreak } from './commands/faults.js';
import { close, open, reopen } from './commands/file.js';
import { aboutLine, helpCommand } from './commands/help.js';
import { aioRead, read, readv } from './commands/read.js';
import { abort, aioFlush, quit, sigraise, sleep } from './commands/shell.js';
import { aioWrite, write, writev } from './commands/write.js';
import { zoneCommands } from './commands/zones.js';
import { CommandFailure, UsageFailure } from './failures.js';
import type { Session } from './session.js';
import { OptionError, parseWords, splitWords } from './words.js';

const COMMANDS: readonly Command[] = [
  ...[read, readv, write, writev, aioRead, aioWrite, aioFlush, flush, discard, alloc, map, length, truncate, info],
  ...[breakAt, waitBreak, resume, removeBreak, open, close, reopen, sleep, sigraise, abort, quit],
  ...zoneCommands,
];
/** Every command. */
export const SHELL_COMMANDS = [...COMMANDS, helpCommand(COMMANDS)];

/** Resolves to whether it succeeded; what went wrong has been printed then. */
export async function runLine(session: Session, line: string): Promise<boolean> {
  const [name, ...words] = splitWords(line);
  if (name === undefined) return true;
  const { output } = session;
  const command = SHELL_COMMANDS.find((known) => known.name === name || known.short === name);
  if (command === undefined) {
    output.note(`command "${name}" not found`);
    return false;
  }
  if (!mayRun(session, command, name, words)) return false;
  try {
    const parsed =
      command.letters === undefined ? { options: [], operands: words } : parseWords(words, command.letters);
    return await command.run(session, parsed);
  } catch (error) {
    return told(session, command, name, error);
  }
}

function mayRun({ output, disk }: Session, { needs, count }: Command, name: string, words: readonly string[]): boolean {
  if (needs !== undefined && disk === undefined) {
    output.note("no file open, try 'help open'");
    return false;
  }
  const [least, most] = count;
  if (words.length < least || (most !== undefined && words.length > most)) {
    output.note(`bad argument count ${words.length} to ${name}, expected ${expectation(least, most)} arguments`);
    return false;
  }
  if (needs === 'write' && disk?.readOnly) {
    output.complain('Block node is read-only');
    return false;
  }
  return true;
}

function expectation(least: number, most: number | undefined): string {
  if (most === undefined) return `at least ${least}`;
  return least === most ? String(least) : `between ${least} and ${most}`;
}

/** Prints why a command failed. Anything else goes on its way. */
function told({ output }: Session, command: Command, name: string, error: unknown): false {
  if (error instanceof CommandError) {
    const [line = '', ...more] = error.message.split('\n');
    output.complain(line);
    for (const next of [...more, ...error.hints]) output.note(next);
  } else if (error instanceof OptionError) {
    output.note(`${name}: ${error.message}`);
    output.print(aboutLine(command, name));
  } else if (error instanceof UsageFailure) output.print(aboutLine(command, name));
  else if (!(error instanceof CommandFailure)) throw error;
  else if (error.where === 'output') output.print(`${error.message}\n`);
  else if (error.where === 'error') output.note(error.message);
  else output.complain(error.message);
  return false;
}
