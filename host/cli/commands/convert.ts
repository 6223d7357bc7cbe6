/** `corral convert`: copies a disk, or several one behind the other, into a new image or into one that is there. */

import { type CopySource, joinedSource } from '../../convert-source.js';
import { countArgument, type Format, sizeArgument } from '../arguments.js';
import { Closers } from '../closers.js';
import { cacheOption, FORCE_SHARE, NO_BACKING, OBJECTS, PROGRESS, QUIET } from '../common-options.js';
import { type BitmapCopy, bitmapCopy } from '../copy-bitmaps.js';
import { sourceOf } from '../copy-source.js';
import { type CopyOptions, copyToExisting, copyToNew, type Surroundings } from '../copy-target.js';
import { checkSize, type NewImage, readNewImage } from '../create-options.js';
import { type Disk, openDisk } from '../disk.js';
import { newFilePath, STREAM_NAME } from '../image-name.js';
import { flag, list, type OptionValues, text, value } from '../option-table.js';
import { asksForOptions, createOptionsHelp } from '../options-help.js';
import { CommandError } from '../output.js';
import { stopSignal } from '../signals.js';
import { snapshotArgument } from '../snapshot-argument.js';
import { statOf } from '../unfinished-file.js';
import { defineVerb } from '../verb.js';

const SECTOR = 512;
const MAXIMUM_SPARSE_SIZE = 16 * 1024 * 1024;

const OPTIONS = {
  sourceFormat: text('-f, --source-format FMT', 'format of the sources: qcow2 or raw; found out when not given'),
  imageOpts: flag('--image-opts, --source-image-opts', 'the sources are lists of options'),
  targetImageOpts: flag('--target-image-opts', 'with -n: the target is a list of options'),
  sourceCache: cacheOption('-T, --source-cache CACHE', 'source cache'),
  targetFormat: text('-O, --output-format, --target-format FMT', 'qcow2 or raw (the default)'),
  options: list('-o, --options LIST', 'options of the new image, as with create'),
  targetCache: cacheOption('-t, --output-cache, --target-cache CACHE'),
  backing: text('-B, -b, --backing FILE', 'what the copy continues from: only what the source itself has is copied'),
  backingFormat: text('-F, --backing-format FMT', 'format of that file'),
  noCreate: flag('-n, --no-create', 'write into an image that exists'),
  targetIsZero: flag('--target-is-zero', 'with -n: that image reads as zeros'),
  compress: flag('-c, --compress', 'write compressed clusters (qcow2 only)'),
  compressionLevel: value('--compression-level LEVEL', 'of zlib 1 to 9, of zstd 1 to 19', (given) =>
    countArgument(given, 'compression level', 1, 19),
  ),
  snapshot: value(
    '-l, --snapshot, --source-snapshot SNAPSHOT',
    'copy this internal snapshot: an id or name, or snapshot.id=,snapshot.name=',
    snapshotArgument,
  ),
  sparseSize: value(
    '-S, --sparse-size SIZE',
    'least zeros in a row that are left out; 0 writes everything',
    sparseArgument,
  ),
  requests: value('-m, --parallel COUNT', 'requests at a time, 1 to 16', requestsArgument),
  outOfOrder: flag('-W, --oob-writes', 'write in any order'),
  copyRange: flag('-C, --copy-range-offloading', 'raw to raw: the file system copies, and shares blocks where it can'),
  rate: value('-r, --rate RATE', 'bytes a second at most', (given) => Number(sizeArgument(given, 'rate limit'))),
  bitmaps: flag('--bitmaps', 'copy the persistent dirty bitmaps, too'),
  skipBroken: flag('--skip-broken-bitmaps', 'with --bitmaps: leave out those that are inconsistent'),
  salvage: flag('--salvage', 'what cannot be read becomes zeros'),
  ...FORCE_SHARE,
  ...NO_BACKING,
  ...PROGRESS,
  ...QUIET,
  ...OBJECTS,
};

type Options = OptionValues<typeof OPTIONS>;

export const convert = defineVerb({
  about:
    'Copies a disk. The target appears, or replaces a file of its name, when the copy is complete. A source or target\n' +
    'of the name - is standard input or output. What goes out is written in one pass where all of its places are known\n' +
    'ahead: not with -c, -r, -S 0, bitmaps, a backing file, a data file, subclusters or preallocation. That, and what\n' +
    'comes in through a pipe, lies in a temporary file meanwhile.',
  operands: 'SOURCE... TARGET',
  options: OPTIONS,
  async run({ values, operands }, { terminal }) {
    const target = operands.at(-1);
    const sources = operands.slice(0, -1);
    if (asksForOptions(values.options)) {
      terminal.print(createOptionsHelp(formatOf(values.targetFormat), target !== undefined));
      return;
    }
    if (target === undefined || sources.length === 0) throw new CommandError('Must specify image file name');
    checkOptions(values, sources.length);
    checkStreams(sources, target, values);
    const stop = stopSignal();
    try {
      await convertThroughStreams(sources, target, values, { terminal, stop });
    } catch (error) {
      if (stop.exitCode === 0) throw error;
      const made = values.noCreate ? 'is incomplete' : 'was not made';
      throw new CommandError(`Interrupted: '${target}' ${made}`, stop.exitCode, { cause: error });
    } finally {
      stop.release();
    }
  },
});

