/** `corral attach`: serves an image as a Linux block device until a signal comes. */

import { countArgument, sizeArgument } from '../arguments.js';
import { flag, value } from '../option-table.js';
import { CommandError } from '../output.js';
import { serveDevice } from '../serve-device.js';
import { stopSignal } from '../signals.js';
import { defineVerb, oneOperand } from '../verb.js';

const MAXIMUM_CACHE_SIZE = 1024 ** 3;
const MAXIMUM_QUEUE_DEPTH = 4095;

export const attach = defineVerb({
  about:
    'Serves an image as the block device whose name it prints, until SIGINT or SIGTERM. What was answered is safe then,\n' +
    'and the device is gone. Runs in the foreground.',
  operands: 'IMAGE',
  options: {
    readOnly: flag('-r, --read-only', 'refuse writes'),
    noBacking: flag('--no-backing', 'open no backing file: an image that has one is refused'),
    cacheSize: value('--cache-size SIZE', 'memory for metadata, as in 512k, 16M (default: 4M)', cacheArgument),
    queueDepth: value('--queue-depth COUNT', 'requests at a time (default: 128)', (given) =>
      countArgument(given, 'queue depth', 1, MAXIMUM_QUEUE_DEPTH),
    ),
  },
  async run({ values: { noBacking, ...options }, operands }, { terminal }) {
    const path = oneOperand(operands);
    const stop = stopSignal();
    try {
      await serveDevice(path, { ...options, backing: !noBacking }, stop, ({ node }) => terminal.print(`${node}\n`));
    } finally {
      stop.release();
    }
  },
});

function cacheArgument(text: string): number {
  const size = Number(sizeArgument(text, 'cache size'));
  if (size <= MAXIMUM_CACHE_SIZE) return size;
  throw new CommandError(`Invalid cache size specified: '${text}'. Must be at most 1G.`);
}
