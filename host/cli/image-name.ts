/**
 * The names of images on the command line: paths, `file:` names, `json:{}` objects and, with --image-opts, lists of options
 * as in `driver=qcow2,file.filename=x`. Names inside of images are never read like this: they are paths.
 */

import { type Format, optionPairs, sizeParameter } from './arguments.js';
import { CommandError } from './output.js';

/** What a name says. */
export interface ImageName {
  /** As it was given: errors speak of it. */
  readonly text: string;
  readonly path: string;
  /** Undefined: found out by the first bytes. */
  readonly format: Format | undefined;
  /** Where a raw disk lies in its file, in bytes. */
  readonly window: { readonly offset: number; readonly size: number | undefined } | undefined;
  /** Bytes of the metadata cache. */
  readonly cacheSize: number | undefined;
  readonly readOnly: boolean;
  readonly forceShare: boolean;
}

/** How a name is to be read. */
export interface NameOptions {
  /** `-f`. */
  readonly format?: string | undefined;
  /** `--image-opts`. */
  readonly imageOpts?: boolean | undefined;
}

/** Protocols whose prefix means a file. */
const FILE_PROTOCOLS = new Set(['file', 'host_device']);
/** Options that any node may have; what they say makes no difference to us, but has to be right. */
const GENERIC_SWITCHES = ['auto-read-only', 'cache.direct', 'cache.no-flush', 'active'];
const GENERIC_TEXTS = ['node-name', 'discard', 'detect-zeroes'];
const QCOW2_SWITCHES = [
  'lazy-refcounts',
  'pass-discard-request',
  'pass-discard-snapshot',
  'pass-discard-other',
  'discard-no-unref',
];
const OVERLAP_KINDS = ['none', 'constant', 'cached', 'all'];
const OVERLAP_AREAS = [
  'main-header',
  'active-l1',
  'active-l2',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'inactive-l1',
  'inactive-l2',
  'bitmap-directory',
];

/** Reads a name. Throws `CommandError` in QEMU's words. */
export function readImageName(text: string, { format, imageOpts = false }: NameOptions = {}): ImageName {
  if (imageOpts && format !== undefined) throw new CommandError('--image-opts and --format are mutually exclusive');
  const refuse = (reason: string): never => {
    throw new CommandError(`Could not open '${text}': ${reason}`);
  };
  if (imageOpts) return fromOptions(text, new Map(optionPairs(text)), undefined, refuse);
  if (text.startsWith('json:')) return fromOptions(text, jsonOptions(text.slice(5), refuse), format, refuse);
  if (text === '') refuse("The 'file' block driver requires a file name");
  const protocol = /^([^/:]*):/.exec(text)?.[1];
  if (protocol !== undefined && !FILE_PROTOCOLS.has(protocol)) refuse(`Unknown protocol '${protocol}'`);
  const path = protocol === undefined ? text : text.slice(protocol.length + 1);
  const plain = { window: undefined, cacheSize: undefined, readOnly: false, forceShare: false };
  return { text, path, format: formatOf(format, refuse), ...plain };
}

type Refuse = (reason: string) => never;
type Options = Map<string, string>;

/** The options of an object in one list: `{"file": {"filename": "x"}}` as `file.filename`. */
function jsonOptions(text: string, refuse: Refuse): Options {
  const options: Options = new Map();
  const add = (prefix: string, value: unknown): void => {
    if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) add(prefix === '' ? key : `${prefix}.${key}`, inner);
    } else {
      options.set(prefix, typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value ?? ''));
    }
  };
  const value = parseJson(text, refuse);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse('Invalid JSON object given');
  add('', value);
  return options;
}

/** QEMU takes strings in single quotes, too. */
function parseJson(text: string, refuse: Refuse): unknown {
  const strings = /"(?:[^"\\]|\\.)*"|'((?:[^'\\]|\\.)*)'/g;
  const quoted = text.replaceAll(strings, (all, inner?: string) =>
    inner === undefined ? all : `"${inner.replaceAll("\\'", "'").replaceAll('"', '\\"')}"`,
  );
  try {
    return JSON.parse(quoted);
  } catch (error) {
    const what = /end of JSON|Unterminated|property name/.test((error as Error).message) ? ', premature EOI' : '';
    return refuse(`Could not parse the JSON options: JSON parse error${what}`);
  }
}