/** What streams cannot be. */
function checkStreams(sources: readonly string[], target: string, options: Options): void {
  if (sources.filter((source) => source === STREAM_NAME).length > 1) {
    throw new CommandError('Standard input can be a source only once');
  }
  if (target !== STREAM_NAME) return;
  if (options.noCreate) throw new CommandError('Standard output is no image that exists: -n cannot be used');
  if (options.progress && !options.quiet)
    throw new CommandError('Progress cannot be shown: standard output is the target');
  if (process.stdout.isTTY) throw new CommandError('Standard output is a terminal: an image is not written to it');
}

/** Conversion with files in the place of streams. Throws `CommandError`, with the streams' name for those files. */
async function convertThroughStreams(
  sources: readonly string[],
  target: string,
  options: Options,
  around: Surroundings,
): Promise<void> {
  if (target !== STREAM_NAME && !sources.includes(STREAM_NAME)) return convertDisks(sources, target, options, around);
  const { signal } = around.stop;
  const { inputFile, receiveInput, sendOutput, TemporaryFolder } = await import('../standard-streams.js');
  const { sendImage } = await import('../streamed-target.js');
  await using opened = new Closers();
  const folder = opened.add(await TemporaryFolder.create());
  const given = sources.includes(STREAM_NAME) ? inputFile() : undefined;
  const [input, output] = [given ?? folder.path('input'), folder.path('output')];
  try {
    if (sources.includes(STREAM_NAME) && given === undefined) await receiveInput(input, signal);
    const paths = sources.map((source) => (source === STREAM_NAME ? input : source));
    // Standard output is no disk that a power cut could take away.
    const toOutput = { ...options, targetCache: 'unsafe' } as const;
    if (target !== STREAM_NAME) return await convertDisks(paths, target, options, around);
    let sent = false;
    const send = async (source: CopySource, image: NewImage, copy: CopyOptions): Promise<boolean> => {
      sent = await sendImage(source, image, { path: folder.path('tables'), options: copy, signal });
      return sent;
    };
    await convertDisks(paths, output, toOutput, around, send);
    if (!sent) await sendOutput(output, signal);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const text = [input, output].reduce((message, path) => message.replaceAll(path, STREAM_NAME), error.message);
    throw new CommandError(text, error.exitCode, error);
  }
}

function formatOf(text = 'raw'): Format {
  if (text === 'raw' || text === 'qcow2') return text;
  throw new CommandError(`Unknown file format '${text}'`);
}

/** What contradicts itself. */
function checkOptions(options: Options, sources: number): void {
  const { targetFormat = 'raw' } = options;
  if (options.snapshot !== undefined && sources > 1) {
    throw new CommandError('No support for concatenating multiple snapshot');
  }
  if (options.skipBroken && !options.bitmaps) {
    throw new CommandError('Use of --skip-broken-bitmaps requires --bitmaps');
  }
  if (options.imageOpts && options.sourceFormat !== undefined) {
    throw new CommandError('--image-opts and --format are mutually exclusive');
  }
  if (options.copyRange && options.sparseSize !== undefined) {
    throw new CommandError('Cannot enable copy offloading when -S is used');
  }
  if (options.copyRange && options.compress) throw new CommandError('Cannot enable copy offloading when -c is used');
  if (options.copyRange && options.salvage) throw new CommandError('Cannot use copy offloading in salvaging mode');
  if (options.targetIsZero && options.backing !== undefined) {
    throw new CommandError('Cannot use --target-is-zero when the destination image has a backing file');
  }
  if (options.targetImageOpts && !options.noCreate) {
    throw new CommandError('--target-image-opts requires use of -n flag');
  }
  if (options.targetImageOpts && options.targetFormat !== undefined) {
    throw new CommandError('--image-opts and --format are mutually exclusive');
  }
  if (options.targetIsZero && !options.noCreate) throw new CommandError('--target-is-zero requires use of -n flag');
  if (options.noCreate && options.options.length > 0) {
    throw new CommandError('-o has no effect when skipping image creation');
  }
  if (options.backing !== undefined && sources > 1) {
    throw new CommandError(
      'Having a backing file for the target makes no sense when concatenating multiple input images',
    );
  }
  formatOf(targetFormat);
  if (options.compress && targetFormat === 'raw' && !options.targetImageOpts) {
    throw new CommandError('Compression not supported for this file format');
  }
  if (options.compressionLevel !== undefined && !options.compress) {
    throw new CommandError('--compression-level has no effect without -c');
  }
}

