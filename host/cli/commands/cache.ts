/** `corral cache`: the metadata cache of what is served. */

import type { CacheAnswer } from '../../node/control-protocol.js';
import { cacheSizeArgument, outputArgument } from '../arguments.js';
import { askLive, mustBeLive } from '../live.js';
import { value } from '../option-table.js';
import { humanSize, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

export const cache = defineVerb({
  about:
    'Says how large the metadata cache of a block device of `attach`, or an image of `serve`, is, and what it does; or\n' +
    'gives it another size. One cache holds what QEMU has an L2 and a refcount cache for. The guest waits for a moment.',
  operands: 'DEVICE|ADDRESS [SIZE]',
  options: { output: value('--output KIND', 'human or json', outputArgument) },
  async run({ values: { output }, operands }, { terminal }) {
    const [name, size, ...more] = operands;
    if (name === undefined || more.length > 0) {
      throw new UsageError('Expecting one device (/dev/ublkbN, or N) or NBD address, and perhaps a size');
    }
    const live = mustBeLive(name);
    const request = { verb: 'cache', ...(size === undefined ? {} : { size: cacheSizeArgument(size) }) } as const;
    const about = size === undefined ? `Could not ask '${live.name}'` : `Could not change the cache of '${live.name}'`;
    const answer = (await askLive(live, request, about)) as CacheAnswer;
    terminal.print(output === 'json' ? `${JSON.stringify(answer, null, 4)}\n` : describe(live.name, answer));
  },
});

function describe(name: string, { size, entrySize, covers, wholeDisk, hits, misses, evictions }: CacheAnswer): string {
  const lookups = hits + misses;
  const share = lookups === 0 ? '' : ` (${((100 * hits) / lookups).toFixed(1)}%)`;
  return (
    `${name}: ${humanSize(size)} in entries of ${humanSize(entrySize)}, for the tables of ${humanSize(covers)} of the disk; ` +
    `${humanSize(wholeDisk)} would hold all\n` +
    `${lookups} lookups, ${hits} of them hits${share}, ${evictions} evictions\n`
  );
}
