/** What the commands print, and how: text that no image can use to deceive a terminal, QEMU's numbers and JSON, one line an error. */

import { CorralError, type CorralErrorCode, systemErrorCode } from '../errors.js';

/** Where the commands print. The process's own streams, or strings in a test. */
export interface Terminal {
  /** The name by which the program was called: its lines begin with it. */
  readonly program: string;
  /** Characters in a line, where standard output is a terminal. */
  readonly columns?: number | undefined;
  /** Prints to standard output as it is. Throws `OutputClosed` when nobody reads it any more. */
  print(text: string): void;
  /** One line for standard error, without its end; what could deceive a terminal is escaped. */
  complain(line: string): void;
  /** As `complain`, for what is no failure of the command: the line stands without the program's name. */
  note(line: string): void;
}

/** The reader of standard output has left: end quietly. */
export class OutputClosed extends Error {}

/** Exit status of a program whose reader left, as shells give it for SIGPIPE. */
export const BROKEN_PIPE = 141;

/** An option that asks for help was reached: what is wrong before it is told instead. */
export class AskedForHelp extends Error {
  constructor(readonly text: string) {
    super('asked for help');
  }
}

/** A failure with QEMU's or our own words, and with the exit status of the verb that failed. */
export class CommandError extends Error {
  /** Lines that follow the message. */
  readonly hints: readonly string[];
  /** Complaints that go before the message, each with the program's name. */
  readonly earlier: readonly string[];

  constructor(
    message: string,
    readonly exitCode = 1,
    options: ErrorOptions & { hints?: readonly string[]; earlier?: readonly string[] } = {},
  ) {
    super(message, options);
    this.hints = options.hints ?? [];
    this.earlier = options.earlier ?? [];
  }
}

/**
 * The command line itself is wrong: the line about the help follows. What getopt finds begins with the verb's name, too.
 */
export class UsageError extends CommandError {
  constructor(
    message: string,
    readonly finder: 'getopt' | 'verb' = 'verb',
    exitCode = 1,
  ) {
    super(message, exitCode);
  }
}

/**
 * Characters that a terminal does not simply show: controls, line separators, those that change the direction of text or
 * are invisible, halves of surrogate pairs, and U+FFFD, which stands for bytes that were no UTF-8.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\ufffd]/gu;

/** What most text consists of. The other expression takes a millisecond to get ready. */
const PLAIN = /^[ -~]*$/;

/** Text from outside (a name in an image, a path, an error) as one line that a terminal shows as it is. */
export function escapeText(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) as number;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}

/** The reason of an error in one line, without the path that it may name. */
export function reasonOf(error: unknown): string {
  if (error instanceof CorralError) {
    const { reason } = error.details;
    return reason === undefined ? error.message : systemReason(reason);
  }
  if (!(error instanceof Error)) return String(error);
  return systemErrorCode(error) === undefined ? error.message : systemReason(error.message);
}

/**
 * The same with the name of the file where reading or writing failed: the one that the error knows, else `path`. Errors that
 * are about something else are told alone.
 */
export function reasonIn(path: string, error: unknown): string {
  const reason = reasonOf(error);
  const isAboutFile =
    error instanceof CorralError ? FILE_FAILURES.has(error.code) : systemErrorCode(error) !== undefined;
  return isAboutFile ? `'${pathOf(error) ?? path}': ${reason}` : reason;
}

const FILE_FAILURES: ReadonlySet<CorralErrorCode> = new Set(['ERR_IO', 'ERR_NO_SPACE', 'ERR_BROKEN']);

/** The file that an error, or the one behind it, is about. */
export function pathOf(error: unknown): string | undefined {
  if (error instanceof CorralError) return error.details.path ?? pathOf(error.details.cause);
  const { path } = (error ?? {}) as { path?: unknown };
  return typeof path === 'string' ? path : undefined;
}

