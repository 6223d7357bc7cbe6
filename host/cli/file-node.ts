/**
 * Files as names and options of block nodes describe them, each with the error injector that may be on it. Everything here
 * throws `CommandError` with the reason alone.
 */

import { readFileSync } from 'node:fs';
import { CorralError, systemErrorCode } from '../errors.js';
import { type FaultRule, parseFaultRules, takeFaultRules } from '../fault-rules.js';
import { requestErrorText } from './errno-text.js';
import { type NodeOptions, refuseReference, take, takeChild, takeGeneric, takeSize } from './node-options.js';
import { isUrl } from './open.js';
import { CommandError, reasonOf } from './output.js';

/** A file on the host, or on a server. */
export interface FileNode {
  readonly path: string;
  /** `locking=off`: nobody's locks count. */
  readonly locked: boolean;
  readonly faults?: Faults | undefined;
}

/** An error injector on a file. */
export interface Faults {
  /** As QEMU calls it: `blkdebug:RULES:FILE`. */
  readonly name: string;
  readonly rules: readonly FaultRule[];
}

/** Protocols whose prefix means a file. */
const FILE_PROTOCOLS: ReadonlySet<string> = new Set(['file', 'host_device']);
const FILE_WORDS = ['aio', 'aio-max-batch', 'drop-cache', 'dynamic-auto-read-only', 'x-check-cache-dropped'];
/** What shapes requests; the file takes any. */
const BLKDEBUG_SIZES = ['align', 'max-transfer', 'opt-write-zero', 'max-write-zero', 'opt-discard', 'max-discard'];

/** A driver whose nodes are files. */
export function isFileDriver(driver: string | undefined): boolean {
  return driver !== undefined && (FILE_PROTOCOLS.has(driver) || driver === 'blkdebug');
}

/** A path, `file:PATH`, `blkdebug:RULES:NAME` or a URL. */
export function namedFile(name: string): FileNode {
  if (name === '') throw new CommandError("The 'file' block driver requires a file name");
  if (isUrl(name)) return { path: name, locked: false };
  const protocol = /^([^/:]*):/.exec(name)?.[1];
  const rest = name.slice((protocol ?? '').length + 1);
  if (protocol === undefined) return { path: name, locked: true };
  if (FILE_PROTOCOLS.has(protocol)) return { path: rest, locked: true };
  if (protocol !== 'blkdebug') throw new CommandError(`Unknown protocol '${protocol}'`);
  const colon = rest.indexOf(':');
  if (colon === -1) throw new CommandError('blkdebug requires both config file and image path');
  const config = rest.slice(0, colon);
  const rules = rulesInFile(config);
  return faulty(namedFile(rest.slice(colon + 1)), config, rules);
}

/** With one more error injector, whose rules go before those of another one on the file. */
function faulty(file: FileNode, config: string, rules: readonly FaultRule[]): FileNode {
  const { path, faults } = file;
  const name = `blkdebug:${config}:${faults?.name ?? path}`;
  return { ...file, faults: { name, rules: [...rules, ...(faults?.rules ?? [])] } };
}

/** The options of a file below a disk, all of them. */
export function takeFile(options: NodeOptions): FileNode {
  const driver = take(options, 'driver') ?? 'file';
  // A raw disk that is all of its file is that file.
  const inner = driver === 'raw' ? takeChild(options, 'file') : undefined;
  if (inner === undefined) return takeFileOf(driver, options);
  takeGeneric(options);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block format 'raw' does not support the option '${left}'`);
  return takeFile(inner);
}

/** The same, of a driver. */
export function takeFileOf(driver: string, options: NodeOptions): FileNode {
  if (driver === 'blkdebug') return takeFaultyFile(options);
  if (!FILE_PROTOCOLS.has(driver)) throw new CommandError(`Unknown driver '${driver}'`);
  const path = take(options, 'filename');
  const locked = takeLocking(options);
  if (path === undefined || path === '') throw new CommandError("The 'file' block driver requires a file name");
  return { path, locked: locked ?? true };
}

/** A file that has been named, with options of its node besides, all of them. */
export function withFileOptions(file: FileNode, options: NodeOptions): FileNode {
  if (file.faults === undefined) return { ...file, locked: takeLocking(options) ?? file.locked };
  const rules = takeInjection(options);
  return { ...file, faults: { ...file.faults, rules: [...rules, ...file.faults.rules] } };
}

/** All options of a file but its name; undefined when they do not say whether locks count. */
function takeLocking(options: NodeOptions): boolean | undefined {
  takeGeneric(options);
  const locking = take(options, 'locking');
  if (locking !== undefined && !['auto', 'on', 'off'].includes(locking)) {
    throw new CommandError(`invalid parameter value: ${locking}`);
  }
  for (const word of FILE_WORDS) options.delete(word);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block protocol 'file' doesn't support the option '${left}'`);
  return locking === undefined ? undefined : locking !== 'off';
}

function takeFaultyFile(options: NodeOptions): FileNode {
  const config = take(options, 'config') ?? '';
  const fileRules = rulesInFile(config);
  refuseReference(options, 'image');
  const inner = takeChild(options, 'image');
  const rules = takeInjection(options);
  if (inner === undefined) throw new CommandError('A block device must be specified for "image"');
  return faulty(takeFile(inner), config, [...fileRules, ...rules]);
}

/** All options of an injector but its file of rules and what it is on. */
function takeInjection(options: NodeOptions): FaultRule[] {
  takeGeneric(options);
  const rules = reasoned(() => takeFaultRules(options));
  for (const name of BLKDEBUG_SIZES) takeSize(options, name);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block protocol 'blkdebug' doesn't support the option '${left}'`);
  return rules;
}

function rulesInFile(path: string): FaultRule[] {
  if (path === '') return [];
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    throw new CommandError(`Could not read blkdebug config file: ${requestErrorText(error)}`);
  }
  return reasoned(() => parseFaultRules(text));
}

function reasoned<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof CorralError ? new CommandError(reasonOf(error), 1, { cause: error }) : error;
  }
}
