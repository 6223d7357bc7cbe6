/** `corral convert`: copies a disk into a new file, which takes the target's name only when it is whole. */

import { type Stats, statSync } from 'node:fs';
import { chmod, realpath, rename, unlink } from 'node:fs/promises';
import { type CacheMode, isWriteThrough } from '../../cache-mode.js';
import {
  type CopySource,
  type CopyTarget,
  convert as copyDisk,
  fileSource,
  fileTarget,
  imageSource,
  imageTarget,
} from '../../convert.js';
import { CorralError, systemErrorCode } from '../../errors.js';
import type { Image } from '../../image.js';
import { NodeFile } from '../../node/node-file.js';
import type { SnapshotSelection } from '../../snapshot-record.js';
import { cacheArgument, countArgument, type Format, formatArgument, optionList, parseSize } from '../arguments.js';
import { checkSize, type NewImage, newImage } from '../create-options.js';
import { makeImage } from '../new-file.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { flag, list, value } from '../option-table.js';
import { CommandError, errorLine, formatPercent, reasonOf, type Terminal, UsageError } from '../output.js';
import { type StopSignal, stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

const SECTOR = 512;
const MAXIMUM_SPARSE_SIZE = 16 * 1024 * 1024;

interface Options {
  sourceFormat: Format | undefined;
  targetFormat: Format | undefined;
  options: readonly string[];
  sparseSize: number | undefined;
  noCreate: boolean;
  requests: number | undefined;
  progress: boolean;
  quiet: boolean;
  forceShare: boolean;
  noBacking: boolean;
  compress: boolean;
  snapshot: SnapshotSelection | string | undefined;
  compressionLevel: number | undefined;
  targetCache: CacheMode | undefined;
  sourceCache: CacheMode | undefined;
}

export const convert = defineVerb({
  about: 'Copies a disk. The target appears, or replaces a file of its name, when the copy is complete.',
  operands: 'SOURCE TARGET',
  options: {
    sourceFormat: value('-f, --source-format FMT', 'qcow2, or raw, which is never guessed', (given) =>
      formatArgument(given),
    ),
    targetFormat: value('-O, --output-format FMT', 'qcow2 or raw (the default)', (given) => formatArgument(given)),
    options: list('-o, --options LIST', 'options of the new image, as with create'),
    sparseSize: value(
      '-S, --sparse-size SIZE',
      'least zeros in a row that are left out; 0 writes everything',
      sparseArgument,
    ),
    snapshot: value(
      '-l, --snapshot SNAPSHOT',
      'copy this internal snapshot: an id or name, or snapshot.id=,snapshot.name=',
      snapshotArgument,
    ),
    noCreate: flag('-n, --no-create', 'write into an image that exists'),
    requests: value('-m, --parallel COUNT', 'requests at a time, 1 to 16', (given) =>
      countArgument(given, 'number of requests', 1, 16),
    ),
    targetCache: value('-t MODE', 'none, writeback (default), writethrough, directsync or unsafe', (given) =>
      cacheArgument(given, 'cache'),
    ),
    sourceCache: value('-T MODE', 'the same of the source', (given) => cacheArgument(given, 'source cache')),
    progress: flag('-p, --progress', 'show how far it is'),
    quiet: flag('-q, --quiet', 'print nothing'),
    forceShare: flag('-U, --force-share', 'also when another process writes to the source'),
    compress: flag('-c, --compress', 'write compressed clusters (qcow2 only)'),
    compressionLevel: value('--compression-level LEVEL', 'of zlib 1 to 9, of zstd 1 to 19', (given) =>
      countArgument(given, 'compression level', 1, 19),
    ),
    noBacking: flag('--no-backing', 'open no backing file: an image that has one is refused'),
  },
  async run({ values, operands }, { terminal }) {
    const [source, target] = operands;
    if (source === undefined || target === undefined) throw new CommandError('Must specify image file name');
    if (operands.length > 2) throw new UsageError('Several sources are not supported yet');
    const stop = stopSignal();
    try {
      await convertFile(source, target, values, { terminal, stop });
    } catch (error) {
      if (stop.exitCode === 0) throw error;
      const made = values.noCreate ? 'is incomplete' : 'was not made';
      throw new CommandError(`Interrupted: '${target}' ${made}`, stop.exitCode, { cause: error });
    } finally {
      stop.release();
    }
  },
});

function sparseArgument(text: string): number {
  const size = Number(sizeOf(text));
  if (size % SECTOR === 0 && size <= MAXIMUM_SPARSE_SIZE) return size;
  throw new CommandError(
    `Invalid buffer size for sparse output specified: '${text}'. Must be a multiple of 512 up to ${MAXIMUM_SPARSE_SIZE}, ` +
      'or 0, which writes everything.',
  );
}

/** `snapshot.id=1,snapshot.name=x` names both; any other text is an id, or else a name. */
function snapshotArgument(text: string): SnapshotSelection | string {
  if (!/^snapshot\.(id|name)=/.test(text)) return text;
  const options = optionList([text]);
  return { id: options.get('snapshot.id'), name: options.get('snapshot.name') };
}

function sizeOf(text: string): bigint {
  try {
    return parseSize(text);
  } catch {
    throw new CommandError(`Invalid buffer size for sparse output specified: '${text}'.`);
  }
}

interface Surroundings {
  readonly terminal: Terminal;
  readonly stop: StopSignal;
}

/** Closes what was opened, last first. */
class Closers {
  private readonly closers: (() => Promise<unknown>)[] = [];

  add<T extends { close(): Promise<unknown> }>(opened: T): T {
    this.closers.push(() => opened.close());
    return opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.closers.reverse()) await close().catch(() => {});
  }
}

