/** Which disk is meant: a file name with or without a protocol, or a list of options, as QEMU's block drivers read them. */

import { readFileSync } from 'node:fs';
import type { CacheMode } from '../../cache-mode.js';
import { CorralError, systemErrorCode } from '../../errors.js';
import { type FaultRule, parseFaultRules, takeFaultRules } from '../../fault-rules.js';
import type { OpenOptions } from '../../open-options.js';
import { parseSize, SizeError } from '../arguments.js';
import { CommandError, reasonOf } from '../output.js';
import { requestErrorText } from './errno-text.js';

export interface DiskSource {
  /** What it was called; undefined for a list of options. */
  readonly name: string | undefined;
  readonly path: string;
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
  readonly readOnly?: boolean;
  readonly forceShare?: boolean;
  readonly discard?: boolean;
  /** As `cache.no-flush` and `cache.direct` say. */
  readonly cache?: CacheMode;
  readonly image?: ImageSettings;
}

/** Options of qcow2 images. */
export type ImageSettings = Pick<OpenOptions, 'lazyRefcounts' | 'discardNoUnref' | 'passDiscard' | 'cacheSize'>;

type Options = Map<string, string>;

const SWITCHES = ['auto-read-only', 'cache.direct', 'cache.no-flush', 'force-share', 'read-only'];
const OVERLAP_AREAS =
  `main-header active-l1 active-l2 refcount-table refcount-block snapshot-table inactive-l1 inactive-l2
  bitmap-directory`.split(/\s+/);
const OVERLAP_KINDS = ['none', 'constant', 'cached', 'all'];
/** Bytes. */
const DEFAULT_CACHE_SIZE = 4 * 1024 ** 2;
const LARGEST_CACHE_SIZE = 1024 ** 3;
const GENERIC_WORDS = ['detect-zeroes', 'node-name'];
const FILE_WORDS = ['aio', 'aio-max-batch', 'drop-cache', 'dynamic-auto-read-only', 'locking', 'x-check-cache-dropped'];
/** What shapes requests; the file takes any. */
const BLKDEBUG_SIZES = ['align', 'max-transfer', 'opt-write-zero', 'max-write-zero', 'opt-discard', 'max-discard'];

/** The disk in a file. `format` is what the user says of it. Throws CommandError with the reason alone. */
export function namedSource(name: string, format: string | undefined): DiskSource {
  if (name.startsWith('json:')) return optionSource(jsonOptions(name.slice('json:'.length)), format, name);
  return { ...protocolSource(name), name, format: format === undefined ? undefined : formatOf(format), settings: {} };
}