function fromOptions(text: string, options: Options, format: string | undefined, refuse: Refuse): ImageName {
  const take = (name: string): string | undefined => {
    const value = options.get(name);
    options.delete(name);
    return value;
  };
  const about = `Could not open '${text}': `;
  const driver = take('driver') ?? format;
  const isFile = driver !== undefined && FILE_PROTOCOLS.has(driver);
  const known = isFile ? 'raw' : formatOf(driver, refuse);
  const path = isFile ? fileName('', take, refuse) : fileName('file.', take, refuse);
  const generic = genericOptions(take, refuse);
  const window = known === 'raw' && !isFile ? windowOf(take, about) : undefined;
  const cacheSize = known === 'raw' ? undefined : qcow2Options(take, refuse, about);
  const [left] = options.keys();
  if (left !== undefined) {
    const kind = isFile ? 'protocol' : 'format';
    refuse(`Block ${kind} '${driver ?? 'qcow2'}' does not support the option '${left}'`);
  }
  return { text, path, format: known, window, cacheSize, ...generic };
}

type Take = (name: string) => string | undefined;

function fileName(prefix: string, take: Take, refuse: Refuse): string {
  if (prefix !== '') {
    const reference = take('file');
    if (reference !== undefined) refuse(`Cannot find device='${reference}' nor node-name='${reference}'`);
  }
  const driver = prefix === '' ? undefined : take(`${prefix}driver`);
  if (driver !== undefined && !FILE_PROTOCOLS.has(driver)) refuse(`Unknown driver '${driver}'`);
  const name = take(`${prefix}filename`);
  if (name === undefined || name === '') {
    return refuse(
      driver === undefined && prefix !== ''
        ? 'A block device must be specified for "file"'
        : "The 'file' block driver requires a file name",
    );
  }
  for (const option of ['locking', 'aio', 'node-name', 'read-only', 'cache.direct', 'cache.no-flush']) {
    if (prefix !== '') take(`${prefix}${option}`);
  }
  return name;
}

function genericOptions(take: Take, refuse: Refuse): Pick<ImageName, 'readOnly' | 'forceShare'> {
  for (const name of GENERIC_TEXTS) take(name);
  for (const name of GENERIC_SWITCHES) switchOption(name, take, refuse);
  return { readOnly: switchOption('read-only', take, refuse), forceShare: switchOption('force-share', take, refuse) };
}

function windowOf(take: Take, about: string): ImageName['window'] {
  const offset = sizeOption('offset', take, about);
  const size = sizeOption('size', take, about);
  return offset === undefined && size === undefined ? undefined : { offset: offset ?? 0, size };
}

/** Bytes of the cache, of which there is one here for both kinds of tables. */
function qcow2Options(take: Take, refuse: Refuse, about: string): number | undefined {
  for (const name of QCOW2_SWITCHES) switchOption(name, take, refuse);
  for (const name of ['overlap-check', 'overlap-check.template']) {
    const kind = take(name);
    if (kind !== undefined && !OVERLAP_KINDS.includes(kind)) {
      refuse(
        `Unsupported value '${kind}' for qcow2 option 'overlap-check'. ` +
          `Allowed are any of the following: ${OVERLAP_KINDS.join(', ')}`,
      );
    }
  }
  for (const area of OVERLAP_AREAS) switchOption(`overlap-check.${area}`, take, refuse);
  take('cache-clean-interval');
  sizeOption('l2-cache-entry-size', take, about);
  const [l2, refcounts, both] = ['l2-cache-size', 'refcount-cache-size', 'cache-size'].map((name) =>
    sizeOption(name, take, about),
  );
  if (both !== undefined && l2 !== undefined && refcounts !== undefined) {
    refuse('cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
  }
  if (both !== undefined && l2 !== undefined && l2 > both) refuse('l2-cache-size may not exceed cache-size');
  if (both !== undefined && refcounts !== undefined && refcounts > both) {
    refuse('refcount-cache-size may not exceed cache-size');
  }
  if (both === undefined && l2 === undefined && refcounts === undefined) return undefined;
  return both ?? (l2 ?? 0) + (refcounts ?? 0);
}

function switchOption(name: string, take: Take, refuse: Refuse): boolean {
  const text = take(name);
  if (text === undefined || text === 'off' || text === 'false' || text === 'no') return false;
  if (text === 'on' || text === 'true' || text === 'yes' || text === 'y') return true;
  return refuse(`Parameter '${name}' expects 'on' or 'off'`);
}

function sizeOption(name: string, take: Take, about: string): number | undefined {
  const text = take(name);
  if (text === undefined) return undefined;
  return Number(sizeParameter(name, text, about));
}

/** The format of `-f` or `driver=`. */
function formatOf(text: string | undefined, refuse: Refuse): Format | undefined {
  if (text === undefined || text === 'qcow2' || text === 'raw') return text;
  return refuse(`Unknown driver '${text}'`);
}
