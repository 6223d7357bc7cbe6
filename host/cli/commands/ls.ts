/** `corral ls`: the names in a directory of a disk, without mounting it. */

import type { FileKind } from '../../filesystem/file-system.js';
import type { FoundEntry } from '../../node/sandbox-filesystem.js';
import { OUTPUT } from '../common-options.js';
import { GUEST, lookInto } from '../guest-files.js';
import { flag } from '../option-table.js';
import { escapeText, formatJson, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

const LETTERS: Readonly<Record<FileKind, string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  other: '?',
  damaged: '!',
};

export const ls = defineVerb({
  about:
    'Lists a directory of a disk: ext2, ext3, ext4 and FAT, in the partition that is named, or in the only one. PATH\n' +
    'is the root by default.',
  operands: 'IMAGE[@SNAPSHOT][:PARTITION] [PATH]',
  options: {
    ...GUEST,
    ...OUTPUT,
    long: flag('--long', 'kinds, permissions, owners, sizes and times, too'),
    recursive: flag('-R, --recursive', 'and the directories within it'),
  },
  async run({ values, operands }, { terminal }) {
    const [image, path = '/', more] = operands;
    if (image === undefined || more !== undefined) throw new UsageError('Expecting an image, and a path in it');
    const { recursive, long } = values;
    const isJson = values.output === 'json';
    let separator = '[';
    const entry = async (found: FoundEntry): Promise<void> => {
      if (isJson) terminal.print(`${separator}${jsonText(found)}`);
      else terminal.print(`${long ? longText(found) : nameOf(found, path)}\n`);
      separator = ',\n';
    };
    const collector = { entry, data: async () => {} };
    await lookInto(image, values, (partition) => ({ kind: 'list', partition, path, recursive }), terminal, collector);
    if (isJson) terminal.print(`${separator === '[' ? '[' : ''}]\n`);

    function longText(found: FoundEntry): string {
      const { kind, mode = 0, uid = 0, gid = 0, size, modified, target } = found;
      const time = modified === undefined ? '-' : timeText(modified);
      const owner = `${uid}`.padStart(5) + `${gid}`.padStart(6);
      const where = target === undefined ? '' : ` -> ${escapeText(target)}`;
      const facts = `${LETTERS[kind]}${permissions(mode)} ${owner} ${`${size}`.padStart(12)} ${time.padEnd(19)}`;
      return `${facts} ${nameOf(found, path)}${where}`;
    }
  },
});

/** Nothing of the name reaches the terminal as it is. */
function nameOf({ path }: FoundEntry, asked: string): string {
  return escapeText(path.length === 0 ? asked : path.join('/'));
}

function jsonText({ path, kind, size, mode, uid, gid, modified, target }: FoundEntry): string {
  const time = modified === undefined ? undefined : timeText(modified);
  return formatJson({ path: path.join('/'), kind, size, mode, uid, gid, modified: time, target });
}

/** Any number of milliseconds: what is out of range of a date stays a number. */
function timeText(modified: number): string {
  const date = new Date(modified);
  return Number.isNaN(date.getTime()) ? `${modified}` : date.toISOString().slice(0, 19).replace('T', ' ');
}

function permissions(mode: number): string {
  return Array.from('rwxrwxrwx', (letter, index) => ((mode >> (8 - index)) & 1 ? letter : '-')).join('');
}
