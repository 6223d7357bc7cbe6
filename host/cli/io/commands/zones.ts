/** Commands for zoned devices, which nothing here is. */

import type { Command } from '../command.js';
import { CommandFailure } from '../failures.js';
import { numberArgument } from '../values.js';

const RANGE = 'offset len';

export const zoneCommands: readonly Command[] = [
  zoneCommand('report', 'offset number', 'report zone information'),
  zoneCommand('open', RANGE, 'explicit open a range of zones in zone block device'),
  zoneCommand('close', RANGE, 'close a range of zones in zone block device'),
  zoneCommand('finish', RANGE, 'finish a range of zones in zone block device'),
  zoneCommand('reset', RANGE, 'reset a zone write pointer in zone block device'),
  {
    ...zoneCommand('append', 'offset len [len..]', 'append write a number of bytes at a specified offset'),
    count: [3, 4],
  },
];

function zoneCommand(action: string, usage: string, about: string): Command {
  return {
    name: `zone_${action}`,
    usage,
    about,
    count: [2, 2],
    needs: 'read',
    run: (_session, { operands }) => {
      for (const operand of operands) numberArgument(operand);
      throw new CommandFailure(`zone ${action} failed: Operation not supported`);
    },
  };
}
