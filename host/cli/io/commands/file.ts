/** `open`, `close`, `reopen`. */

import type { Command } from '../command.js';
import { cacheArgument, DEFAULT_DISK_OPTIONS, type DiskOptions, discardArgument } from '../disk-options.js';
import { CommandFailure, UsageFailure } from '../failures.js';
import type { Words } from '../words.js';

export const open: Command = {
  name: 'open',
  short: 'o',
  usage: '[-rsCnkU] [-t cache] [-d discard] [-o options] [path]',
  about: 'open the file specified by path',
  help: ` -r: only for reading; -t: how writes reach the medium; -n: as -t none; -d: unmap, or ignore discards; -U: also when somebody
 writes to it; -o: format and file as driver=FMT,file.filename=PATH. -k and -i are taken and change nothing.`,
  letters: 'snCro:ki:t:d:U',
  count: [1],
  run: async (session, words) => {
    const options = openOptions(words);
    const [path] = words.operands;
    if (words.operands.length > 1 || path === undefined) throw new UsageFailure();
    if (session.disk !== undefined) throw new CommandFailure("file open already, try 'help close'", 'complaint');
    return session.open(path, options);
  },
};

export const close: Command = {
  name: 'close',
  short: 'c',
  usage: '',
  about: 'close the current open file',
  count: [0, 0],
  needs: 'read',
  run: async (session) => {
    await session.close();
    return true;
  },
};

function openOptions({ options }: Words): DiskOptions {
  return options.reduce((earlier, { letter, value }) => changed(earlier, letter, value), DEFAULT_DISK_OPTIONS);
}

function changed(options: DiskOptions, letter: string, value: string): DiskOptions {
  switch (letter) {
    case 'r':
      return { ...options, write: false };
    case 'U':
      return { ...options, forceShare: true };
    case 'n':
      return { ...options, cache: 'none' };
    case 't':
      return { ...options, cache: cacheArgument(value) };
    case 'd':
      return { ...options, discard: discardArgument(value) };
    default:
      return options;
  }
}