/** The disk that options describe. A name among them is left to `name`. Throws CommandError with the reason alone. */
export function optionSource(options: Options, format: string | undefined, name?: string): DiskSource {
  const driver = take(options, 'driver') ?? format;
  const isFormat = driver !== 'file' && driver !== 'blkdebug';
  const image = isFormat && driver !== 'raw' ? takeImageSettings(options) : undefined;
  const settings = { ...takeSettings(options), image };
  const source = isFormat ? formatNode(driver, options) : protocolNode(driver, options);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block format '${driver}' does not support the option '${left}'`);
  return { ...source, name, settings };
}

/** Checks the options that an open disk can be given anew, and removes them. Throws CommandError. */
export function takeChanges(options: Options): DiskSettings {
  return { ...takeSettings(options), image: takeImageSettings(options) };
}

type Source = Pick<DiskSource, 'path' | 'format' | 'rawName' | 'faults'>;

/** `blkdebug:RULES:FILE`, `file:FILE`, or a path. */
function protocolSource(name: string): Omit<Source, 'format'> {
  const protocol = /^([^/:]*):/.exec(name)?.[1];
  if (protocol === undefined) return { path: name, rawName: 'raw', faults: undefined };
  const rest = name.slice(protocol.length + 1);
  if (protocol === 'file') return { path: rest, rawName: 'raw', faults: undefined };
  if (protocol !== 'blkdebug') throw new CommandError(`Unknown protocol '${protocol}'`);
  const colon = rest.indexOf(':');
  if (colon === -1) throw new CommandError('blkdebug requires both config file and image path');
  const inner = protocolSource(rest.slice(colon + 1));
  return { ...inner, faults: [...rulesInFile(rest.slice(0, colon)), ...(inner.faults ?? [])] };
}

function formatNode(driver: string | undefined, options: Options): Source {
  const format = driver === undefined ? undefined : formatOf(driver);
  const inner = takeChild(options, 'file');
  if (inner === undefined) {
    throw new CommandError(
      driver === undefined ? 'Must specify either driver or file' : 'A block device must be specified for "file"',
    );
  }
  return { ...fileNode(inner), format, rawName: 'raw' };
}

/** A file, or an error injector on one. */
function fileNode(options: Options): Omit<Source, 'format'> {
  const driver = take(options, 'driver');
  const [name] = options.size === 1 ? options.values() : [];
  if (driver === undefined && options.has('filename') && name !== undefined) return protocolSource(name);
  return protocolNode(driver ?? 'file', options);
}

function protocolNode(driver: string, options: Options): Source {
  if (driver === 'blkdebug') return faultNode(options);
  if (driver !== 'file') throw new CommandError(`Unknown driver '${driver}'`);
  takeSettings(options);
  const path = take(options, 'filename');
  for (const word of FILE_WORDS) options.delete(word);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block protocol 'file' doesn't support the option '${left}'`);
  if (path === undefined) throw new CommandError("The 'file' block driver requires a file name");
  return { path, format: 'raw', rawName: 'file', faults: undefined };
}

