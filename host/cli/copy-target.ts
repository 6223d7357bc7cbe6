/** Where a copy of a disk goes: a new file that takes its name when it is whole, or an image that is there. */

import { dirname, resolve } from 'node:path';
import type { CacheMode } from '../cache-mode.js';
import { type CopyTarget, convert as copyDisk, fileTarget, imageTarget } from '../convert.js';
import type { CopySource } from '../convert-source.js';
import { CorralError, systemErrorCode } from '../errors.js';
import { copyHelper } from '../node/copy-helper.js';
import { Closers } from './closers.js';
import type { BitmapCopy } from './copy-bitmaps.js';
import type { NewImage } from './create-options.js';
import { type Disk, openDisk } from './disk.js';
import { type NameOptions, nameOfPath } from './image-name.js';
import { makeImage } from './new-file.js';
import { deferMachineCode } from './optimizer.js';
import { CommandError, errorLine, pathOf, reasonOf, type Terminal } from './output.js';
import { type ProgressKind, showProgress } from './progress.js';
import type { StopSignal } from './signals.js';
import { statOf, UnfinishedFile } from './unfinished-file.js';

/** Bytes: as short as a hole can be. */
const SHORTEST_HOLE = 512;

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
  /** As `ConvertOptions`. */
  readonly anyOrder?: boolean;
  readonly offload?: boolean;
  /** What goes with the disk. */
  readonly bitmaps?: BitmapCopy | undefined;
}

export interface Surroundings {
  readonly terminal: Terminal;
  readonly stop: StopSignal;
}

/**
 * Copies into a file of another name beside the target, and gives it the target's name at the end; an external data file
 * likewise. What is replaced must be a file that nobody uses; a block device is written in place. `about` begins the line
 * when that fails.
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
      const reason = replaced.isDirectory() ? 'Is a directory' : 'Not a regular file';
      throw new CommandError(`${about}: Could not create '${target}': ${reason}`);
    }
    return copyToExisting(source, nameOfPath(target), { format: 'raw' }, { options, around, targetIsZero: false });
  }
  await using opened = new Closers();
  const file = opened.add(await UnfinishedFile.beside(target, about));
  const data = await dataBeside(target, image, about);
  if (data !== undefined) opened.add(data);
  try {
    await makeImage(file.path, image, BigInt(source.length), data?.path);
    const targetIsZero = image.backingFile === undefined;
    const naming = { format: image.format, data: data === undefined ? undefined : { path: data.path, locked: true } };
    await fill(source, nameOfPath(file.path), naming, { options, around, targetIsZero });
    await data?.finish();
    await file.finish();
  } catch (error) {
    // The user has never heard of those names.
    const known = (text: string): string =>
      [file, data].reduce(
        (words, each) => (each === undefined ? words : words.replaceAll(each.path, each.target)),
        text,
      );
    if (error instanceof CommandError) throw new CommandError(known(error.message), error.exitCode, error);
    const which = known(pathOf(error) ?? target);
    throw new CommandError(`${about}: Could not create '${which}': ${known(reason(error))}`, 1, { cause: error });
  }
}

/** The data file of a new image; undefined when it has none, or when that is a device, which is written in place. */
async function dataBeside(target: string, { dataFile }: NewImage, about: string): Promise<UnfinishedFile | undefined> {
  if (dataFile === undefined) return undefined;
  const replaced = statOf(dataFile, about);
  if (replaced !== undefined && !replaced.isFile()) return undefined;
  const wanted = resolve(dirname(target), dataFile);
  if (wanted !== resolve(dataFile)) {
    throw new CommandError(`${about}: The image would look for its data file '${dataFile}' at '${wanted}'`);
  }
  return UnfinishedFile.beside(dataFile, about);
}

/** An error of a file with a name that the user never gave. */
function reason(error: unknown): string {
  return error instanceof CorralError || systemErrorCode(error) !== undefined ? reasonOf(error) : errorLine(error);
}

interface CopyManner {
  readonly options: CopyOptions;
  readonly around: Surroundings;
  readonly targetIsZero: boolean;
}

/** Copies over what is there. */
export async function copyToExisting(
  source: CopySource,
  name: string,
  naming: NameOptions,
  manner: CopyManner,
): Promise<void> {
  try {
    await fill(source, name, naming, manner);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(`Error while writing '${name}': ${reason(error)}`, 1, { cause: error });
  }
}

async function fill(
  source: CopySource,
  name: string,
  naming: NameOptions,
  { options, around, targetIsZero }: CopyManner,
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
  { options, around, targetIsZero }: CopyManner,
): Promise<void> {
  const { terminal, stop } = around;
  const progress = showProgress(terminal, options.progress);
  deferMachineCode();
  await copyDisk(source, target, {
    targetIsZero,
    // Compressed or not there: a cluster is left out as soon as it is zeros, whatever the least length of a hole.
    sparseLength: options.compress && options.sparseSize !== 0 ? SHORTEST_HOLE : options.sparseSize,
    requests: options.requests,
    anyOrder: options.anyOrder,
    offload: options.offload,
    bytesPerSecond: options.rate,
    signal: stop.signal,
    onProgress: progress.report,
    helper: copyHelper(),
  });
  progress.finish();
}
