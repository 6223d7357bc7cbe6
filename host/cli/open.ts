/** Opening files and images for the commands, with QEMU's words when it fails. */

import type { BlockFile } from '../block-file.js';
import { CorralError } from '../errors.js';
import { Image, type OpenOptions } from '../image.js';
import { loadCore } from '../node/core.js';
import { NodeFile } from '../node/node-file.js';
import type { Format } from './arguments.js';
import { CommandError, reasonOf } from './output.js';

const MAGIC = [0x51, 0x46, 0x49, 0xfb];

export interface FileOptions {
  write?: boolean;
  /** `-U`: also when somebody writes to the image. */
  forceShare?: boolean;
  /** The verb has `-U`, which the line about a locked image then names. */
  mayForceShare?: boolean;
  /** The verb has `--read-only`, which the line about a file that cannot be written then names. */
  mayReadOnly?: boolean;
  exitCode?: number;
}

/** Opens a file. Throws `CommandError`. */
export async function openFile(path: string, options: FileOptions = {}): Promise<NodeFile> {
  try {
    return await NodeFile.open(path, { write: options.write, lock: !options.forceShare });
  } catch (error) {
    throw cannotOpen(path, error, options);
  }
}

/** Opens the image in a file, which is closed when that fails. Throws `CommandError`. */
export async function openImageIn(
  file: BlockFile,
  path: string,
  options: Omit<OpenOptions, 'core'> & Omit<FileOptions, 'forceShare'> = {},
): Promise<Image> {
  try {
    return await Image.open(file, { core: loadCore(), ...options });
  } catch (error) {
    await file.close();
    throw cannotOpen(path, error, options);
  }
}

/** `qcow2` by the file's first four bytes, else `raw`, which is what anything may be: never write to a file on this word. */
export async function probeFormat(file: BlockFile): Promise<Format> {
  const start = new Uint8Array(MAGIC.length);
  await file.read(0, start);
  return MAGIC.every((byte, index) => start[index] === byte) ? 'qcow2' : 'raw';
}

/** "Could not open 'x': No such file or directory". */
export function cannotOpen(path: string, error: unknown, options: FileOptions = {}): unknown {
  if (!(error instanceof CorralError)) return error;
  const about = `Could not open '${path}': `;
  if (error.code === 'ERR_LOCKED') {
    const hint = options.mayForceShare ? ' (-U reads it all the same)' : '';
    const locked = `Failed to get ${options.write ? '"write"' : 'shared "write"'} lock: another process is using the image`;
    return new CommandError(`${about}${locked}${hint}`, options.exitCode, { cause: error });
  }
  const isProtected = options.write === true && error.code === 'ERR_PERMISSION';
  const hint = isProtected && options.mayReadOnly ? ' (--read-only may work)' : '';
  return new CommandError(`${about}${reasonOf(error)}${hint}`, options.exitCode, { cause: error });
}
