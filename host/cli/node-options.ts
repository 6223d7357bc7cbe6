/**
 * Options of block nodes as QEMU's drivers read them: from a list with commas or from a JSON object, in both cases as one
 * map of dotted names. What is read is taken out of the map, so that what is left is what nobody knows. Everything here
 * throws `CommandError` with the reason alone.
 */

import type { CacheMode } from '../cache-mode.js';
import { isZero } from '../convert.js';
import type { OpenOptions } from '../open-options.js';
import type { OverlapCheckOption, OverlapLevel, OverlapStructure } from '../overlap-check.js';
import { optionPairs, sizeParameter, switchValue } from './arguments.js';
import { parseJsonObject } from './json-text.js';
import { CommandError } from './output.js';

export type NodeOptions = Map<string, string>;

/** Options that any node may have; undefined: not given. */
export interface GenericOptions {
  readonly readOnly: boolean | undefined;
  readonly forceShare: boolean | undefined;
  readonly discard: boolean | undefined;
  /** Past the page cache. */
  readonly direct: boolean | undefined;
  /** Flushes are left out. */
  readonly noFlush: boolean | undefined;
  readonly detectZeroes: DetectZeroes | undefined;
}

/** Whether a write of nothing but zeros is one that writes zeros, and whether that gives space back. */
export type DetectZeroes = 'off' | 'on' | 'unmap';

/** A write is to be done as one of zeros. */
export function isDetected(detectZeroes: DetectZeroes | undefined, source: Uint8Array): boolean {
  return detectZeroes !== undefined && detectZeroes !== 'off' && source.length > 0 && isZero(source);
}

/** Options of qcow2 images. */
export type ImageSettings = Pick<
  OpenOptions,
  | 'cacheSize'
  | 'l2CacheSize'
  | 'refcountCacheSize'
  | 'l2CacheEntrySize'
  | 'lazyRefcounts'
  | 'discardNoUnref'
  | 'passDiscard'
  | 'overlapCheck'
>;

const OVERLAP_LEVELS: readonly OverlapLevel[] = ['none', 'constant', 'cached', 'all'];
/** QEMU's names of the structures, and ours. */
const OVERLAP_STRUCTURES: Readonly<Record<string, OverlapStructure>> = {
  'main-header': 'mainHeader',
  'active-l1': 'activeL1',
  'active-l2': 'activeL2',
  'refcount-table': 'refcountTable',
  'refcount-block': 'refcountBlock',
  'snapshot-table': 'snapshotTable',
  'inactive-l1': 'inactiveL1',
  'inactive-l2': 'inactiveL2',
  'bitmap-directory': 'bitmapDirectory',
};
const JSON_PREFIX = 'json:';
/** Bytes: more than that is not taken for a cache. */
const LARGEST_CACHE_SIZE = 1024 ** 3;

/** The options of `--image-opts`. A first word without a value names a node. */
export function listedOptions(text: string): NodeOptions {
  const [first = '', ...rest] = text.split(',');
  const whole = first === '' || first.includes('=') ? text : [`file=${first}`, ...rest].join(',');
  return new Map(optionPairs(whole));
}

/** A name that is a JSON object. */
export function isJsonName(text: string): boolean {
  return text.startsWith(JSON_PREFIX);
}

/** The options of a `json:{}` name: `{"file": {"filename": "x"}}` as `file.filename`. */
export function jsonOptions(name: string): NodeOptions {
  const options: NodeOptions = new Map();
  const add = (prefix: string, value: unknown): void => {
    if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) add(prefix === '' ? key : `${prefix}.${key}`, inner);
    } else {
      options.set(prefix, typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value ?? ''));
    }
  };
  add('', parseJsonObject(name.slice(JSON_PREFIX.length), 'Could not parse the JSON options: '));
  return options;
}

export function take(options: NodeOptions, name: string): string | undefined {
  const value = options.get(name);
  options.delete(name);
  return value;
}

export function takeSwitch(options: NodeOptions, name: string): boolean | undefined {
  const text = take(options, name);
  if (text === undefined) return undefined;
  const value = switchValue(text);
  if (value !== undefined) return value;
  throw new CommandError(`Parameter '${name}' expects 'on' or 'off'`);
}

/** Bytes. */
export function takeSize(options: NodeOptions, name: string): number | undefined {
  const text = take(options, name);
  return text === undefined ? undefined : Number(sizeParameter(name, text));
}

/** The options of what lies below or behind: `file.…`. Undefined when there are none. */
export function takeChild(options: NodeOptions, name: string): NodeOptions | undefined {
  const child = [...options].filter(([key]) => key.startsWith(`${name}.`));
  for (const [key] of child) options.delete(key);
  return child.length === 0 ? undefined : new Map(child.map(([key, value]) => [key.slice(name.length + 1), value]));
}

/** A node can be named where it is not described, and there are none here that have names. */
export function refuseReference(options: NodeOptions, name: string): void {
  const reference = take(options, name);
  if (reference === undefined) return;
  throw new CommandError(`Cannot find device='${reference}' nor node-name='${reference}'`);
}

