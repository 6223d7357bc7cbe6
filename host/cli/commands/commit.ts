/** `corral commit`: what an image holds is written into what lies behind it. */

import { dirname, resolve } from 'node:path';
import { layersOf } from '../../chain.js';
import { type CommitTarget, canBeEmptied, commitLayers, makeEmpty } from '../../commit.js';
import { sizeArgument } from '../arguments.js';
import { Closers } from '../closers.js';
import { cacheOption, IMAGE, PROGRESS, QUIET } from '../common-options.js';
import { type Disk, openDisk, warnOfGuess } from '../disk.js';
import { askLive, type Live, liveDevice } from '../live.js';
import { flag, type OptionValues, text, value } from '../option-table.js';
import { CommandError, reasonIn, type Terminal } from '../output.js';
import { showProgress } from '../progress.js';
import { type StopSignal, stopSignal } from '../signals.js';
import { defineVerb, oneOperand } from '../verb.js';

const OPTIONS = {
  ...IMAGE,
  base: text('-b, --base FILE', 'the layer that is written; implies -d. Default: the backing file'),
  drop: flag('-d, --drop', 'leave the image as it is afterwards'),
  rate: value('-r, --rate RATE', 'bytes a second at most', (given) => Number(sizeArgument(given, 'rate limit'))),
  cache: cacheOption('-t, --cache CACHE'),
  ...PROGRESS,
  ...QUIET,
};

type Options = OptionValues<typeof OPTIONS>;

export const commit = defineVerb({
  about:
    'Writes what an image holds into its backing file, and empties the image. Whatever else continues from that file\n' +
    'reads something else then.',
  operands: 'FILE',
  options: OPTIONS,
  async run({ values, operands }, { terminal }) {
    const path = oneOperand(operands);
    const stop = stopSignal();
    try {
      await commitImage(path, values, { terminal, stop });
    } catch (error) {
      if (stop.exitCode === 0) throw error;
      throw new CommandError(`Interrupted: '${path}' is as it was`, stop.exitCode, { cause: error });
    } finally {
      stop.release();
    }
    if (!values.quiet) terminal.print('Image committed.\n');
  },
});

/** The layer that is written. */
interface Base {
  readonly path: string;
  readonly format: string;
  /** Layers above it. */
  readonly depth: number;
}

async function commitImage(
  path: string,
  options: Options,
  around: { terminal: Terminal; stop: StopSignal },
): Promise<void> {
  const { terminal, stop } = around;
  const live = liveDevice(path, options.format);
  if (live !== undefined) return commitLive(live, options);
  const drop = options.drop || options.base !== undefined;
  const base = await findBase(path, options, { drop, terminal });
  await using opened = new Closers();
  // Ahead of the image, whose chain reads this file too and must not lock it then.
  const target = opened.add(await openDisk(base.path, { format: base.format, write: true }));
  const overlay = opened.add(await openDisk(path, { ...options, write: !drop, unlockedBacking: true }));
  const { image } = overlay;
  if (image === undefined) throw new CommandError('Image does not have a backing file');
  try {
    const progress = showProgress(terminal, options.quiet ? undefined : options.progress);
    await commitLayers(image, named(target, base.path), {
      depth: base.depth,
      bytesPerSecond: options.rate,
      onProgress: progress.report,
      signal: stop.signal,
    });
    progress.finish();
    // What else it keeps, such as bitmaps, is stored then.
    await inFile(base.path, () => target.close());
    if (!drop) await makeEmpty(image, { signal: stop.signal });
    await image.close();
  } catch (error) {
    throw new CommandError(`Error while committing image: ${reasonIn(path, error)}`, 1, { cause: error });
  }
}

/** The layer that is written, whose errors are told as its own and not as the image's. */
function named(target: Disk, path: string): CommitTarget {
  return {
    size: target.size,
    write: (offset, source) => inFile(path, () => target.write(offset, source)),
    writeZeroes: (offset, length, how) => inFile(path, () => target.writeZeroes(offset, length, how)),
    resize: (size) => inFile(path, () => target.resize(size)),
    flush: () => inFile(path, () => target.flush()),
  };
}

async function inFile(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new CommandError(reasonIn(path, error), 1, { cause: error });
  }
}

/** An overlay that is served: its guest waits meanwhile, and a signal here changes nothing of that. */
async function commitLive(live: Live, { base, drop, rate = 0 }: Options): Promise<void> {
  const about = `Error while committing '${live.name}'`;
  if (base !== undefined) {
    throw new CommandError(`${about}: only into the backing file itself while it is served, without --base`);
  }
  await askLive(live, { verb: 'commit', keep: drop, bytesPerSecond: rate }, about);
}

/** Looks at the chain, and closes it again. */
async function findBase(
  path: string,
  options: Options,
  { drop, terminal }: { drop: boolean; terminal: Terminal },
): Promise<Base> {
  const disk: Disk = await openDisk(path, options);
  try {
    const { image } = disk;
    const layers = image === undefined ? [] : layersOf(image);
    if (image === undefined && disk.name.format === undefined) warnOfGuess(path, terminal);
    if (image === undefined || layers.length === 0) throw new CommandError('Image does not have a backing file');
    const { base } = options;
    const above = (index: number): string => layers[index - 1]?.location ?? disk.name.path;
    const index =
      base === undefined ? 0 : layers.findIndex(({ location }, index) => isSame(location, base, above(index)));
    const found = layers[index];
    if (found?.location === undefined) {
      throw new CommandError(`Did not find '${base ?? ''}' in the backing chain of '${path}'`);
    }
    if (!drop && !canBeEmptied(image)) {
      throw new CommandError(
        'An image with an external data file is not emptied: -d leaves it as it is, and commits all the same',
      );
    }
    return { path: found.location, format: found.format, depth: index + 1 };
  } finally {
    await disk.close();
  }
}

/** As the names inside of images: relative ones begin in the folder of what names them. */
function isSame(location: string | undefined, name: string, above: string): boolean {
  return location !== undefined && resolve(location) === resolve(dirname(above), name);
}
