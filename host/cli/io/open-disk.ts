/** Opening a disk by what the command line says. */

import { CorralError } from '../../errors.js';
import { formatArgument } from '../arguments.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { CommandError, reasonOf } from '../output.js';
import type { Disk } from './disk.js';
import type { DiskOptions } from './disk-options.js';
import { ImageDisk } from './image-disk.js';
import { RawDisk } from './raw-disk.js';

export interface OpenedDisk {
  readonly disk: Disk;
  /** Lines for standard error. */
  readonly warnings: readonly string[];
}

/** Throws CommandError with the reason alone. */
export async function openDisk(path: string, options: DiskOptions): Promise<OpenedDisk> {
  const { write, forceShare } = options;
  if (write && forceShare) throw new CommandError('force-share=on can only be used with read-only images');
  const wanted = options.format === undefined ? undefined : knownFormat(options.format);
  const file = await openFile(path, { write, forceShare }).catch((error: unknown) => {
    throw lockedReason(path, error);
  });
  const format = wanted ?? (await probeFormat(file));
  if (format === 'qcow2') {
    const image = await openImageIn(file, path, { write, forceShare }).catch((error: unknown) => {
      throw imageReason(error);
    });
    const writeThrough = options.cache === 'writethrough' || options.cache === 'directsync';
    const disk = new ImageDisk(image, { writeThrough, noFlush: options.cache === 'unsafe', discard: options.discard });
    return { disk, warnings: [] };
  }
  const guessed = wanted === undefined;
  const disk = await RawDisk.open(file, { guessed, discard: options.discard });
  return { disk, warnings: guessed && write ? guessedRaw(path) : [] };
}

function knownFormat(name: string): 'raw' | 'qcow2' {
  try {
    return formatArgument(name);
  } catch (error) {
    throw new CommandError(`Unknown driver '${name}'`, 1, { cause: error });
  }
}

/** QEMU tells who may be in the way in a line of its own. */
function lockedReason(path: string, error: unknown): unknown {
  const { cause } = error as { cause?: unknown };
  if (!(cause instanceof CorralError) || cause.code !== 'ERR_LOCKED') return error;
  const lock = cause.message.includes('writing') ? 'shared "write"' : '"write"';
  return new CommandError(`Failed to get ${lock} lock\nIs another process using the image [${path}]?`, 1, { cause });
}

/** What is wrong with an image is said without its name. */
function imageReason(error: unknown): unknown {
  const { cause } = error as { cause?: unknown };
  return cause instanceof CorralError ? new CommandError(reasonOf(cause), 1, { cause: error }) : error;
}

function guessedRaw(path: string): string[] {
  return [
    `WARNING: Image format was not specified for '${path}' and probing guessed raw.`,
    '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.',
    "         Specify the 'raw' format explicitly to remove the restrictions.",
  ];
}
