/**
 * The names of images on the command line: paths, `file:` names, `json:{}` objects and, with --image-opts, lists of options
 * as in `driver=qcow2,file.filename=x`. Names inside of images are never read like this: they are paths.
 */

import type { Format } from './arguments.js';
import { type FileNode, isFileDriver, namedFile, takeFile, takeFileOf } from './file-node.js';
import {
  type GenericOptions,
  type ImageSettings,
  isJsonName,
  jsonOptions,
  listedOptions,
  type NodeOptions,
  refuseReference,
  take,
  takeChild,
  takeGeneric,
  takeImageSettings,
} from './node-options.js';
import { CommandError } from './output.js';
import { type RawWindow, takeWindow } from './raw-window.js';

/** The name of standard input and output on a command line. A file of that name is `./-`. */
export const STREAM_NAME = '-';

/** What a name says of a disk. */
export interface DiskNode {
  /** Undefined: found out by the first bytes. */
  readonly format: Format | undefined;
  /** Where a raw disk lies in its file, in bytes. */
  readonly window: RawWindow | undefined;
  readonly generic: GenericOptions;
  /** Of an image. */
  readonly settings: ImageSettings;
  /** What lies behind the image, whatever it names; null: nothing. Undefined: what it names. */
  readonly backing: BackingNode | null | undefined;
  /** The external data file, whatever the image names. */
  readonly dataFile: FileNode | undefined;
}

/** What lies behind an image: without a file of its own it is the one that the image names. */
export interface BackingNode extends DiskNode {
  readonly file: FileNode | undefined;
  /** An option by which it is described. */
  readonly option: string;
}

/** What a name says. */
export interface ImageName extends DiskNode, FileNode {
  /** As it was given: errors speak of it. */
  readonly text: string;
}

/** How a name is to be read. */
export interface NameOptions {
  /** `-f`. */
  readonly format?: string | undefined;
  /** `--image-opts`. */
  readonly imageOpts?: boolean | undefined;
  /** With the name of a file: the external data file, whatever the image names. */
  readonly data?: FileNode | undefined;
}

const NO_GENERIC: GenericOptions = {
  readOnly: undefined,
  forceShare: undefined,
  discard: undefined,
  direct: undefined,
  noFlush: undefined,
  detectZeroes: undefined,
};
const PLAIN = { window: undefined, generic: NO_GENERIC, settings: {}, backing: undefined, dataFile: undefined };

/** Reads a name. Throws `CommandError` in QEMU's words. */
export function readImageName(text: string, { format, imageOpts = false, data }: NameOptions = {}): ImageName {
  if (imageOpts && format !== undefined) throw new CommandError('--image-opts and --format are mutually exclusive');
  return prefixed(`Could not open '${text}': `, () => {
    if (imageOpts) return { text, ...topNode(listedOptions(text), undefined) };
    if (isJsonName(text)) return { text, ...topNode(jsonOptions(text), format) };
    return { text, ...PLAIN, ...namedFile(text), format: formatOf(format), dataFile: data };
  });
}

/** Runs this with something in front of what it complains of. */
function prefixed<T>(prefix: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new CommandError(prefix + error.message, error.exitCode, { cause: error, hints: error.hints });
  }
}

/** The path of a file that is to be made. Throws `CommandError` when the name is none: nothing but files is made. */
export function newFilePath(text: string): string {
  const { path, faults } = namedFile(text);
  if (faults === undefined) return path;
  throw new CommandError("Protocol driver 'blkdebug' does not support image creation");
}

/** A path as a name, whatever colons are in it. */
export function nameOfPath(path: string): string {
  return path.includes(':') ? `file:${path}` : path;
}

function topNode(options: NodeOptions, format: string | undefined): DiskNode & FileNode {
  // What `-f` says goes before.
  const named = take(options, 'driver');
  const driver = format ?? named;
  if (driver !== undefined && isFileDriver(driver)) {
    return { ...PLAIN, generic: takeGeneric(new Map(options)), ...takeFileOf(driver, options), format: 'raw' };
  }
  const known = formatOf(driver);
  const file = takeFileBelow(options, driver);
  return { ...file, ...diskNode(options, known) };
}

/** The file in which an image or a raw disk lies. */
function takeFileBelow(options: NodeOptions, driver: string | undefined): FileNode {
  refuseReference(options, 'file');
  const file = takeChild(options, 'file');
  if (file === undefined) {
    const wrong = driver === undefined ? 'Must specify either driver or file' : undefined;
    throw new CommandError(wrong ?? 'A block device must be specified for "file"');
  }
  return takeFile(file);
}

/** Everything but the file. */
function diskNode(options: NodeOptions, format: Format | undefined): DiskNode {
  const generic = takeGeneric(options);
  const isRaw = format === 'raw';
  const node = {
    format,
    generic,
    window: isRaw ? takeWindow(options) : undefined,
    settings: isRaw ? {} : takeImageSettings(options),
    backing: takeBacking(options),
    dataFile: isRaw ? undefined : takeDataFile(options),
  };
  if (isRaw && node.backing) throw new CommandError("Driver doesn't support backing files");
  const [left] = options.keys();
  if (left === undefined) return node;
  throw new CommandError(`Block format '${format ?? 'qcow2'}' does not support the option '${left}'`);
}

/** An empty text, or null in JSON: nothing. */
export function takeBacking(options: NodeOptions): BackingNode | null | undefined {
  const reference = options.get('backing');
  if (reference === '') {
    options.delete('backing');
    return null;
  }
  return prefixed('Could not open backing file: ', () => {
    refuseReference(options, 'backing');
    const child = takeChild(options, 'backing');
    if (child === undefined) return undefined;
    const option = `backing.${[...child.keys()][0]}`;
    const format = formatOf(take(child, 'driver'));
    refuseReference(child, 'file');
    const file = takeChild(child, 'file');
    const named = file?.has('filename') || file?.has('driver') ? takeFile(file) : undefined;
    if (named === undefined && file !== undefined) {
      throw new CommandError(`Block protocol 'file' doesn't support the option '${[...file.keys()][0]}'`);
    }
    const node = { ...diskNode(child, format), file: named, option };
    if (node.window !== undefined || node.dataFile !== undefined) {
      throw new CommandError('A part of a file, and another data file, can only be given for the disk on top');
    }
    return node;
  });
}

/** `data-file.…` */
export function takeDataFile(options: NodeOptions): FileNode | undefined {
  refuseReference(options, 'data-file');
  const child = takeChild(options, 'data-file');
  if (child === undefined) return undefined;
  if (!child.has('driver') && !child.has('filename')) throw new CommandError('Must specify either driver or file');
  return takeFile(child);
}

/** The format of `-f` or `driver=`. */
function formatOf(text: string | undefined): Format | undefined {
  if (text === undefined || text === 'qcow2' || text === 'raw') return text;
  throw new CommandError(`Unknown driver '${text}'`);
}
