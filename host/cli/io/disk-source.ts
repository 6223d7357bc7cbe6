/** Which disk is meant: a file name with or without a protocol, or a list of options, as QEMU's block drivers read them. */

import { readFileSync } from 'node:fs';
import type { CacheMode } from '../../cache-mode.js';
import { CorralError, systemErrorCode } from '../../errors.js';
import { type FaultRule, parseFaultRules, takeFaultRules } from '../../fault-rules.js';
import { type BackingNode, takeBacking, takeDataFile } from '../image-name.js';
import {
  cacheModeOf,
  type FileNode,
  type ImageSettings,
  isJsonName,
  jsonOptions,
  type NodeOptions,
  refuseReference,
  take,
  takeChild,
  takeFile,
  takeGeneric,
  takeImageSettings,
  takeSize,
} from '../node-options.js';
import { CommandError, reasonOf } from '../output.js';
import { requestErrorText } from './errno-text.js';

export interface DiskSource {
  /** What it was called; undefined for a list of options. */
  readonly name: string | undefined;
  readonly path: string;
  /** Nobody's locks count when false. */
  readonly locked: boolean;
  /** Found out when undefined. */
  readonly format: 'raw' | 'qcow2' | undefined;
  /** What `info` calls a disk that is no image. */
  readonly rawName: 'raw' | 'file' | 'blkdebug';
  /** Rules of the error injector between file and disk; undefined: there is none. */
  readonly faults: readonly FaultRule[] | undefined;
  readonly settings: DiskSettings;
}

/** Options of any driver. Undefined: as the program's own options say. */
export interface DiskSettings {
  readonly readOnly?: boolean | undefined;
  readonly forceShare?: boolean | undefined;
  readonly discard?: boolean | undefined;
  /** As `cache.no-flush` and `cache.direct` say. */
  readonly cache?: CacheMode | undefined;
  readonly image?: ImageSettings | undefined;
  /** What lies behind the image, whatever it names; null: nothing. */
  readonly backing?: BackingNode | null | undefined;
  /** The external data file, whatever the image names. */
  readonly dataFile?: FileNode | undefined;
}

/** What shapes requests; the file takes any. */
const BLKDEBUG_SIZES = ['align', 'max-transfer', 'opt-write-zero', 'max-write-zero', 'opt-discard', 'max-discard'];

const PLAIN = { locked: true, rawName: 'raw', faults: undefined } as const;

/** The disk in a file. `format` is what the user says of it. Throws CommandError with the reason alone. */
export function namedSource(name: string, format: string | undefined): DiskSource {
  if (isJsonName(name)) return optionSource(jsonOptions(name), format, name);
  return { ...protocolSource(name), name, format: format === undefined ? undefined : formatOf(format), settings: {} };
}

/** The disk that options describe. A name among them is left to `name`. Throws CommandError with the reason alone. */
export function optionSource(options: NodeOptions, format: string | undefined, name?: string): DiskSource {
  const driver = take(options, 'driver') ?? format;
  const isFormat = driver !== 'file' && driver !== 'blkdebug';
  const settings = { ...takeSettings(options), ...(isFormat && driver !== 'raw' ? takeImage(options) : {}) };
  const source = isFormat ? formatNode(driver, options) : protocolNode(driver, options);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block format '${driver}' does not support the option '${left}'`);
  return { ...source, name, settings };
}

function takeImage(options: NodeOptions): Pick<DiskSettings, 'image' | 'backing' | 'dataFile'> {
  return { image: takeImageSettings(options), backing: takeBacking(options), dataFile: takeDataFile(options) };
}

/** Checks the options that an open disk can be given anew, and removes them. Throws CommandError. */
export function takeChanges(options: NodeOptions): DiskSettings {
  return { ...takeSettings(options), image: takeImageSettings(options) };
}

type Source = Pick<DiskSource, 'path' | 'locked' | 'format' | 'rawName' | 'faults'>;

/** `blkdebug:RULES:FILE`, `file:FILE`, or a path. */
function protocolSource(name: string): Omit<Source, 'format'> {
  const protocol = /^([^/:]*):/.exec(name)?.[1];
  if (protocol === undefined) return { path: name, ...PLAIN };
  const rest = name.slice(protocol.length + 1);
  if (protocol === 'file') return { path: rest, ...PLAIN };
  if (protocol !== 'blkdebug') throw new CommandError(`Unknown protocol '${protocol}'`);
  const colon = rest.indexOf(':');
  if (colon === -1) throw new CommandError('blkdebug requires both config file and image path');
  const inner = protocolSource(rest.slice(colon + 1));
  return { ...inner, faults: [...rulesInFile(rest.slice(0, colon)), ...(inner.faults ?? [])] };
}

function formatNode(driver: string | undefined, options: NodeOptions): Source {
  const format = driver === undefined ? undefined : formatOf(driver);
  refuseReference(options, 'file');
  const inner = takeChild(options, 'file');
  if (inner === undefined) {
    throw new CommandError(
      driver === undefined ? 'Must specify either driver or file' : 'A block device must be specified for "file"',
    );
  }
  return { ...fileNode(inner), format, rawName: 'raw' };
}

/** A file, or an error injector on one. */
function fileNode(options: NodeOptions): Omit<Source, 'format'> {
  const driver = take(options, 'driver');
  const [name] = options.size === 1 ? options.values() : [];
  if (driver === undefined && options.has('filename') && name !== undefined) return protocolSource(name);
  return protocolNode(driver ?? 'file', options);
}

function protocolNode(driver: string, options: NodeOptions): Source {
  if (driver === 'blkdebug') return faultNode(options);
  if (driver !== 'file') throw new CommandError(`Unknown driver '${driver}'`);
  return { ...takeFile(options), format: 'raw', rawName: 'file', faults: undefined };
}

function faultNode(options: NodeOptions): Source {
  takeGeneric(options);
  const config = take(options, 'config');
  const fileRules = config === undefined ? [] : rulesInFile(config);
  const rules = reasoned(() => takeFaultRules(options));
  refuseReference(options, 'image');
  const inner = takeChild(options, 'image');
  for (const name of BLKDEBUG_SIZES) takeSize(options, name);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block protocol 'blkdebug' doesn't support the option '${left}'`);
  if (inner === undefined) throw new CommandError('A block device must be specified for "image"');
  const { path, locked, faults } = fileNode(inner);
  return { path, locked, format: 'raw', rawName: 'blkdebug', faults: [...fileRules, ...rules, ...(faults ?? [])] };
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

function formatOf(driver: string): 'raw' | 'qcow2' {
  if (driver === 'raw' || driver === 'qcow2') return driver;
  throw new CommandError(`Unknown driver '${driver}'`);
}

function takeSettings(options: NodeOptions): DiskSettings {
  const generic = takeGeneric(options);
  const { readOnly, forceShare, discard, direct, noFlush } = generic;
  const isSaid = direct !== undefined || noFlush !== undefined;
  return { readOnly, forceShare, discard, cache: isSaid ? cacheModeOf(generic, 'writeback') : undefined };
}