function faultNode(options: Options): Source {
  takeSettings(options);
  const config = take(options, 'config');
  const fileRules = config === undefined ? [] : rulesInFile(config);
  const rules = reasoned(() => takeFaultRules(options));
  const inner = takeChild(options, 'image');
  for (const name of BLKDEBUG_SIZES) takeSize(options, name);
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block protocol 'blkdebug' doesn't support the option '${left}'`);
  if (inner === undefined) throw new CommandError('A block device must be specified for "image"');
  const { path, faults } = fileNode(inner);
  return { path, format: 'raw', rawName: 'blkdebug', faults: [...fileRules, ...rules, ...(faults ?? [])] };
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

function take(options: Options, key: string): string | undefined {
  const value = options.get(key);
  options.delete(key);
  return value;
}

/** The options of what lies below: `file.…`. */
function takeChild(options: Options, name: string): Options | undefined {
  const reference = take(options, name);
  if (reference !== undefined) {
    throw new CommandError(`Cannot find device='${reference}' nor node-name='${reference}'`);
  }
  const child = [...options].filter(([key]) => key.startsWith(`${name}.`));
  for (const [key] of child) options.delete(key);
  return child.length === 0 ? undefined : new Map(child.map(([key, value]) => [key.slice(name.length + 1), value]));
}

function takeSettings(options: Options): DiskSettings {
  const [, direct, noFlush, forceShare, readOnly] = SWITCHES.map((name) => takeSwitch(options, name));
  const discard = take(options, 'discard');
  if (discard !== undefined && !['unmap', 'on', 'ignore', 'off'].includes(discard)) {
    throw new CommandError('Invalid discard option');
  }
  for (const word of GENERIC_WORDS) options.delete(word);
  let cache: CacheMode | undefined;
  if (noFlush !== undefined || direct !== undefined) cache = noFlush ? 'unsafe' : direct ? 'none' : 'writeback';
  return { readOnly, forceShare, cache, discard: discard === undefined ? undefined : /^(unmap|on)$/.test(discard) };
}

/** Overlaps are always looked for as far as the engine does it: those options are checked, and have no effect. */
function takeImageSettings(options: Options): ImageSettings {
  const [request, snapshot, other] = ['request', 'snapshot', 'other'].map((what) =>
    takeSwitch(options, `pass-discard-${what}`),
  );
  for (const area of OVERLAP_AREAS) takeSwitch(options, `overlap-check.${area}`);
  for (const name of ['overlap-check', 'overlap-check.template']) {
    const kind = take(options, name);
    if (kind === undefined || OVERLAP_KINDS.includes(kind)) continue;
    throw new CommandError(
      `Unsupported value '${kind}' for qcow2 option 'overlap-check'. ` +
        `Allowed are any of the following: ${OVERLAP_KINDS.join(', ')}`,
    );
  }
  const lazyRefcounts = takeSwitch(options, 'lazy-refcounts');
  const discardNoUnref = takeSwitch(options, 'discard-no-unref');
  for (const name of ['l2-cache-entry-size', 'cache-clean-interval']) takeSize(options, name);
  const [both, l2, refcounts] = ['cache-size', 'l2-cache-size', 'refcount-cache-size'].map((name) =>
    takeSize(options, name),
  );
  if (both !== undefined && l2 !== undefined && refcounts !== undefined) {
    throw new CommandError('cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
  }
  if ((l2 ?? 0) > (both ?? Number.POSITIVE_INFINITY)) throw new CommandError('l2-cache-size may not exceed cache-size');
  if ((refcounts ?? 0) > (both ?? Number.POSITIVE_INFINITY)) {
    throw new CommandError('refcount-cache-size may not exceed cache-size');
  }
  // There is one cache for both kinds of tables.
  const given = l2 === undefined && refcounts === undefined ? undefined : (l2 ?? 0) + (refcounts ?? 0);
  const cacheSize = Math.min(both ?? given ?? DEFAULT_CACHE_SIZE, LARGEST_CACHE_SIZE);
  const passes = request !== undefined || snapshot !== undefined || other !== undefined;
  const passDiscard = { request, snapshot, other } as OpenOptions['passDiscard'];
  return { lazyRefcounts, discardNoUnref, passDiscard: passes ? passDiscard : undefined, cacheSize };
}

function takeSwitch(options: Options, name: string): boolean | undefined {
  const value = take(options, name);
  if (value === undefined) return undefined;
  if (value !== 'on' && value !== 'off') throw new CommandError(`Parameter '${name}' expects 'on' or 'off'`);
  return value === 'on';
}

function takeSize(options: Options, name: string): number | undefined {
  const value = take(options, name);
  try {
    return value === undefined ? undefined : Number(parseSize(value));
  } catch (error) {
    if (!(error instanceof SizeError)) throw error;
    throw new CommandError(
      `Parameter '${name}' expects a non-negative number below 2^64\n` +
        'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.',
    );
  }
}

/** An object in an object is a name with a dot in it. */
function jsonOptions(text: string): Options {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CommandError('Invalid JSON object given');
  }
  const options: Options = new Map();
  const walk = (prefix: string, node: unknown): void => {
    if (typeof node === 'object' && node !== null) {
      for (const [key, member] of Object.entries(node)) walk(prefix === '' ? key : `${prefix}.${key}`, member);
    } else if (typeof node === 'boolean') options.set(prefix, node ? 'on' : 'off');
    else options.set(prefix, String(node));
  };
  walk('', value);
  return options;
}

/** QEMU takes strings in single quotes, too. */
function parseJson(text: string): unknown {
  const doubled = text.replaceAll(/"(?:[^"\\]|\\.)*"|'((?:[^'\\]|\\.)*)'/g, (whole, inner?: string) =>
    inner === undefined ? whole : `"${inner.replaceAll("\\'", "'").replaceAll('"', '\\"')}"`,
  );
  try {
    return JSON.parse(doubled);
  } catch (error) {
    const end = text.trimEnd().endsWith('}') ? '' : ', premature EOI';
    throw new CommandError(`Could not parse the JSON options: JSON parse error${end}`, 1, { cause: error });
  }
}
