/** `corral bitmap`: persistent dirty bitmaps are made, removed, cleared, switched on and off, and merged. */

import type { DirtyRange } from '../../bitmaps.js';
import type { Image } from '../../image.js';
import type { ControlRequest } from '../../node/control-protocol.js';
import { sizeArgument } from '../arguments.js';
import { Closers } from '../closers.js';
import { IMAGE } from '../common-options.js';
import { type Disk, openDisk } from '../disk.js';
import { askLive, type Live, liveDevice } from '../live.js';
import type { Given } from '../option-parser.js';
import { flag, text, value } from '../option-table.js';
import { CommandError, reasonIn, type Terminal } from '../output.js';
import { defineVerb } from '../verb.js';

/** One action, in the order of the command line. */
interface Action {
  readonly verb: 'add' | 'remove' | 'removeAll' | 'clear' | 'enable' | 'disable' | 'merge';
  /** The bitmap that is merged. */
  readonly source?: string;
}

/** Ranges in one request of the control socket, whose lines are bounded. */
const RANGES_AT_ONCE = 800;

interface Options {
  granularity: bigint | undefined;
  format: string | undefined;
  imageOpts: boolean;
  sourceFile: string | undefined;
  sourceFormat: string | undefined;
}

const VERBS: ReadonlySet<string> = new Set(['add', 'remove', 'removeAll', 'clear', 'enable', 'disable', 'merge']);

export const bitmap = defineVerb({
  about:
    'Changes a persistent dirty bitmap of an image. Several actions are carried out in the order in which they are given.',
  operands: '(--add | --remove | --remove-all | --clear | --enable | --disable | --merge SOURCE)... FILE [BITMAP]',
  options: {
    add: flag('--add', 'make the bitmap'),
    remove: flag('--remove', 'remove it'),
    removeAll: flag('--remove-all', 'remove every bitmap of the image; needs no BITMAP'),
    clear: flag('--clear', 'nothing is dirty in it any more'),
    enable: flag('--enable', 'note changes in it from now on'),
    disable: flag('--disable', 'leave it as it is from now on'),
    merge: text('--merge SOURCE', 'add what is dirty in another bitmap'),
    sourceFile: text('-b, --source-file FILE', 'with --merge: the other bitmap is one of this image'),
    sourceFormat: text('-F, --source-format FMT', 'its format'),
    granularity: value('-g, --granularity SIZE', 'with --add: bytes that one bit stands for', (given) =>
      sizeArgument(given, 'granularity'),
    ),
    ...IMAGE,
  },
  run: ({ values, operands, given }, { terminal }) => change(operands, given.flatMap(actionOf), values, terminal),
});

function actionOf({ name, argument }: Given): Action[] {
  return VERBS.has(name) ? [{ verb: name as Action['verb'], source: argument }] : [];
}