export function takeGeneric(options: NodeOptions): GenericOptions {
  const [readOnly, forceShare, direct, noFlush] = ['read-only', 'force-share', 'cache.direct', 'cache.no-flush'].map(
    (name) => takeSwitch(options, name),
  );
  for (const name of ['auto-read-only', 'active']) takeSwitch(options, name);
  options.delete('node-name');
  const discard = take(options, 'discard');
  if (discard !== undefined && !['unmap', 'on', 'ignore', 'off'].includes(discard)) {
    throw new CommandError('Invalid discard option');
  }
  const unmaps = discard === undefined ? undefined : discard === 'unmap' || discard === 'on';
  const zeroes = take(options, 'detect-zeroes');
  const detectZeroes = (['off', 'on', 'unmap'] as const).find((known) => known === zeroes);
  if (zeroes !== undefined && detectZeroes === undefined) {
    throw new CommandError(`invalid parameter value: ${zeroes}`);
  }
  if (zeroes === 'unmap' && !unmaps) {
    throw new CommandError('setting detect-zeroes to unmap is not allowed without setting discard operation to unmap');
  }
  return { readOnly, forceShare, discard: unmaps, direct, noFlush, detectZeroes };
}

/** How the host's cache is used when a node says so; else as `mode` says. */
export function cacheModeOf({ direct, noFlush }: GenericOptions, mode: CacheMode | undefined): CacheMode | undefined {
  if (direct === undefined && noFlush === undefined) return mode;
  if (noFlush ?? mode === 'unsafe') return 'unsafe';
  const isThrough = mode === 'writethrough' || mode === 'directsync';
  if (direct ?? (mode === 'none' || mode === 'directsync')) return isThrough ? 'directsync' : 'none';
  return isThrough ? 'writethrough' : 'writeback';
}

/** What qcow2 images can be told. Sizes are bytes. */
export function takeImageSettings(options: NodeOptions): ImageSettings {
  const [request, snapshot, other] = ['request', 'snapshot', 'other'].map((what) =>
    takeSwitch(options, `pass-discard-${what}`),
  );
  const settings = {
    lazyRefcounts: takeSwitch(options, 'lazy-refcounts'),
    discardNoUnref: takeSwitch(options, 'discard-no-unref'),
    overlapCheck: takeOverlapCheck(options),
    passDiscard: defined({ request, snapshot, other }),
    l2CacheEntrySize: takeSize(options, 'l2-cache-entry-size'),
    l2CacheSize: takeCacheSize(options, 'l2-cache-size'),
    refcountCacheSize: takeCacheSize(options, 'refcount-cache-size'),
    cacheSize: takeCacheSize(options, 'cache-size'),
  };
  const interval = take(options, 'cache-clean-interval');
  if (interval !== undefined && !/^\d+$/.test(interval)) {
    throw new CommandError("Parameter 'cache-clean-interval' expects a number");
  }
  checkCacheSizes(settings);
  return defined(settings) ?? {};
}

/** More than the host could have is no use to anybody. */
function takeCacheSize(options: NodeOptions, name: string): number | undefined {
  const size = takeSize(options, name);
  return size === undefined ? undefined : Math.min(size, LARGEST_CACHE_SIZE);
}

/** As QEMU, before anything is opened. */
function checkCacheSizes({ cacheSize: both, l2CacheSize: l2, refcountCacheSize: refcounts }: ImageSettings): void {
  if (both !== undefined && l2 !== undefined && refcounts !== undefined) {
    throw new CommandError('cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
  }
  if (both !== undefined && l2 !== undefined && l2 > both) {
    throw new CommandError('l2-cache-size may not exceed cache-size');
  }
  if (both !== undefined && refcounts !== undefined && refcounts > both) {
    throw new CommandError('refcount-cache-size may not exceed cache-size');
  }
}

function takeOverlapCheck(options: NodeOptions): OverlapCheckOption | undefined {
  const [plain, template] = ['overlap-check', 'overlap-check.template'].map((name) => take(options, name));
  if (plain !== undefined && template !== undefined && plain !== template) {
    throw new CommandError(
      `Conflicting values for qcow2 options 'overlap-check' ('${plain}') and 'overlap-check.template' ('${template}')`,
    );
  }
  const level = plain ?? template;
  if (level !== undefined && !OVERLAP_LEVELS.includes(level as OverlapLevel)) {
    throw new CommandError(
      `Unsupported value '${level}' for qcow2 option 'overlap-check'. ` +
        `Allowed are any of the following: ${OVERLAP_LEVELS.join(', ')}`,
    );
  }
  const structures = Object.entries(OVERLAP_STRUCTURES).map(([name, ours]) => [
    ours,
    takeSwitch(options, `overlap-check.${name}`),
  ]);
  return defined({ template: level as OverlapLevel | undefined, ...Object.fromEntries(structures) });
}

/** What was given; undefined when nothing was. */
function defined<T extends object>(values: T): Partial<T> | undefined {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : (Object.fromEntries(given) as Partial<T>);
}
