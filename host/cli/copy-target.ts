/** Where a copy of a disk goes: a new file that takes its name when it is whole, or an image that is there. */

import { type Stats, statSync } from 'node:fs';
import { chmod, realpath, rename, unlink } from 'node:fs/promises';
import type { CacheMode } from '../cache-mode.js';
import { type CopySource, type CopyTarget, convert as copyDisk, fileTarget, imageTarget } from '../convert.js';
import { CorralError, systemErrorCode } from '../errors.js';
import { copyHelper } from '../node/copy-helper.js';
import type { BitmapCopy } from './copy-bitmaps.js';
import type { NewImage } from './create-options.js';
import { type Disk, openDisk } from './disk.js';
import { type NameOptions, nameOfPath } from './image-name.js';
import { makeImage } from './new-file.js';
import { openFile } from './open.js';
import { CommandError, errorLine, reasonOf, type Terminal } from './output.js';
import { type ProgressKind, showProgress } from './progress.js';
import type { StopSignal } from './signals.js';

/** How it is copied. */
export interface CopyOptions {
  /** Least zeros in a row that are not written, in bytes; 0 writes everything. */
  readonly sparseSize: number | undefined;
  readonly requests: number | undefined;
  readonly progress: ProgressKind | undefined;
  readonly compress: boolean;
  readonly compressionLevel: number | undefined;
  readonly noBacking: boolean;
  /** How the host's cache of the target is used. */
  readonly targetCache: CacheMode | undefined;
  /** Bytes a second at most. */
  readonly rate: number | undefined;
  /** What goes with the disk. */
  readonly bitmaps?: BitmapCopy | undefined;
}

export interface Surroundings {
  readonly terminal: Terminal;
  readonly stop: StopSignal;
}

/** What is there under a name; undefined when nothing is. */
export function statOf(path: string, about: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw new CommandError(`${about}: Could not create '${path}': ${reasonOf(error)}`, 1, { cause: error });
  }
}

/**
 * Copies into a file of another name beside the target, and gives it the target's name at the end. What is replaced must
 * be a file that nobody uses; a block device is written in place. `about` begins the line when that fails.
 */
export async function copyToNew(
  source: CopySource,
  target: string,
  image: NewImage,
  { options, around, about }: { options: CopyOptions; around: Surroundings; about: string },
): Promise<void> {
  const replaced = statOf(target, about);
  if (replaced !== undefined && !replaced.isFile()) {
    if (image.format !== 'raw' || !replaced.isBlockDevice()) {
      throw new CommandError(`${about}: Could not create '${target}': Not a regular file`);
    }
    return copyToExisting(source, nameOfPath(target), { format: 'raw' }, { options, around, targetIsZero: false });
  }
  // Nobody may be using the file that is going to be replaced.
  const held = replaced === undefined ? undefined : await holdReplaced(target, about);
  try {
    await fillBeside(source, target, image, { options, around, about, mode: replaced?.mode });
  } finally {
    await held?.close();
  }
}

async function holdReplaced(target: string, about: string): Promise<{ close(): Promise<void> }> {
  try {
    return await openFile(target, { write: true });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new CommandError(error.message.replace(/^Could not open '.*?': (?=Failed)/s, `${about}: `), 1, error);
  }
}

async function fillBeside(
  source: CopySource,
  target: string,
  image: NewImage,
  {
    options,
    around,
    about,
    mode,
  }: { options: CopyOptions; around: Surroundings; about: string; mode?: number | undefined },
): Promise<void> {
  // Through a symbolic link: what it points to is replaced, not the link.
  const path = mode === undefined ? target : await realpath(target);
  const unfinished = `${path}.${process.pid}.unfinished`;
  try {
    await makeImage(unfinished, image, BigInt(source.length));
    const targetIsZero = image.backingFile === undefined;
    await copyToExisting(source, nameOfPath(unfinished), { format: image.format }, { options, around, targetIsZero });
    if (mode !== undefined) await chmod(unfinished, mode & 0o7777);
    await rename(unfinished, path);
  } catch (error) {
    await unlink(unfinished).catch(() => {});
    if (error instanceof CommandError) {
      // The user has never heard of that name.
      throw new CommandError(error.message.replaceAll(unfinished, target), error.exitCode, error);
    }
    throw new CommandError(`${about}: Could not create '${target}': ${reason(error)}`, 1, { cause: error });
  }
}

/** An error of a file with a name that the user never gave. */
function reason(error: unknown): string {
  return error instanceof CorralError || systemErrorCode(error) !== undefined ? reasonOf(error) : errorLine(error);
}

/** Copies over what is there. */
export async function copyToExisting(
  source: CopySource,
  name: string,
  naming: NameOptions,
  { options, around, targetIsZero }: { options: CopyOptions; around: Surroundings; targetIsZero: boolean },
): Promise<void> {
  const { compressionLevel, noBacking, compress, targetCache: cache } = options;
  const disk = await openDisk(name, { ...naming, write: true, compressionLevel, noBacking, cache });
  try {
    await options.bitmaps?.check(disk);
    if (disk.size < source.length) throw new CommandError('output file is smaller than input file');
    await copyWithProgress(source, targetOf(disk, compress), { options, around, targetIsZero });
    if (cache !== 'unsafe') await disk.flush();
    await options.bitmaps?.copy(disk);
  } catch (error) {
    await disk.close().catch(() => {});
    throw error;
  }
  await disk.close();
}

function targetOf(disk: Disk, compress: boolean): CopyTarget {
  if (disk.image !== undefined) return imageTarget(disk.image, { compress });
  if (disk.name.window === undefined) return fileTarget(disk.file);
  return {
    granularity: 512,
    write: (offset, source) => disk.write(offset, source),
    writeZeroes: (offset, length) => disk.writeZeroes(offset, length),
  };
}

async function copyWithProgress(
  source: CopySource,
  target: CopyTarget,
  { options, around, targetIsZero }: { options: CopyOptions; around: Surroundings; targetIsZero: boolean },
): Promise<void> {
  const { terminal, stop } = around;
  const progress = showProgress(terminal, options.progress);
  await copyDisk(source, target, {
    targetIsZero,
    sparseLength: options.sparseSize,
    requests: options.requests,
    bytesPerSecond: options.rate,
    signal: stop.signal,
    onProgress: progress.report,
    helper: copyHelper(),
  });
  progress.finish();
}