async function change(
  names: readonly string[],
  actions: readonly Action[],
  options: Options,
  terminal: Terminal,
): Promise<void> {
  if (actions.length === 0) {
    throw new CommandError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  const [path, name = ''] = names;
  const nameless = actions.length > 0 && actions.every(({ verb }) => verb === 'removeAll');
  if (path === undefined || (names.length !== 2 && !(nameless && names.length === 1))) {
    throw new CommandError('Expecting filename and bitmap name');
  }
  if (options.granularity !== undefined && !actions.some(({ verb }) => verb === 'add')) {
    throw new CommandError('granularity only supported with --add');
  }
  const { sourceFile, sourceFormat } = options;
  if (sourceFile !== undefined && !actions.some(({ verb }) => verb === 'merge')) {
    throw new CommandError('Merge bitmap source file only supported with --merge');
  }
  if (sourceFormat !== undefined && sourceFile === undefined) throw new CommandError('-F only supported with -b');
  const { format, imageOpts } = options;
  const live = liveDevice(path, format);
  if (live !== undefined) return changeLive(live, name, actions, options);
  await using opened = new Closers();
  const { image } = opened.add(await openDisk(path, { format, imageOpts, write: true, backingUnused: true, terminal }));
  if (image === undefined) throw new CommandError(`A raw file has no bitmaps: '${path}'`);
  // Only its tables. A raw one has no bitmaps.
  const other =
    sourceFile === undefined
      ? undefined
      : opened.add(await openDisk(sourceFile, { format: sourceFormat, tablesOnly: true }));
  for (const action of actions) {
    try {
      await perform(image, name, action, { ...options, other });
    } catch (error) {
      const what = action.verb === 'removeAll' ? 'remove-all' : `${action.verb} on bitmap ${name}`;
      throw new CommandError(`Operation ${what} failed: ${reasonIn(path, error)}`, 1, { cause: error });
    }
  }
  await image.close();
}

/** On what is served: its guest goes on. */
async function changeLive(live: Live, name: string, actions: readonly Action[], options: Options): Promise<void> {
  for (const action of actions) {
    const about = `Operation ${action.verb === 'removeAll' ? 'remove-all' : `${action.verb} on bitmap ${name}`} failed`;
    for await (const request of requestsOf(live, name, action, options)) await askLive(live, request, about);
  }
}

async function* requestsOf(
  live: Live,
  bitmap: string,
  { verb, source = '' }: Action,
  { granularity, sourceFile, sourceFormat }: Options,
): AsyncGenerator<ControlRequest> {
  if (verb === 'removeAll') {
    const found = (await askLive(live, { verb: 'bitmap-list' }, 'Operation remove-all failed')) as { name: string }[];
    for (const { name } of found.reverse()) yield { verb: 'bitmap', action: 'remove', bitmap: name };
  } else if (verb === 'add') {
    yield {
      verb: 'bitmap',
      action: verb,
      bitmap,
      granularity: granularity === undefined ? undefined : Number(granularity),
    };
  } else if (verb !== 'merge') {
    yield { verb: 'bitmap', action: verb, bitmap };
  } else if (sourceFile === undefined) {
    yield { verb: 'bitmap', action: verb, bitmap, source };
  } else {
    await using opened = new Closers();
    const { image } = opened.add(await openDisk(sourceFile, { format: sourceFormat, tablesOnly: true }));
    if (image === undefined) throw new CommandError(`A raw file has no bitmaps: '${sourceFile}'`);
    const { diskSize } = (await askLive(live, { verb: 'stat' }, `Operation merge on bitmap ${bitmap} failed`)) as {
      diskSize: number;
    };
    if (diskSize !== image.size) {
      throw new CommandError(
        `Operation merge on bitmap ${bitmap} failed: Bitmaps are of different sizes (destination size is ${diskSize}, ` +
          `source size is ${image.size}) and can't be merged`,
      );
    }
    let ranges: DirtyRange[] = [];
    for await (const range of image.bitmaps.ranges(source)) {
      ranges.push(range);
      if (ranges.length < RANGES_AT_ONCE) continue;
      yield { verb: 'bitmap', action: 'mark', bitmap, ranges };
      ranges = [];
    }
    yield { verb: 'bitmap', action: 'mark', bitmap, ranges };
  }
}

function perform(
  image: Image,
  name: string,
  action: Action,
  { granularity, other }: Options & { other: Disk | undefined },
): Promise<void> {
  const { bitmaps } = image;
  const source = action.source as string;
  switch (action.verb) {
    case 'add':
      return bitmaps.add(name, { granularity });
    case 'merge':
      if (other === undefined) return bitmaps.merge(name, source);
      if (other.image === undefined) return mergeNothing(image, name, source);
      return bitmaps.mergeFrom(name, other.image, source);
    case 'removeAll':
      return bitmaps.removeAll();
    default:
      return bitmaps[action.verb](name);
  }
}

/** A raw disk has no bitmap of that name; that the image has none is told first. */
async function mergeNothing({ bitmaps }: Image, name: string, source: string): Promise<never> {
  const isThere = (await bitmaps.list()).some((bitmap) => bitmap.name === name);
  throw new CommandError(`Dirty bitmap '${isThere ? source : name}' not found`);
}
