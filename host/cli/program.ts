/** The command line as a function: arguments in, exit status out. Loads only the command that is asked for. */

import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import type { Context } from './context.js';
import { CommandError, errorLine, OutputClosed, type Terminal } from './output.js';

interface Verb {
  readonly summary: string;
  load(): Promise<(command: Command, context: Context) => void>;
}

/** Every command in the order in which the help lists them. */
const VERBS: Readonly<Record<string, Verb>> = {
  info: { summary: 'facts of an image', load: async () => (await import('./commands/info.js')).info },
  map: { summary: 'where the data of an image lies', load: async () => (await import('./commands/map.js')).map },
  check: { summary: 'look for errors in an image', load: async () => (await import('./commands/check.js')).check },
  create: { summary: 'make a new image', load: async () => (await import('./commands/create.js')).create },
  amend: { summary: 'change properties of an image', load: async () => (await import('./commands/amend.js')).amend },
  resize: { summary: 'change the size of a disk', load: async () => (await import('./commands/resize.js')).resize },
  convert: {
    summary: 'copy an image into another one',
    load: async () => (await import('./commands/convert.js')).convert,
  },
  snapshot: {
    summary: 'internal snapshots of an image',
    load: async () => (await import('./commands/snapshot.js')).snapshot,
  },
  bitmap: {
    summary: 'change a persistent dirty bitmap',
    load: async () => (await import('./commands/bitmap.js')).bitmap,
  },
  attach: {
    summary: 'serve an image as a block device',
    load: async () => (await import('./commands/attach.js')).attach,
  },
  detach: {
    summary: 'end a block device and its server',
    load: async () => (await import('./commands/detach.js')).detach,
  },
  list: { summary: 'block devices that are served', load: async () => (await import('./commands/list.js')).list },
  serve: {
    summary: 'serve an image in the best way that works here',
    load: async () => (await import('./commands/serve.js')).serve,
  },
};

/** Exit status of a program whose reader left, as shells give it for SIGPIPE. */
export const BROKEN_PIPE = 141;

/** Runs `corral` with these arguments. Never throws: what fails is one line in `terminal` and a status that is not 0. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  const context: Context = { terminal, exitCode: 0 };
  try {
    const program = await buildProgram(args, context);
    await program.parseAsync(args, { from: 'user' });
    return context.exitCode;
  } catch (error) {
    return failed(error, terminal);
  }
}

function failed(error: unknown, terminal: Terminal): number {
  if (error instanceof OutputClosed) return BROKEN_PIPE;
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    terminal.complain(error.message.split('\n', 1)[0]?.replace(/^error: /, '') ?? '');
    return 1;
  }
  if (process.env.CORRAL_DEBUG !== undefined) console.error(error);
  terminal.complain(errorLine(error));
  return error instanceof CommandError ? error.exitCode : 1;
}

async function buildProgram(args: readonly string[], context: Context): Promise<Command> {
  const { terminal } = context;
  const program = new Command('corral')
    .description('QCOW2 images: facts, checks, copies, and block devices.')
    .usage('COMMAND [OPTIONS] ...')
    .helpCommand(false)
    .showSuggestionAfterError(false)
    .exitOverride()
    // Errors are thrown; the line is ours to print.
    .configureOutput({ writeOut: (text) => terminal.print(text), writeErr: () => {}, outputError: () => {} })
    .option('-V, --version', 'version of this program')
    .action((options: { version?: boolean }, command: Command) => {
      if (options.version) terminal.print(`corral ${version()}\n`);
      else if (command.args.length > 0)
        throw new CommandError(`Command not found: ${command.args[0]} (see corral --help)`);
      else throw new CommandError('Which command? See corral --help');
    })
    .allowExcessArguments();
  const wanted = args.find((argument) => !argument.startsWith('-'));
  for (const [name, verb] of Object.entries(VERBS)) {
    const command = program.command(name).summary(verb.summary).allowExcessArguments(false);
    if (name === wanted) {
      const define = await verb.load();
      define(command, context);
    }
  }
  return program;
}

function version(): string {
  const description = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(description) as { version: string }).version;
}
