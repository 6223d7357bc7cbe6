/** Commands about the disk as a whole, and about what it consists of. */

import { CorralError } from '../../../errors.js';
import type { Preallocation } from '../../../preallocate.js';
import { requestErrorText } from '../../errno-text.js';
import { reasonOf } from '../../output.js';
import type { Command } from '../command.js';
import type { DiskRange } from '../disk.js';
import { CommandFailure, UsageFailure } from '../failures.js';
import { numberArgument, SECTOR, sizeText } from '../values.js';
import { diskOf, optionMap, perform, rangeOperands } from './transfer.js';

const PREALLOCATIONS: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

export const flush: Command = {
  name: 'flush',
  short: 'f',
  usage: '',
  about: 'flush all in-core file state to disk',
  count: [0, 0],
  needs: 'read',
  run: async (session) => {
    try {
      await diskOf(session).flush();
      return true;
    } catch {
      // QEMU's shell says nothing: the exit status does.
      return false;
    }
  },
};

export const truncate: Command = {
  name: 'truncate',
  short: 't',
  usage: '[-m prealloc_mode] off',
  about: 'truncates the current file at the given offset',
  letters: 'm:',
  count: [1, 3],
  needs: 'write',
  run: async (session, words) => {
    const mode = optionMap(words).get('m') ?? 'off';
    const preallocation = PREALLOCATIONS.find((name) => name === mode);
    if (preallocation === undefined) throw new CommandFailure(`Invalid preallocation mode '${mode}'`, 'complaint');
    const [size] = words.operands;
    if (size === undefined) throw new UsageFailure();
    await truncateDisk(diskOf(session), numberArgument(size), preallocation);
    return true;
  },
};

async function truncateDisk(
  disk: ReturnType<typeof diskOf>,
  length: number,
  preallocation: Preallocation,
): Promise<void> {
  try {
    await disk.truncate(length, preallocation);
  } catch (error) {
    throw new CommandFailure(error instanceof CorralError ? reasonOf(error) : requestErrorText(error), 'complaint');
  }
}

export const length: Command = {
  name: 'length',
  short: 'l',
  usage: '',
  about: 'gets the length of the current file',
  count: [0, 0],
  needs: 'read',
  run: (session) => {
    session.output.print(`${sizeText(diskOf(session).length())}\n`);
    return true;
  },
};

export const info: Command = {
  name: 'info',
  short: 'i',
  usage: '',
  about: 'prints information about the current file',
  count: [0, 0],
  needs: 'read',
  run: (session) => {
    session.output.print(diskOf(session).facts());
    return true;
  },
};

export const discard: Command = {
  name: 'discard',
  short: 'd',
  usage: '[-Cq] off len',
  about: 'discards a number of bytes at a specified offset',
  help: ` Whoever reads them then gets zeros, or what lies behind the image. -C: numbers for programs; -q: no line about the end.`,
  letters: 'Cq',
  count: [2],
  needs: 'write',
  run: (session, words) => {
    const options = optionMap(words);
    const range = rangeOperands(words.operands, '');
    const telling = { ...range, verb: 'discard', failure: 'discard', quiet: options.has('q'), terse: options.has('C') };
    return perform(session, telling, () => diskOf(session).discard(range.offset, range.length));
  },
};

export const alloc: Command = {
  name: 'alloc',
  short: 'a',
  usage: 'offset [count]',
  about: 'checks if offset is allocated in the file',
  count: [1, 2],
  needs: 'read',
  run: async (session, { operands }) => {
    const disk = diskOf(session);
    const [offset = 0, wanted = SECTOR] = operands.map(numberArgument);
    const count = Math.max(0, Math.min(wanted, disk.length() - offset));
    let allocated = 0;
    if (count > 0) {
      for await (const range of disk.map(offset, count)) if (range.allocated) allocated += range.length;
    }
    session.output.print(`${allocated}/${count} bytes allocated at offset ${sizeText(offset)}\n`);
    return true;
  },
};

export const map: Command = {
  name: 'map',
  usage: '',
  about: 'prints the allocated areas of a file',
  count: [0, 0],
  needs: 'read',
  run: async (session) => {
    const disk = diskOf(session);
    if (disk.length() === 0) return true;
    let held: DiskRange | undefined;
    for await (const range of disk.map(0, disk.length())) {
      if (held?.allocated === range.allocated) {
        held = { ...held, length: held.length + range.length };
        continue;
      }
      if (held !== undefined) session.output.print(mapLine(held));
      held = range;
    }
    if (held !== undefined) session.output.print(mapLine(held));
    return true;
  },
};

function mapLine({ offset, length, allocated }: DiskRange): string {
  const word = allocated ? '    allocated' : 'not allocated';
  return `${bothWays(length)} bytes ${word} at offset ${bothWays(offset)}\n`;
}

function bothWays(bytes: number): string {
  return `${sizeText(bytes)} (0x${bytes.toString(16)})`;
}
