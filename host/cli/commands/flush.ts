/** `corral flush`: what a device's guest has written becomes durable. */

import { askLive, mustBeLive } from '../live.js';
import { defineVerb, oneOperand } from '../verb.js';

export const flush = defineVerb({
  about:
    'Makes everything durable that was written to a block device of `attach`, or an image of `serve`, and answered.',
  operands: 'DEVICE|ADDRESS',
  options: {},
  async run({ operands }) {
    const name = oneOperand(operands, 'Expecting one device (/dev/ublkbN, or N) or NBD address');
    await askLive(mustBeLive(name), { verb: 'flush' }, `Could not flush '${name}'`);
  },
});
