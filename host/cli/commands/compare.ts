/** `corral compare`: whether two images hold the same disk. */

import { type ComparedDisk, compareDisks, type Difference } from '../../compare.js';
import { Closers } from '../closers.js';
import { cacheOption, FORCE_SHARE, IMAGE, NO_BACKING, OBJECTS, PROGRESS, QUIET } from '../common-options.js';
import { type Disk, openDisk } from '../disk.js';
import { requestErrorText } from '../errno-text.js';
import { flag, text } from '../option-table.js';
import { CommandError, reasonOf, type Terminal, UsageError } from '../output.js';
import { type Progress, type ProgressKind, showProgress } from '../progress.js';
import { stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

/** QEMU's exit statuses. */
enum Result {
  Same = 0,
  Different = 1,
  CannotOpen = 2,
  CannotRead = 4,
}

interface Options {
  firstFormat: string | undefined;
  secondFormat: string | undefined;
  imageOpts: boolean;
  forceShare: boolean;
  noBacking: boolean;
  strict: boolean;
  progress: ProgressKind | undefined;
  quiet: boolean;
}

export const compare = defineVerb({
  about: 'Says whether two images hold the same disk. Exit status: 0 yes, 1 no, more when that could not be found out.',
  operands: 'FILE1 FILE2',
  options: {
    firstFormat: text('-f, --a-format, --left-format FMT', 'format of the first image'),
    secondFormat: text('-F, --b-format, --right-format FMT', 'format of the second image'),
    imageOpts: IMAGE.imageOpts,
    strict: flag('-s, --strict', 'sizes, and what is allocated, have to be the same, too'),
    cache: cacheOption('-T, --cache CACHE', 'source cache', Result.CannotOpen),
    ...FORCE_SHARE,
    ...NO_BACKING,
    ...PROGRESS,
    ...QUIET,
    ...OBJECTS,
  },
  async run({ values, operands }, context) {
    const [first, second] = operands;
    if (first === undefined || second === undefined || operands.length !== 2) {
      throw new UsageError('Expecting two image file names');
    }
    context.exitCode = await compareImages(first, second, values, context.terminal);
  },
});

async function compareImages(
  firstName: string,
  secondName: string,
  options: Options,
  terminal: Terminal,
): Promise<Result> {
  await using opened = new Closers();
  const open = async (name: string, format: string | undefined): Promise<Disk> => {
    try {
      return opened.add(await openDisk(name, { ...options, format }));
    } catch (error) {
      throw error instanceof CommandError ? new CommandError(error.message, Result.CannotOpen, error) : error;
    }
  };
  const first = await open(firstName, options.firstFormat);
  const second = await open(secondName, options.secondFormat);
  const say = (line: string): void => {
    if (!options.quiet) terminal.print(`${line}\n`);
  };
  if (options.strict && first.size !== second.size) {
    say('Strict mode: Image size mismatch!');
    return Result.Different;
  }
  const progress = showProgress(terminal, options.quiet ? undefined : options.progress);
  const common = Math.min(first.size, second.size);
  const warn = (offset: number): void => {
    if (first.size !== second.size && offset >= common) say('Warning: Image size mismatch!');
  };
  const difference = await findDifference([named(first, warn), named(second, warn)], options, progress);
  warn(difference?.offset ?? common);
  if (difference === undefined) progress.complete();
  say(difference === undefined ? 'Images are identical.' : differenceText(difference));
  progress.end();
  return difference === undefined ? Result.Same : Result.Different;
}

async function findDifference(
  [first, second]: readonly [ComparedDisk, ComparedDisk],
  options: Options,
  progress: Progress,
): Promise<Difference | undefined> {
  const stop = stopSignal();
  try {
    const { strict } = options;
    return await compareDisks(first, second, {
      strict,
      onProgress: progress.report,
      signal: stop.signal,
    });
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(`Error while comparing: ${reasonOf(error)}`, stop.exitCode || Result.CannotRead, {
      cause: error,
    });
  } finally {
    stop.release();
  }
}

/** A disk whose errors say what could not be read; `failed` is told where before. */
function named(disk: Disk, failed: (offset: number) => void): ComparedDisk {
  return {
    size: disk.size,
    extents: () => disk.extents(),
    async read(offset, target) {
      try {
        await disk.read(offset, target);
      } catch (error) {
        failed(offset);
        const about = `Error while reading offset ${offset} of ${disk.name.text}`;
        throw new CommandError(`${about}: ${requestErrorText(error)}`, Result.CannotRead, { cause: error });
      }
    },
  };
}

function differenceText({ what, offset }: Difference): string {
  return what === 'content'
    ? `Content mismatch at offset ${offset}!`
    : `Strict mode: Offset ${offset} block status mismatch!`;
}
