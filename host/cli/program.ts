/** The command line as a function: arguments in, exit status out. Loads only the verb that is asked for. */

import type { Context } from './context.js';
import { optionLines, type ProgramDescription } from './description.js';
import { parseCommandLine } from './option-parser.js';
import { flag, type OptionTable, text } from './option-table.js';
import {
  AskedForHelp,
  BROKEN_PIPE,
  CommandError,
  errorLine,
  OutputClosed,
  type Terminal,
  UsageError,
} from './output.js';
import { HELP, helpText, type Verb } from './verb.js';
import { versionLine } from './version.js';

interface Entry {
  readonly summary: string;
  load(): Promise<Verb>;
}

/** Every verb in the order in which the help lists them. */
const VERBS: Readonly<Record<string, Entry>> = {
  info: { summary: 'facts of an image', load: async () => (await import('./commands/info.js')).info },
  map: { summary: 'where the data of an image lies', load: async () => (await import('./commands/map.js')).map },
  check: { summary: 'look for errors in an image', load: async () => (await import('./commands/check.js')).check },
  inspect: {
    summary: 'whether to accept an image from a stranger',
    load: async () => (await import('./commands/inspect.js')).inspect,
  },
  partitions: {
    summary: 'what a disk is divided into',
    load: async () => (await import('./commands/partitions.js')).partitions,
  },
  ls: { summary: 'names in a directory of a disk', load: async () => (await import('./commands/ls.js')).ls },
  cat: { summary: 'the bytes of a file on a disk', load: async () => (await import('./commands/cat.js')).cat },
  cp: { summary: 'files out of a disk', load: async () => (await import('./commands/cp.js')).cp },
  create: { summary: 'make a new image', load: async () => (await import('./commands/create.js')).create },
  amend: { summary: 'change properties of an image', load: async () => (await import('./commands/amend.js')).amend },
  resize: { summary: 'change the size of a disk', load: async () => (await import('./commands/resize.js')).resize },
  convert: {
    summary: 'copy an image into another one',
    load: async () => (await import('./commands/convert.js')).convert,
  },
  compare: {
    summary: 'whether two images hold the same disk',
    load: async () => (await import('./commands/compare.js')).compare,
  },
  dd: { summary: 'copy a part of a disk', load: async () => (await import('./commands/dd.js')).dd },
  measure: {
    summary: 'how long a new image would be',
    load: async () => (await import('./commands/measure.js')).measure,
  },
  rebase: {
    summary: 'change what a disk continues from',
    load: async () => (await import('./commands/rebase.js')).rebase,
  },
  commit: {
    summary: 'write a disk into what it continues from',
    load: async () => (await import('./commands/commit.js')).commit,
  },
  bench: { summary: 'time many reads or writes', load: async () => (await import('./commands/bench.js')).bench },
  checksum: {
    summary: 'a hash of what a disk holds',
    load: async () => (await import('./commands/checksum.js')).checksum,
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
  flush: { summary: 'make a block device durable', load: async () => (await import('./commands/flush.js')).flush },
  cache: {
    summary: 'size of the metadata cache of what is served',
    load: async () => (await import('./commands/cache.js')).cache,
  },
  stat: { summary: 'what a block device does', load: async () => (await import('./commands/stat.js')).stat },
  recover: {
    summary: 'serve again what a dead server left',
    load: async () => (await import('./commands/recover.js')).recover,
  },
  list: { summary: 'block devices that are served', load: async () => (await import('./commands/list.js')).list },
  serve: {
    summary: 'serve an image in the best way that works here',
    load: async () => (await import('./commands/serve.js')).serve,
  },
  completion: {
    summary: 'a script by which a shell completes command lines',
    load: async () => (await import('./commands/completion.js')).completion,
  },
  doctor: {
    summary: 'what this host can do, and how to mend what not',
    load: async () => (await import('./commands/doctor.js')).doctor,
  },
};

const OPTIONS = {
  ...HELP,
  version: flag('-V, --version', 'version of this program'),
  // QEMU's trace events: there are none here, but scripts may ask for them.
  trace: text('-T, --trace TRACE', 'of no effect here'),
} satisfies OptionTable;

/** The whole command line. Loads every verb. */
export async function describeProgram(): Promise<ProgramDescription> {
  const verbs = Object.entries(VERBS).map(async ([name, { summary, load }]) => {
    const { about, operands, options } = await load();
    return { name, summary, about, operands, options: { ...HELP, ...options } };
  });
  return { options: OPTIONS, verbs: await Promise.all(verbs) };
}

/** Runs the program with these arguments. Never throws: what fails is told by `terminal`, and by a status that is not 0. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  const context: Context = { terminal, describeProgram, exitCode: 0 };
  // The program's own options end where the verb stands.
  const position = verbPosition(args);
  const name = args[position];
  try {
    const { values } = parseCommandLine(args.slice(0, position), OPTIONS);
    if (values.help) terminal.print(programHelp(terminal.program));
    else if (values.version) terminal.print(versionLine(terminal.program));
    else await runVerb(name, args.slice(position + 1), context);
    return context.exitCode;
  } catch (error) {
    return failed(error, name, terminal);
  }
}

function verbPosition(args: readonly string[]): number {
  let position = 0;
  for (; args[position]?.startsWith('-'); position++) {
    if (args[position] === '-T' || args[position] === '--trace') position++;
  }
  return Math.min(position, args.length);
}

async function runVerb(name: string | undefined, args: readonly string[], context: Context): Promise<void> {
  if (name === undefined) throw new UsageError('Not enough arguments');
  const entry = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  if (entry === undefined) throw new UsageError(`Command not found: ${name}`);
  const verb = await entry.load();
  const { terminal } = context;
  const asked = new AskedForHelp(helpText(terminal.program, name, verb));
  const help = { ...HELP.help, next: () => raise(asked) };
  try {
    await verb.run(parseCommandLine(args, { help, ...verb.options }, verb), context);
  } catch (error) {
    if (!(error instanceof AskedForHelp)) throw error;
    terminal.print(error.text);
  }
}

function raise(error: Error): never {
  throw error;
}

function failed(error: unknown, name: string | undefined, terminal: Terminal): number {
  if (error instanceof OutputClosed) return BROKEN_PIPE;
  if (process.env.CORRAL_DEBUG !== undefined) console.error(error);
  const { program } = terminal;
  if (error instanceof UsageError) {
    const verb = name !== undefined && Object.hasOwn(VERBS, name) ? ` ${name}` : '';
    if (error.finder === 'getopt') terminal.note(`${program}${verb}: ${error.message}`);
    else terminal.complain(error.message);
    terminal.note(`Try '${program}${verb} --help' for more info`);
    return error.exitCode;
  }
  if (error instanceof CommandError) for (const line of error.earlier) terminal.complain(line);
  terminal.complain(errorLine(error));
  if (error instanceof CommandError) for (const hint of error.hints) terminal.note(hint);
  return error instanceof CommandError ? error.exitCode : 1;
}

function programHelp(program: string): string {
  const verbs = Object.entries(VERBS).map(([name, { summary }]) => `  ${name.padEnd(10)}  ${summary}\n`);
  return (
    `Usage: ${program} [--help | --version] COMMAND [OPTIONS] ...\n\n` +
    `QCOW2 images: facts, checks, copies, and block devices.\n\nOptions:\n${optionLines(OPTIONS)}\n` +
    `Commands:\n${verbs.join('')}\n` +
    `${program} COMMAND --help tells more about each.\n`
  );
}
