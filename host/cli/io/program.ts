/** The shell as a function: arguments and lines in, exit status out. */

import { optionLines } from '../description.js';
import { listedOptions } from '../node-options.js';
import { parseCommandLine } from '../option-parser.js';
import { BROKEN_PIPE, CommandError, errorLine, OutputClosed, type Terminal, UsageError } from '../output.js';
import { readSecrets } from '../secrets.js';
import { versionLine } from '../version.js';
import { DEFAULT_DISK_OPTIONS, type DiskOptions, withDiskOption } from './disk-options.js';
import { type DiskSource, namedSource, optionSource } from './disk-source.js';
import { runLine } from './run-line.js';
import { Session } from './session.js';
import { ABOUT_SHELL, SHELL_OPTIONS } from './shell-options.js';

interface CommandLine {
  readonly commands: readonly string[];
  readonly file: string | undefined;
  readonly options: DiskOptions;
  readonly format: string | undefined;
  /** The file is a list of options. */
  readonly imageOptions: boolean;
  /** Only this is printed, with this exit status. */
  readonly answer?: { readonly text: string; readonly exitCode: number };
}

const NOTHING: CommandLine = {
  commands: [],
  file: undefined,
  options: DEFAULT_DISK_OPTIONS,
  format: undefined,
  imageOptions: false,
};

/** Runs the program. Never throws: what fails is told by `output`, and by a status that is not 0. */
export async function runShell(
  args: readonly string[],
  output: Terminal,
  input: AsyncIterable<string>,
): Promise<number> {
  const session = new Session(output);
  try {
    const line = readCommandLine(args, output);
    if (line.answer !== undefined) {
      output.print(line.answer.text);
      return line.answer.exitCode;
    }
    if (line.file !== undefined && !(await openFirst(session, line, line.file))) return 1;
    const good = await (line.commands.length > 0 ? runCommands(session, line.commands) : runInput(session, input));
    await session.close();
    return good && !session.lost ? 0 : 1;
  } catch (error) {
    return failed(error, output);
  } finally {
    await session.close();
  }
}

function openFirst(session: Session, line: CommandLine, file: string): Promise<boolean> {
  const { format, imageOptions, options } = line;
  if (imageOptions && format !== undefined) throw new CommandError('--image-opts and -f are mutually exclusive');
  const find = (): DiskSource =>
    imageOptions ? optionSource(listedOptions(file), undefined) : namedSource(file, format);
  return session.open(imageOptions ? undefined : file, find, options);
}

function failed(error: unknown, output: Terminal): number {
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
function readCommandLine(args: readonly string[], output: Terminal): CommandLine {
  const usage = { text: usageText(output.program), exitCode: 1 };
  try {
    const { values, operands, given } = parseCommandLine(args, SHELL_OPTIONS);
    const { h: help, V: version, c: commands, f: format, imageOptions } = values;
    // Nothing here has use for them yet.
    readSecrets(values.object);
    const options = given.reduce(
      (earlier, { name, argument }) => withDiskOption(earlier, name, argument),
      DEFAULT_DISK_OPTIONS,
    );
    const [file] = operands;
    let answer = operands.length > 1 ? usage : undefined;
    if (help) answer = { ...usage, exitCode: 0 };
    else if (version) answer = { text: versionLine(output.program), exitCode: 0 };
    return { commands, file, options, format, imageOptions, answer };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    output.note(`${output.program}: ${error.message}`);
    return { ...NOTHING, answer: usage };
  }
}

function usageText(program: string): string {
  return (
    `Usage: ${program} [OPTIONS]... [-c STRING]... [file]\n${ABOUT_SHELL}\n\n${optionLines(SHELL_OPTIONS)}\n` +
    `${program} -c help lists the commands.\n`
  );
}
