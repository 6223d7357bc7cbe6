/** `corral attach`: serves an image as a Linux block device until a signal comes. */

import type { Command } from 'commander';
import { countArgument, sizeArgument } from '../arguments.js';
import type { Context } from '../context.js';
import { CommandError } from '../output.js';
import { type DeviceOptions, serveDevice } from '../serve-device.js';
import { stopSignal } from '../signals.js';

const MAXIMUM_CACHE_SIZE = 1024 ** 3;
const MAXIMUM_QUEUE_DEPTH = 4095;

export function attach(command: Command, context: Context): void {
  command
    .description(
      'Serves an image as the block device whose name it prints, until SIGINT or SIGTERM. What was answered is safe ' +
        'then, and the device is gone. Runs in the foreground.',
    )
    .argument('<image>', 'a qcow2 image')
    .option('-r, --read-only', 'refuse writes')
    .option('--no-backing', 'open no backing file: an image that has one is refused')
    .option('--cache-size <size>', 'memory for metadata, as in 512k, 16M (default: 4M)', cacheArgument)
    .option('--queue-depth <count>', 'requests at a time (default: 128)', (text) =>
      countArgument(text, 'queue depth', 1, MAXIMUM_QUEUE_DEPTH),
    )
    .action(async (path: string, options: DeviceOptions) => {
      const stop = stopSignal();
      try {
        await serveDevice(path, options, stop, ({ node }) => context.terminal.print(`${node}\n`));
      } finally {
        stop.release();
      }
    });
}

function cacheArgument(text: string): number {
  const size = Number(sizeArgument(text, 'cache size'));
  if (size <= MAXIMUM_CACHE_SIZE) return size;
  throw new CommandError(`Invalid cache size specified: '${text}'. Must be at most 1G.`);
}