async function convertFile(path: string, target: string, options: Options, around: Surroundings): Promise<void> {
  if (options.compress && options.targetFormat !== 'qcow2') {
    throw new CommandError('Compression not supported for this file format');
  }
  if (options.compressionLevel !== undefined && !options.compress) {
    throw new CommandError('--compression-level has no effect without -c');
  }
  await using opened = new Closers();
  const source = await openSource(path, options, opened);
  const replaced = statOf(target);
  refuseSameFile(path, target, replaced);
  if (options.noCreate) {
    if (options.options.length > 0) throw new CommandError('-o has no effect with -n, which makes no image');
    await intoExisting(source, target, options, around);
    return;
  }
  const image = newImage(target, options.targetFormat ?? 'raw', options.options);
  if (image.size !== undefined)
    throw new CommandError(`${target}: The size is the source's, it cannot be given with -o`);
  if (image.backingFile !== undefined)
    throw new CommandError(`${target}: A copy over a backing file is not supported yet`);
  checkSize(target, image, BigInt(source.length));
  if (replaced !== undefined && !replaced.isFile()) {
    if (image.format === 'raw' && replaced.isBlockDevice()) await intoExisting(source, target, options, around);
    else throw new CommandError(`${target}: Could not create '${target}': Not a regular file`);
    return;
  }
  // Nobody may be using the file that is going to be replaced.
  if (replaced !== undefined) opened.add(await openFile(target, { write: true }));
  await intoNewFile(source, target, image, { options, around, mode: replaced?.mode });
}

async function openSource(path: string, options: Options, opened: Closers): Promise<CopySource> {
  const file = await openFile(path, {
    forceShare: options.forceShare,
    mayForceShare: true,
    cache: options.sourceCache,
  });
  if (options.sourceFormat === 'raw') {
    opened.add(file);
    if (options.snapshot !== undefined) throw new CommandError('Failed to load snapshot: a raw image has none');
    return named(fileSource(file, Math.ceil((await file.size()) / SECTOR) * SECTOR), path);
  }
  if (options.sourceFormat === undefined && (await probeFormat(file)) === 'raw') {
    await file.close();
    throw new CommandError(`Could not open '${path}': Image is not in qcow2 format (-f raw copies it as it is)`);
  }
  return named(
    imageSource(
      opened.add(
        await openImageIn(file, path, {
          forceShare: options.forceShare,
          snapshot: options.snapshot,
          backing: !options.noBacking,
          cache: options.sourceCache,
        }),
      ),
    ),
    path,
  );
}

