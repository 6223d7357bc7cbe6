/** The shell as a function: arguments and lines in, exit status out. */

import { readFileSync } from 'node:fs';
import { CommandError, errorLine, OutputClosed } from '../output.js';
import { cacheArgument, DEFAULT_DISK_OPTIONS, type DiskOptions, discardArgument } from './disk-options.js';
import { runLine } from './run-line.js';
import { Session, type ShellOutput } from './session.js';
import { type LongNames, OptionError, parseWords } from './words.js';

/** The version of QEMU whose shell this one is like. */
const QEMU_VERSION = '10.0.2';
/** Exit status of a program whose reader left, as shells give it for SIGPIPE. */
const BROKEN_PIPE = 141;

const LETTERS = 'hVc:d:f:rsnCmki:t:T:UO:I';
const LONG_NAMES: LongNames = {
  help: 'h',
  version: 'V',
  cmd: 'c',
  format: 'f',
  'read-only': 'r',
  snapshot: 's',
  nocache: 'n',
  'copy-on-read': 'C',
  misalign: 'm',
  'native-aio': 'k',
  aio: 'i',
  cache: 't',
  discard: 'd',
  trace: 'T',
  'force-share': 'U',
  object: 'O',
  'image-opts': 'I',
};
const AIO_MODES = ['threads', 'native', 'io_uring'];

interface CommandLine {
  readonly commands: readonly string[];
  readonly file: string | undefined;
  readonly options: DiskOptions;
  /** Only this is printed, with this exit status. */
  readonly answer?: { readonly text: string; readonly exitCode: number };
}

/** Runs the program. Never throws: what fails is told by `output`, and by a status that is not 0. */
export async function runShell(
  args: readonly string[],
  output: ShellOutput,
  input: AsyncIterable<string>,
): Promise<number> {
  const session = new Session(output);
  try {
    const line = readCommandLine(args, output);
    if (line.answer !== undefined) {
      output.print(line.answer.text);
      return line.answer.exitCode;
    }
    if (line.file !== undefined && !(await session.open(line.file, line.options))) return 1;
    const good = await (line.commands.length > 0 ? runCommands(session, line.commands) : runInput(session, input));
    await session.close();
    return good && !session.lost ? 0 : 1;
  } catch (error) {
    return failed(error, output);
  } finally {
    await session.close();
  }
}

function failed(error: unknown, output: ShellOutput): number {
  if (error instanceof OutputClosed) return BROKEN_PIPE;
  if (process.env.CORRAL_DEBUG !== undefined) console.error(error);
  output.complain(errorLine(error));
  return error instanceof CommandError ? error.exitCode : 1;
}

async function runCommands(session: Session, commands: readonly string[]): Promise<boolean> {
  let good = true;
  for (const command of commands) {
    if (session.ended) break;
    good = (await runLine(session, command)) && good;
  }
  return good;
}

async function runInput(session: Session, input: AsyncIterable<string>): Promise<boolean> {
  const { output } = session;
  const prompt = (): void => output.print(`${output.program}> `);
  let good = true;
  prompt();
  for await (const line of input) {
    good = (await runLine(session, line)) && good;
    if (session.ended) break;
    prompt();
  }
  return good;
}

/** Throws CommandError for a value that is none. */
function readCommandLine(args: readonly string[], output: ShellOutput): CommandLine {
  const usage = { text: usageText(output.program), exitCode: 1 };
  try {
    const { options: given, operands } = parseWords(args, LETTERS, LONG_NAMES);
    const commands: string[] = [];
    let options = DEFAULT_DISK_OPTIONS;
    for (const { letter, value } of given) {
      if (letter === 'h') return { commands, file: undefined, options, answer: { ...usage, exitCode: 0 } };
      if (letter === 'V')
        return { commands, file: undefined, options, answer: { text: versionText(output), exitCode: 0 } };
      if (letter === 'c') commands.push(value);
      else options = changedOptions(options, letter, value);
    }
    return { commands, file: operands[0], options, answer: operands.length > 1 ? usage : undefined };
  } catch (error) {
    if (!(error instanceof OptionError)) throw error;
    output.note(`${output.program}: ${error.message}`);
    return { commands: [], file: undefined, options: DEFAULT_DISK_OPTIONS, answer: usage };
  }
}

function changedOptions(options: DiskOptions, letter: string, value: string): DiskOptions {
  switch (letter) {
    case 'f':
      return { ...options, format: value };
    case 'r':
      return { ...options, write: false };
    case 'U':
      return { ...options, forceShare: true };
    case 'n':
      return { ...options, cache: 'none' };
    case 't':
      return { ...options, cache: cacheArgument(value) };
    case 'd':
      return { ...options, discard: discardArgument(value) };
    case 'i':
      if (!AIO_MODES.includes(value)) throw new CommandError(`Invalid aio option: ${value}`);
      return options;
    case 's':
    case 'C':
    case 'O':
    case 'I':
      throw new CommandError(`Option '${letter}' is not supported yet`);
    default:
      return options;
  }
}

/** Scripts that ask `qemu-io --version` want to know what they may use. */
function versionText({ program }: ShellOutput): string {
  const description = readFileSync(new URL('../../../../package.json', import.meta.url), 'utf8');
  const { version } = JSON.parse(description) as { version: string };
  return program === 'qemu-io' ? `${program} version ${QEMU_VERSION} (corral ${version})\n` : `${program} ${version}\n`;
}

function usageText(program: string): string {
  return `Usage: ${program} [OPTIONS]... [-c STRING]... [file]
Reads and writes a disk by commands, for tests.

  -c, --cmd STRING     carry out this command; without any they come from standard input
  -f, --format FMT     raw or qcow2; found out when not given
  -r, --read-only      refuse writes
  -s, --snapshot       writes go into a temporary file
  -C, --copy-on-read   what is read from a backing file is kept in the image
  -t, --cache MODE     none, writeback, writethrough, directsync or unsafe
  -n, --nocache        as -t none
  -d, --discard MODE   unmap, or ignore discards
  -U, --force-share    also when another process uses the image
      --image-opts     the file is a list of options, driver=FMT,file.filename=PATH
      --object OBJECT  an object such as a secret
  -m, -k, -i MODE, -T TRACE  are taken, and change nothing
  -h, --help           print this
  -V, --version        version of this program

${program} -c help lists the commands.
`;
}
