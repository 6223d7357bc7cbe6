/** `corral bitmap`: persistent dirty bitmaps are made, removed, cleared, switched on and off, and merged. */

import { type Command, Option } from 'commander';
import type { Image } from '../../image.js';
import { formatArgument, sizeArgument } from '../arguments.js';
import type { Context } from '../context.js';
import { openFile, openImageIn } from '../open.js';
import { CommandError, reasonOf } from '../output.js';

/** One action, in the order of the command line. */
interface Action {
  readonly verb: 'add' | 'remove' | 'clear' | 'enable' | 'disable' | 'merge';
  /** The bitmap that is merged. */
  readonly source?: string;
}

interface Options {
  granularity?: bigint;
  format?: 'qcow2' | 'raw';
}

const SIMPLE: Readonly<Record<Exclude<Action['verb'], 'merge'>, string>> = {
  add: 'make the bitmap',
  remove: 'remove it',
  clear: 'nothing is dirty in it any more',
  enable: 'note changes in it from now on',
  disable: 'leave it as it is from now on',
};

export function bitmap(command: Command, _context: Context): void {
  const actions: Action[] = [];
  command
    .description(
      'Changes a persistent dirty bitmap of an image. Several actions are carried out in the order in which they are given.',
    )
    .usage('(--add | --remove | --clear | --enable | --disable | --merge <source>)... [options] <file> <bitmap>')
    .argument('[names...]', 'the image, and the bitmap in it');
  for (const [verb, summary] of Object.entries(SIMPLE) as [Exclude<Action['verb'], 'merge'>, string][]) {
    command.addOption(new Option(`--${verb}`, summary));
    command.on(`option:${verb}`, () => actions.push({ verb }));
  }
  command
    .addOption(new Option('--merge <source>', 'add what is dirty in another bitmap of the image'))
    .on('option:merge', (source: string) => actions.push({ verb: 'merge', source }))
    .option('-g, --granularity <size>', 'with --add: bytes that one bit stands for', (text) =>
      sizeArgument(text, 'granularity'),
    )
    .option('-f, --format <format>', 'qcow2, the only format with bitmaps', (text) => formatArgument(text))
    .action(async (names: string[], options: Options) => {
      await change(names, actions, options);
    });
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