/** @param send what is tried ahead of making the target; true: there is nothing left to make */
async function convertDisks(
  paths: readonly string[],
  target: string,
  options: Options,
  around: Surroundings,
  send?: (source: CopySource, image: NewImage, options: CopyOptions) => Promise<boolean>,
): Promise<void> {
  await using opened = new Closers();
  const disks: Disk[] = [];
  for (const path of paths) {
    const { imageOpts, snapshot, forceShare, noBacking, sourceFormat: format, sourceCache: cache } = options;
    disks.push(opened.add(await openDisk(path, { format, imageOpts, snapshot, forceShare, noBacking, cache })));
  }
  const lists = options.options;
  const backing = { backing: options.backing, backingFormat: options.backingFormat };
  const format = formatOf(options.targetFormat);
  const path = options.noCreate || target === STREAM_NAME ? target : newFilePath(target);
  const about = `${target}: error while converting ${format}`;
  const image = readNewImage(format, lists, backing, '');
  if (image.problem !== undefined) throw new CommandError(`${about}: ${image.problem}`);
  if (options.compress && image.dataFile !== undefined) {
    throw new CommandError('An image with an external data file has no compressed clusters');
  }
  if (options.compress && (image.preallocation ?? 'off') !== 'off') {
    throw new CommandError('Compression and preallocation not supported at the same time');
  }
  if (image.backingFile !== undefined && disks.length > 1) {
    throw new CommandError(
      'Having a backing file for the target makes no sense when concatenating multiple input images',
    );
  }
  if (!options.noCreate && image.backingFile !== undefined && image.backingFormat === undefined) {
    throw new CommandError('Use of backing file requires explicit backing format');
  }
  const topOnly = image.backingFile !== undefined;
  const salvage = options.salvage ? around.terminal : undefined;
  const source = joinedSource(disks.map((disk) => sourceOf(disk, { topOnly, salvage })));
  for (const disk of disks) refuseSameFile(disk, path, options);
  const bitmaps = options.bitmaps ? await bitmapsOf(disks, options, around) : undefined;
  const copy = {
    ...options,
    bitmaps,
    anyOrder: options.outOfOrder,
    offload: options.copyRange,
    progress: options.quiet ? undefined : options.progress,
  };
  if (options.noCreate) {
    const naming = options.targetImageOpts ? { imageOpts: true } : { format: options.targetFormat ?? 'raw' };
    const { targetIsZero } = options;
    await copyToExisting(source, target, naming, { options: copy, around, targetIsZero });
    return;
  }
  checkSize(target, image, BigInt(source.length));
  if (await send?.(source, image, copy)) return;
  await copyToNew(source, path, image, { options: copy, around, about });
}

function bitmapsOf(disks: readonly Disk[], { skipBroken }: Options, around: Surroundings): Promise<BitmapCopy> {
  const [disk] = disks;
  if (disk === undefined || disks.length > 1)
    throw new CommandError('Copying bitmaps only possible with single source');
  const { terminal, stop } = around;
  return bitmapCopy(disk, { skipBroken: skipBroken ? terminal : undefined, signal: stop.signal });
}

function refuseSameFile(disk: Disk, target: string, options: Options): void {
  if (options.targetImageOpts) return;
  const about = options.noCreate
    ? `Could not open '${target}'`
    : `${target}: error while converting ${options.targetFormat ?? 'raw'}`;
  const [from, there] = [statOf(disk.name.path, about), statOf(target, about)];
  if (from === undefined || from.ino !== there?.ino || from.dev !== there.dev) return;
  const hints = [`Is another process using the image [${target}]?`];
  throw new CommandError(`${about}: Failed to get "write" lock`, 1, { hints });
}

function sparseArgument(given: string): number {
  const size = Number(sizeArgument(given, 'buffer size for sparse output'));
  if (size % SECTOR === 0 && size <= MAXIMUM_SPARSE_SIZE) return size;
  throw new CommandError(
    `Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to ${MAXIMUM_SPARSE_SIZE}. ` +
      'Select 0 to disable sparse detection (fully allocates output).',
  );
}

function requestsArgument(given: string): number {
  const count = /^\d{1,9}$/.test(given) ? Number(given) : undefined;
  if (count === undefined) throw new CommandError(`Invalid number of coroutines specified: '${given}'.`);
  if (count >= 1 && count <= 16) return count;
  throw new CommandError('Invalid number of coroutines specified. Must be between 1 and 16.');
}
