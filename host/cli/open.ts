/** Opening files and images for the commands, with QEMU's words when it fails. */

import { Field } from '../abi.js';
import type { BlockFile } from '../block-file.js';
import { type CacheMode, isDirect } from '../cache-mode.js';
import { CorralError } from '../errors.js';
import { HttpFile } from '../http-file.js';
import { Image } from '../image.js';
import { loadCore } from '../node/core.js';
import { nodeCodec } from '../node/node-codec.js';
import { NodeFile, type NodeFileOptions } from '../node/node-file.js';
import { pathGate } from '../node/path-gate.js';
import type { OpenGate } from '../open-gate.js';
import type { OpenOptions } from '../open-options.js';
import type { Format } from './arguments.js';
import { featureNames } from './feature-names.js';
import { headerWords } from './header-words.js';
import { CommandError, escapeText, reasonOf } from './output.js';

/** Layers behind an image: qemu-img has no limit, and each of them takes memory. */
const CHAIN_DEPTH = 512;
/** Bytes that are held in memory when a server has no ranges. */
const LARGEST_DOWNLOAD = 64 * 1024 * 1024;
const MAGIC = [0x51, 0x46, 0x49, 0xfb];

export interface FileOptions {
  write?: boolean;
  /** `-U`: also when somebody writes to the image. */
  forceShare?: boolean;
  /** What the command line calls the file, where that is more than its path. */
  name?: string;
  /** False: nobody's locks count. */
  locked?: boolean | undefined;
  /** `--no-backing`: what the image names stays closed. */
  noBacking?: boolean | undefined;
  /** `-t`, `-T`. */
  cache?: CacheMode | undefined;
  /** Every write is durable before it is answered: for a raw disk. */
  sync?: boolean | undefined;
  /** The verb has `--read-only`, which the line about a file that cannot be written then names. */
  mayReadOnly?: boolean;
  exitCode?: number;
  /** Of a file on a server: bytes that may be received. */
  maximumBytes?: number;
  /** Told what is not as it should be with a server. */
  warn?: ((line: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** An open file, here or on a server. */
export type OpenedFile = (NodeFile | HttpFile) & { readonly identity: string };

/** Opens a file of this machine, or one on a server by its URL. Throws `CommandError`. */
export async function openFile(path: string, options: FileOptions = {}): Promise<OpenedFile> {
  try {
    if (isUrl(path)) return await openUrl(path, options);
    return await NodeFile.open(path, fileOptions(options));
  } catch (error) {
    throw cannotOpen(path, error, options);
  }
}

/** A name that means a file on a server. Only names of command lines are looked at like this, never those in images. */
export function isUrl(name: string): boolean {
  return /^https?:\/\//i.test(name);
}

async function openUrl(url: string, { write, maximumBytes, warn, signal }: FileOptions): Promise<HttpFile> {
  if (write) throw new CorralError('ERR_READ_ONLY', { reason: 'A file on a server cannot be written' });
  return HttpFile.open(url, {
    ...(maximumBytes === undefined ? {} : { maximumBytes, maximumDownload: Math.min(maximumBytes, LARGEST_DOWNLOAD) }),
    ...(warn === undefined ? {} : { onWarning: warn }),
    ...(signal === undefined ? {} : { signal }),
  });
}

function fileOptions({ write, forceShare, locked, cache, sync }: FileOptions): NodeFileOptions {
  return { write, lock: !forceShare && locked !== false, direct: isDirect(cache), sync };
}

/** Which files an image may name: any, as for qemu-img, or none. One from a server has no business with files here. */
export function gateOf({ forceShare, noBacking, cache }: FileOptions, path: string): OpenGate {
  if (isUrl(path)) {
    return async ({ role, name }) => {
      throw new CommandError(`The image is on a server: its ${role}, '${escapeText(name)}', is not opened`);
    };
  }
  if (!noBacking) return pathGate({ lock: !forceShare, direct: isDirect(cache) });
  return async ({ role, name }) => {
    throw new CommandError(`The image has a ${role}, '${escapeText(name)}', which --no-backing keeps closed`);
  };
}

/** Opens the image in a file, which is closed when that fails, as is a data file. Throws `CommandError`. */
export async function openImageIn(
  file: BlockFile,
  path: string,
  options: Omit<OpenOptions, 'core'> & FileOptions = {},
): Promise<Image> {
  try {
    const access = { core: loadCore(), codec: nodeCodec, gate: gateOf(options, path), chainDepth: CHAIN_DEPTH };
    return await Image.open(file, { ...access, ...options });
  } catch (error) {
    const named = await withFeatureNames(file, error);
    await options.dataFile?.close();
    await file.close();
    throw cannotOpen(path, named, options);
  }
}

/** The error says what all of the features are called that nobody here knows. */
async function withFeatureNames(file: BlockFile, error: unknown): Promise<unknown> {
  if (!(error instanceof CorralError) || error.details.fieldCode !== Field.IncompatibleFeatures) return error;
  const { found, backingFile } = error.details;
  if (error.code !== 'ERR_UNSUPPORTED' || found === undefined || backingFile !== undefined) return error;
  const names = await featureNames(file, found).catch(() => undefined);
  if (names === undefined) return error;
  return new CorralError(error.code, { ...error.details, reason: `Unsupported qcow2 feature(s): ${names}` });
}

/** `qcow2` by the file's first four bytes, else `raw`, which is what anything may be: never write to a file on this word. */
export async function probeFormat(file: BlockFile): Promise<Format> {
  const start = new Uint8Array(MAGIC.length);
  await file.read(0, start);
  return MAGIC.every((byte, index) => start[index] === byte) ? 'qcow2' : 'raw';
}

/** In QEMU's words: `Could not open 'x': Could not open 'x': No such file or directory`, the second time for the file. */
export function cannotOpen(path: string, error: unknown, options: FileOptions = {}): unknown {
  if (!(error instanceof CorralError)) return error;
  const { exitCode, name = path } = options;
  const { backingFile, cause } = error.details;
  if (backingFile !== undefined && cause instanceof CorralError) return cannotOpenBehind(path, cause, options);
  const about = `Could not open '${name}': `;
  if (error.code === 'ERR_LOCKED') {
    const permission = options.write ? '"write"' : 'shared "write"';
    const hints = [`Is another process using the image [${error.details.path ?? path}]?`];
    return new CommandError(`${about}Failed to get ${permission} lock`, exitCode, { cause: error, hints });
  }
  // A block device's permissions have nothing to do with the image's.
  const isProtected = options.write === true && error.code === 'ERR_PERMISSION' && error.details.device === undefined;
  const hint = isProtected && options.mayReadOnly ? ' (--read-only may work)' : '';
  return new CommandError(`${about}${fileReason(error)}${hint}`, exitCode, { cause: error });
}

/** The same for a file of its chain. */
function cannotOpenBehind(path: string, error: CorralError, options: FileOptions): CommandError {
  const { exitCode, name = path } = options;
  const about = `Could not open '${name}': Could not open backing file: `;
  if (error.code !== 'ERR_LOCKED') return new CommandError(about + fileReason(error), exitCode, { cause: error });
  const hints = [`Is another process using the image [${error.details.path ?? path}]?`];
  return new CommandError(`${about}Failed to get shared "write" lock`, exitCode, { cause: error, hints });
}

/** What is wrong with a file names it once more; what is wrong with its content does not. */
function fileReason(error: CorralError): string {
  const { path, reason } = error.details;
  if (path === undefined) return headerWords(error) ?? reasonOf(error);
  if (reason?.startsWith('Not a regular file')) return `'file' driver requires '${path}' to be a regular file`;
  return `Could not open '${path}': ${reasonOf(error)}`;
}
