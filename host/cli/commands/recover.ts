/** `corral recover`: serves the devices whose servers died, as these did. */

import { findWaitingDevices, recoverDevice } from '../../node/ublk-recover.js';
import { deviceNumber, whyNoUblk } from '../devices.js';
import { CommandError, reasonOf } from '../output.js';
import { type ServedDevice, serveDevices } from '../serve-device.js';
import { stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

export const recover = defineVerb({
  about:
    'Serves devices of `attach --recovery` whose servers died, with the same images and options, until SIGINT or SIGTERM.\n' +
    'Without a device: all that wait. What was flushed is there, and what waits goes on.',
  operands: '[DEVICE...]',
  options: {},
  async run({ operands }, { terminal }) {
    const numbers = operands.map(deviceNumber);
    const obstacle = await whyNoUblk();
    if (obstacle !== undefined) throw new CommandError(`Cannot recover devices: ${obstacle}`);
    const wanted = numbers.length > 0 ? numbers : await findWaitingDevices();
    if (wanted.length === 0) throw new CommandError('No device waits for a server (see corral list)');
    const stop = stopSignal();
    try {
      await serveDevices(
        wanted.map((id) => () => takeOver(id)),
        stop,
        { onReady: ({ node }) => terminal.print(`${node}\n`), warn: (line) => terminal.note(line) },
      );
    } finally {
      stop.release();
    }
  },
});

async function takeOver(id: number): Promise<ServedDevice> {
  try {
    return { device: await recoverDevice(id), path: `device ${id}` };
  } catch (error) {
    throw new CommandError(`Cannot recover /dev/ublkb${id}: ${reasonOf(error)}`, 1, { cause: error });
  }
}
