/** Which disk is meant: a file name with or without a protocol, or a list of options, as QEMU's block drivers read them. */

import type { CacheMode } from '../../cache-mode.js';
import { type FileNode, namedFile, takeFile, takeFileOf, withFileOptions } from '../file-node.js';
import { type BackingNode, takeBacking, takeDataFile } from '../image-name.js';
import {
  cacheModeOf,
  type DetectZeroes,
  type ImageSettings,
  isJsonName,
  jsonOptions,
  type NodeOptions,
  refuseReference,
  take,
  takeChild,
  takeGeneric,
  takeImageSettings,
} from '../node-options.js';
import { CommandError } from '../output.js';
import { type RawWindow, takeWindow } from '../raw-window.js';

type Protocol = 'file' | 'host_device' | 'blkdebug';

export interface DiskSource extends FileNode {
  /** What it was called; undefined for a list of options. */
  readonly name: string | undefined;
  /** Found out when undefined. */
  readonly format: 'raw' | 'qcow2' | undefined;
  /** What `info` calls a disk that is no image. */
  readonly rawName: 'raw' | Protocol;
  /** Where a raw disk lies in the file. */
  readonly window?: RawWindow | undefined;
  readonly settings: DiskSettings;
}

/** Options of any driver. Undefined: as the program's own options say. */
export interface DiskSettings {
  readonly readOnly?: boolean | undefined;
  readonly forceShare?: boolean | undefined;
  readonly discard?: boolean | undefined;
  /** As `cache.no-flush` and `cache.direct` say. */
  readonly cache?: CacheMode | undefined;
  readonly detectZeroes?: DetectZeroes | undefined;
  readonly image?: ImageSettings | undefined;
  /** What lies behind the image, whatever it names; null: nothing. */
  readonly backing?: BackingNode | null | undefined;
  /** The external data file, whatever the image names. */
  readonly dataFile?: FileNode | undefined;
}

/** The disk in a file. `format` is what the user says of it. Throws CommandError with the reason alone. */
export function namedSource(name: string, format: string | undefined): DiskSource {
  if (isJsonName(name)) return optionSource(jsonOptions(name), format, name);
  return {
    ...namedFile(name),
    name,
    rawName: 'raw',
    format: format === undefined ? undefined : formatOf(format),
    settings: {},
  };
}

/** The same with options besides, all of which are taken. */
export function namedSourceWith(name: string, options: NodeOptions): DiskSource {
  const driver = take(options, 'driver');
  const protocol = protocolOf(driver);
  const source = namedSource(name, protocol === undefined ? driver : 'raw');
  const isImage = protocol === undefined && driver !== 'raw';
  const said = Object.entries({ ...takeSettings(options), ...(isImage ? takeImage(options) : {}) });
  const settings = { ...source.settings, ...Object.fromEntries(said.filter(([, value]) => value !== undefined)) };
  const below = protocol === undefined ? takeChild(options, 'file') : options;
  const file = below === undefined ? {} : withFileOptions(source, below);
  const [left] = options.keys();
  if (left === undefined) return { ...source, ...file, rawName: protocol ?? source.rawName, settings };
  throw new CommandError(`Block format '${driver ?? 'qcow2'}' does not support the option '${left}'`);
}

/** The disk that options describe. A name among them is left to `name`. Throws CommandError with the reason alone. */
export function optionSource(options: NodeOptions, format: string | undefined, name?: string): DiskSource {
  // What `-f` says goes before.
  const named = take(options, 'driver');
  const driver = format ?? named;
  const protocol = protocolOf(driver);
  const settings = {
    ...takeSettings(options),
    ...(protocol === undefined && driver !== 'raw' ? takeImage(options) : {}),
  };
  const source: Source =
    protocol === undefined
      ? formatNode(driver, options)
      : { ...takeFileOf(protocol, options), format: 'raw', rawName: protocol };
  const [left] = options.keys();
  if (left !== undefined) throw new CommandError(`Block format '${driver}' does not support the option '${left}'`);
  return { ...source, name, settings };
}

/** A driver whose disks are no images. */
function protocolOf(driver: string | undefined): Protocol | undefined {
  return driver === 'file' || driver === 'host_device' || driver === 'blkdebug' ? driver : undefined;
}

function takeImage(options: NodeOptions): Pick<DiskSettings, 'image' | 'backing' | 'dataFile'> {
  return { image: takeImageSettings(options), backing: takeBacking(options), dataFile: takeDataFile(options) };
}

/** Checks the options that an open disk can be given anew, and removes them. Throws CommandError. */
export function takeChanges(options: NodeOptions): DiskSettings {
  return { ...takeSettings(options), image: takeImageSettings(options) };
}

type Source = Pick<DiskSource, 'path' | 'locked' | 'format' | 'rawName' | 'faults' | 'window'>;

function formatNode(driver: string | undefined, options: NodeOptions): Source {
  const format = driver === undefined ? undefined : formatOf(driver);
  refuseReference(options, 'file');
  const inner = takeChild(options, 'file');
  if (inner === undefined) {
    throw new CommandError(
      driver === undefined ? 'Must specify either driver or file' : 'A block device must be specified for "file"',
    );
  }
  const window = format === 'raw' ? takeWindow(options) : undefined;
  return { ...takeFile(inner), format, rawName: 'raw', window };
}

function formatOf(driver: string): 'raw' | 'qcow2' {
  if (driver === 'raw' || driver === 'qcow2') return driver;
  throw new CommandError(`Unknown driver '${driver}'`);
}

function takeSettings(options: NodeOptions): DiskSettings {
  const generic = takeGeneric(options);
  const { readOnly, forceShare, discard, direct, noFlush, detectZeroes } = generic;
  const isSaid = direct !== undefined || noFlush !== undefined;
  const cache = isSaid ? cacheModeOf(generic, 'writeback') : undefined;
  return { readOnly, forceShare, discard, cache, detectZeroes };
}