/** The same source, whose errors say that it was reading that failed. */
function named(source: CopySource, path: string): CopySource {
  const failed = (error: unknown): unknown =>
    error instanceof CorralError && error.code !== 'ERR_CANCELLED'
      ? new CommandError(`Error while reading '${path}': ${reasonOf(error)}`, 1, { cause: error })
      : error;
  return {
    length: source.length,
    async *ranges(signal) {
      try {
        yield* source.ranges(signal);
      } catch (error) {
        throw failed(error);
      }
    },
    read: (offset, target) =>
      source.read(offset, target).catch((error: unknown) => {
        throw failed(error);
      }),
  };
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw new CommandError(`${path}: Could not create '${path}': ${reasonOf(error)}`, 1, { cause: error });
  }
}

function refuseSameFile(source: string, target: string, there: Stats | undefined): void {
  const from = statOf(source);
  if (from === undefined || from.ino !== there?.ino || from.dev !== there.dev) return;
  throw new CommandError(`Source and target are the same file: '${target}'`);
}

/** Copies into a file of another name beside the target, and gives it the target's name at the end. */
async function intoNewFile(
  source: CopySource,
  target: string,
  image: NewImage,
  { options, around, mode }: { options: Options; around: Surroundings; mode: number | undefined },
): Promise<void> {
  // Through a symbolic link: what it points to is replaced, not the link.
  const path = mode === undefined ? target : await realpath(target);
  const unfinished = `${path}.${process.pid}.unfinished`;
  try {
    await makeImage(unfinished, image, BigInt(source.length));
    await fill(source, unfinished, image.format, { options, around, targetIsZero: true });
    if (mode !== undefined) await chmod(unfinished, mode & 0o7777);
    await rename(unfinished, path);
  } catch (error) {
    await unlink(unfinished).catch(() => {});
    if (error instanceof CommandError) throw error;
    throw new CommandError(`${target}: Could not create '${target}': ${reason(error)}`, 1, { cause: error });
  }
}

/** An error of a file with a name that the user never gave. */
function reason(error: unknown): string {
  return error instanceof CorralError || systemErrorCode(error) !== undefined ? reasonOf(error) : errorLine(error);
}

/** Copies over what is there. */
async function intoExisting(source: CopySource, target: string, options: Options, around: Surroundings): Promise<void> {
  await fill(source, target, options.targetFormat ?? 'raw', { options, around, targetIsZero: false });
}

async function fill(
  source: CopySource,
  path: string,
  format: Format,
  { options, around, targetIsZero }: { options: Options; around: Surroundings; targetIsZero: boolean },
): Promise<void> {
  const cache = options.targetCache;
  const file = await openFile(path, { write: true, cache, sync: format === 'raw' && isWriteThrough(cache) });
  const { compressionLevel, noBacking } = options;
  const opened =
    format === 'qcow2'
      ? await openImageIn(file, path, { write: true, compressionLevel, backing: !noBacking, cache })
      : file;
  try {
    const length = opened instanceof NodeFile ? await file.size() : opened.size;
    if (length < source.length) throw new CommandError('output file is smaller than input file');
    await copyWithProgress(source, targetOf(opened, options), { options, around, targetIsZero });
    if (cache !== 'unsafe') await opened.flush();
  } catch (error) {
    await opened.close().catch(() => {});
    throw error;
  }
  await opened.close();
}

function targetOf(opened: NodeFile | Image, { compress }: Options): CopyTarget {
  return opened instanceof NodeFile ? fileTarget(opened) : imageTarget(opened, { compress });
}

async function copyWithProgress(
  source: CopySource,
  target: CopyTarget,
  { options, around, targetIsZero }: { options: Options; around: Surroundings; targetIsZero: boolean },
): Promise<void> {
  const { terminal, stop } = around;
  const show = options.progress && !options.quiet;
  let shown = Number.NEGATIVE_INFINITY;
  const print = (done: number, total: number): void => {
    const percent = (done / total) * 100;
    if (show && (percent - shown >= 1 || done === total)) {
      shown = percent;
      terminal.print(`    (${formatPercent(done, total)}/100%)\r`);
    }
  };
  print(0, 1);
  await copyDisk(source, target, {
    targetIsZero,
    sparseLength: options.sparseSize,
    requests: options.requests,
    signal: stop.signal,
    onProgress: print,
  });
  print(1, 1);
  if (show) terminal.print('\n');
}
