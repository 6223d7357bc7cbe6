/** `corral recover`: serves the devices whose servers died, as these did. */

import { askDevice } from '../../node/control-client.js';
import { findWaitingDevices, recoverDevice } from '../../node/ublk-recover.js';
import { cacheSizeArgument } from '../arguments.js';
import { deviceNumber, whyNoUblk } from '../devices.js';
import { flag, value } from '../option-table.js';
import { CommandError, reasonOf, UsageError } from '../output.js';
import { type ServedDevice, serveDevices } from '../serve-device.js';
import { stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

export const recover = defineVerb({
  about:
    'Serves devices of `attach --recovery` whose servers died, with the same images and options, until SIGINT or SIGTERM.\n' +
    'Without a device: all that wait. What was flushed is there, and what waits goes on.\n' +
    'With --replace a device is taken from a server that lives: that one answers what it has and ends, and no request fails.',
  operands: '[DEVICE...]',
  options: {
    replace: flag('--replace', 'take devices from the servers that they have'),
    cacheSize: value('--cache-size SIZE', 'memory for metadata (default: as it was)', cacheSizeArgument),
  },
  async run({ operands, values: { replace, cacheSize } }, { terminal }) {
    if (replace && operands.length === 0) throw new UsageError('--replace needs the names of devices');
    const numbers = operands.map(deviceNumber);
    const obstacle = await whyNoUblk();
    if (obstacle !== undefined) throw new CommandError(`Cannot recover devices: ${obstacle}`);
    const wanted = numbers.length > 0 ? numbers : await findWaitingDevices();
    if (wanted.length === 0) throw new CommandError('No device waits for a server (see corral list)');
    const stop = stopSignal();
    try {
      await serveDevices(
        wanted.map((id) => () => takeOver(id, { replace, cacheSize })),
        stop,
        { onReady: ({ node }) => terminal.print(`${node}\n`), warn: (line) => terminal.note(line) },
      );
    } finally {
      stop.release();
    }
  },
});

async function takeOver(
  id: number,
  { replace, cacheSize }: { replace: boolean; cacheSize: number | undefined },
): Promise<ServedDevice> {
  try {
    if (replace) await askDevice(id, { verb: 'hand-over' });
    return { device: await recoverDevice(id, { cacheSize }), path: `device ${id}` };
  } catch (error) {
    throw new CommandError(`Cannot recover /dev/ublkb${id}: ${reasonOf(error)}`, 1, { cause: error });
  }
}
