/** `open`, `close`, `reopen`. */

import { cacheArgument, optionList } from '../../arguments.js';
import { CommandError } from '../../output.js';
import type { Command } from '../command.js';
import { DEFAULT_DISK_OPTIONS, withDiskOption } from '../disk-options.js';
import { type DiskSource, namedSource, namedSourceWith, optionSource, takeChanges } from '../disk-source.js';
import { CommandFailure, UsageFailure } from '../failures.js';
import type { Words } from '../words.js';
import { optionMap } from './transfer.js';

export const open: Command = {
  name: 'open',
  short: 'o',
  usage: '[-rsCnkU] [-t cache] [-d discard] [-o options] [path]',
  about: 'open the file specified by path',
  help: ` -r: only for reading; -s: writes go into a temporary file; -C: what is read from behind the image is kept in it;
 -t: how writes reach the medium; -n: as -t none; -d: unmap, or ignore discards; -U: also when somebody writes to it;
 -o: format and file as driver=FMT,file.filename=PATH. -k and -i are taken and change nothing.`,
  letters: 'snCro:ki:t:d:U',
  count: [1],
  run: async (session, words) => {
    const options = words.options.reduce(
      (earlier, { letter, value }) => withDiskOption(earlier, letter, value),
      DEFAULT_DISK_OPTIONS,
    );
    const [path] = words.operands;
    const listed = listedOptions(words);
    if (words.operands.length > 1 || (path === undefined && listed === undefined)) throw new UsageFailure();
    if (session.disk !== undefined) throw new CommandFailure("file open already, try 'help close'", 'complaint');
    return session.open(path, () => sourceOf(path, listed), options);
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

export const reopen: Command = {
  name: 'reopen',
  usage: '[(-r|-w)] [-c cache] [-o options]',
  about: 'reopens an image with new options',
  help: ` -r: only for reading; -w: for writing; -c: how writes reach the medium; -o: read-only=, discard=, cache.no-flush=. Options of
 qcow2 are taken and change nothing. Requests that are under way end before.`,
  letters: 'c:o:rw',
  count: [0],
  needs: 'read',
  run: async (session, words) => {
    const { source, options } = session.how;
    if (words.options.filter(({ letter }) => letter === 'r' || letter === 'w').length > 1) {
      session.output.complain('Only one -r/-w option may be given');
      return false;
    }
    const given = optionMap(words);
    const cache = given.has('c') ? cacheArgument(given.get('c') as string, 'cache') : options.cache;
    if (words.operands.length > 0) throw new UsageFailure();
    const listed = listedOptions(words) ?? new Map<string, string>();
    const access = given.has('r') || given.has('w') ? given.has('w') : undefined;
    if (access !== undefined && listed.has('read-only'))
      throw new CommandError("Cannot set both -r/-w and 'read-only'");
    if (given.has('c') && [...listed.keys()].some((name) => name.startsWith('cache.'))) {
      throw new CommandError('Cannot set both -c and the cache options');
    }
    const { readOnly, ...settings } = changesOf(listed);
    const write = access ?? (readOnly === undefined ? options.write : !readOnly);
    return session.reopen({
      source: { ...source, settings: { ...source.settings, ...settings, readOnly: undefined } },
      options: { ...options, cache, write },
    });
  },
};

/** What may be changed, without what was not mentioned. */
function changesOf(listed: Map<string, string>): DiskSource['settings'] {
  const fixed = ['driver', 'node-name'].find((name) => listed.has(name));
  if (fixed !== undefined) throw new CommandError(`Cannot change the option '${fixed}'`);
  const settings = takeChanges(listed);
  const [left] = listed.keys();
  if (left !== undefined) throw new CommandError(`Cannot change the option '${left.replace(/^(file|backing)\./, '')}'`);
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

/** All `-o`; undefined without any. */
function listedOptions({ options }: Words): Map<string, string> | undefined {
  const lists = options.filter(({ letter }) => letter === 'o').map(({ value }) => value);
  return lists.length === 0 ? undefined : optionList(lists);
}

function sourceOf(path: string | undefined, listed: Map<string, string> | undefined): DiskSource {
  if (path === undefined) return optionSource(listed ?? new Map(), undefined);
  return listed === undefined ? namedSource(path, undefined) : namedSourceWith(path, listed);
}
