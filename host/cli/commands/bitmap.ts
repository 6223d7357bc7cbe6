/** `corral bitmap`: persistent dirty bitmaps are made, removed, cleared, switched on and off, and merged. */

import type { Image } from '../../image.js';
import { type Format, formatArgument, sizeArgument } from '../arguments.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import type { Given } from '../option-parser.js';
import { flag, text, value } from '../option-table.js';
import { CommandError, reasonOf } from '../output.js';
import { defineVerb } from '../verb.js';

/** One action, in the order of the command line. */
interface Action {
  readonly verb: 'add' | 'remove' | 'removeAll' | 'clear' | 'enable' | 'disable' | 'merge';
  /** The bitmap that is merged. */
  readonly source?: string;
}

/** Where merged bitmaps come from. */
type Source = Image | (AsyncDisposable & { readonly bitmaps: undefined });

interface Options {
  granularity: bigint | undefined;
  format: Format | undefined;
  sourceFile: string | undefined;
  sourceFormat: Format | undefined;
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
    sourceFormat: value('-F, --source-format FMT', 'its format', (given) => formatArgument(given)),
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
  const [path, name = ''] = names;
  const nameless = actions.length > 0 && actions.every(({ verb }) => verb === 'removeAll');
  if (path === undefined || (names.length !== 2 && !(nameless && names.length === 1))) {
    throw new CommandError('Expecting filename and bitmap name');
  }
  if (actions.length === 0) {
    throw new CommandError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  if (options.granularity !== undefined && !actions.some(({ verb }) => verb === 'add')) {
    throw new CommandError('granularity only supported with --add');
  }
  const { sourceFile, sourceFormat } = options;
  if (sourceFile !== undefined && !actions.some(({ verb }) => verb === 'merge')) {
    throw new CommandError('Merge bitmap source file only supported with --merge');
  }
  if (sourceFormat !== undefined && sourceFile === undefined) throw new CommandError('-F only supported with -b');
  if (options.format === 'raw') throw new CommandError(`A raw file has no bitmaps: '${path}'`);
  const file = await openFile(path, { write: true });
  await using image = await openImageIn(file, path, { write: true, requestCapacity: 1 });
  await using other = sourceFile === undefined ? undefined : await openSource(sourceFile, sourceFormat);
  for (const action of actions) {
    try {
      await perform(image, name, action, { ...options, other });
    } catch (error) {
      const what = action.verb === 'removeAll' ? 'remove-all' : `${action.verb} on bitmap ${name}`;
      throw new CommandError(`Operation ${what} failed: ${reasonOf(error)}`, 1, { cause: error });
    }
  }
}

/** The image of which a bitmap is merged: only its tables. A raw one has no bitmaps. */
async function openSource(path: string, format: Format | undefined): Promise<Source> {
  const file = await openFile(path);
  if ((format ?? (await probeFormat(file))) === 'qcow2') {
    return openImageIn(file, path, { tablesOnly: true, requestCapacity: 1 });
  }
  await file.close();
  return { bitmaps: undefined, async [Symbol.asyncDispose]() {} };
}

function perform(
  image: Image,
  name: string,
  action: Action,
  { granularity, other }: Options & { other: Source | undefined },
): Promise<void> {
  const { bitmaps } = image;
  const source = action.source as string;
  switch (action.verb) {
    case 'add':
      return bitmaps.add(name, { granularity });
    case 'merge':
      if (other === undefined) return bitmaps.merge(name, source);
      if (other.bitmaps === undefined) throw new CommandError(`Dirty bitmap '${source}' not found`);
      return bitmaps.mergeFrom(name, other, source);
    case 'removeAll':
      return bitmaps.removeAll();
    default:
      return bitmaps[action.verb](name);
  }
}