/** Where Node's words are not those of the system. */
const SYSTEM_REASONS: Readonly<Record<string, string>> = {
  EFBIG: 'File too large',
  EIO: 'Input/output error',
  ENAMETOOLONG: 'File name too long',
  EBUSY: 'Device or resource busy',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ETXTBSY: 'Text file busy',
  EDQUOT: 'Disk quota exceeded',
  ENXIO: 'No such device or address',
};

/** "ENOSPC: no space left on device, write" is Node's way to say "No space left on device". */
function systemReason(message: string): string {
  const match = /^(E[A-Z0-9]+): (.+?)(?:, \w+(?: '.*')?)?(?= \(|$)/s.exec(message);
  const [, code, words] = match ?? [];
  if (match === null || code === undefined || words === undefined) return message;
  const known = SYSTEM_REASONS[code];
  if (known !== undefined) return known + message.slice(match[0].length);
  return words.charAt(0).toUpperCase() + words.slice(1) + message.slice(match[0].length);
}

/** The line for an error that nobody else handled. */
export function errorLine(error: unknown): string {
  if (error instanceof CommandError) return error.message;
  if (error instanceof CorralError) {
    const { path } = error.details;
    return path === undefined ? reasonOf(error) : `'${path}': ${reasonOf(error)}`;
  }
  if (systemErrorCode(error) !== undefined) return reasonOf(error);
  return `Internal error: ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** Bytes as C's `%.3g` and a unit, as QEMU shows them: it changes to the next unit at 1000, not at 1024. */
export function humanSize(bytes: number): string {
  const power = bytes === 0 ? 0 : Math.max(0, Math.floor(Math.log2((bytes * 1024) / 1000) / 10));
  const value = bytes / 1024 ** power;
  const scale = value < 1 ? 1000 : value < 10 ? 100 : value < 100 ? 10 : 1;
  const digits = roundHalfEven(value * scale) / scale;
  return `${digits === 1000 ? '1e+03' : digits} ${UNITS[power]}`;
}

/** A percentage as C's `%.2f`: 5.625 becomes 5.62, as in QEMU's lines. */
export function formatPercent(part: number, whole: number): string {
  const percent = (part * 100) / whole;
  // Only eighths can lie in the middle between two hundredths.
  return (Number.isInteger(percent * 8) ? roundHalfEven(percent * 100) / 100 : percent).toFixed(2);
}

/** As C's printf: 448.5 becomes 448, not 449. */
function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return value % 1 === 0.5 && rounded % 2 === 1 ? rounded - 1 : rounded;
}

/** What JSON output consists of. Numbers are whole. */
export type Json = string | number | bigint | boolean | readonly Json[] | { readonly [key: string]: Json | undefined };

/** JSON as QEMU writes it: four blanks of indentation, nothing but printable ASCII, exact numbers, no undefined keys. */
export function formatJson(value: Json, indent = ''): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number') return BigInt(value).toString();
  if (typeof value !== 'object') return String(value);
  const inner = `${indent}    `;
  if (Array.isArray(value)) {
    const items = (value as readonly Json[]).map((item) => `\n${inner}${formatJson(item, inner)}`);
    return `[${items.join(',')}\n${indent}]`;
  }
  const members = Object.entries(value as { [key: string]: Json | undefined })
    .filter((entry): entry is [string, Json] => entry[1] !== undefined)
    .map(([key, member]) => `\n${inner}${quote(key)}: ${formatJson(member, inner)}`);
  return `{${members.join(',')}\n${indent}}`;
}

/** ASCII, with the digits of escapes in capitals. */
function quote(text: string): string {
  return JSON.stringify(text).replace(/\\u([0-9a-f]{4})|\\.|[^ -~]/g, (part, digits?: string) => {
    if (part.length === 2) return part;
    return `\\u${(digits ?? part.charCodeAt(0).toString(16)).padStart(4, '0').toUpperCase()}`;
  });
}
