/** `corral bitmap`: persistent dirty bitmaps are made, removed, cleared, switched on and off, and merged. */

import type { Image } from '../../image.js';
import { formatArgument, sizeArgument } from '../arguments.js';
import { openFile, openImageIn } from '../open.js';
import type { Given } from '../option-parser.js';
import { flag, text, value } from '../option-table.js';
import { CommandError, reasonOf } from '../output.js';
import { defineVerb } from '../verb.js';

/** One action, in the order of the command line. */
interface Action {
  readonly verb: 'add' | 'remove' | 'clear' | 'enable' | 'disable' | 'merge';
  /** The bitmap that is merged. */
  readonly source?: string;
}

interface Options {
  granularity: bigint | undefined;
  format: 'qcow2' | 'raw' | undefined;
}

const VERBS: ReadonlySet<string> = new Set(['add', 'remove', 'clear', 'enable', 'disable', 'merge']);

export const bitmap = defineVerb({
  about:
    'Changes a persistent dirty bitmap of an image. Several actions are carried out in the order in which they are given.',
  operands: '(--add | --remove | --clear | --enable | --disable | --merge SOURCE)... FILE BITMAP',
  options: {
    add: flag('--add', 'make the bitmap'),
    remove: flag('--remove', 'remove it'),
    clear: flag('--clear', 'nothing is dirty in it any more'),
    enable: flag('--enable', 'note changes in it from now on'),
    disable: flag('--disable', 'leave it as it is from now on'),
    merge: text('--merge SOURCE', 'add what is dirty in another bitmap of the image'),
    granularity: value('-g, --granularity SIZE', 'with --add: bytes that one bit stands for', (given) =>
      sizeArgument(given, 'granularity'),
    ),
    format: value('-f, --format FMT', 'qcow2, the only format with bitmaps', (given) => formatArgument(given)),
  },
  run: ({ values, operands, given }) => change(operands, given.flatMap(actionOf), values),
});

function actionOf({ name, argument }: Given): Action[] {
  return VERBS.has(name) ? [{ verb: name as Action['verb'], source: argument }] : [];
}

async function change(names: readonly string[], actions: readonly Action[], options: Options): Promise<void> {
  const [path, name] = names;
  if (path === undefined || name === undefined || names.length !== 2) {
    throw new CommandError('Expecting filename and bitmap name');
  }
  if (actions.length === 0) {
    throw new CommandError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  if (options.granularity !== undefined && !actions.some(({ verb }) => verb === 'add')) {
    throw new CommandError('granularity only supported with --add');
  }
  if (options.format === 'raw') throw new CommandError(`A raw file has no bitmaps: '${path}'`);
  const file = await openFile(path, { write: true });
  await using image = await openImageIn(file, path, { write: true, requestCapacity: 1 });
  for (const action of actions) {
    try {
      await perform(image, name, action, options);
    } catch (error) {
      const reason = `Operation ${action.verb} on bitmap ${name} failed: ${reasonOf(error)}`;
      throw new CommandError(reason, 1, { cause: error });
    }
  }
}

function perform(image: Image, name: string, action: Action, { granularity }: Options): Promise<void> {
  const { bitmaps } = image;
  switch (action.verb) {
    case 'add':
      return bitmaps.add(name, { granularity });
    case 'merge':
      return bitmaps.merge(name, action.source as string);
    default:
      return bitmaps[action.verb](name);
  }
}
