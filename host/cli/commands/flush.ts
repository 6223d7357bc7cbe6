/** `corral flush`: what a device's guest has written becomes durable. */

import { deviceNumber } from '../devices.js';
import { askLive } from '../live.js';
import { defineVerb, oneOperand } from '../verb.js';

export const flush = defineVerb({
  about: 'Makes everything durable that was written to a block device of `attach` and answered.',
  operands: 'DEVICE',
  options: {},
  async run({ operands }) {
    const name = oneOperand(operands, 'Expecting one device: /dev/ublkbN, or N');
    await askLive(deviceNumber(name), { verb: 'flush' }, `Could not flush '${name}'`);
  },
});
