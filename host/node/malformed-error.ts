/** A request of the kernel that makes no sense, in words. */
import { CorralError } from '../errors.js';

/** @param operationAndFlags as in linux/ublk_cmd.h */
export function malformedError(operationAndFlags: number, sectors: number): CorralError {
  const what = `operation ${operationAndFlags & 0xff}, ${sectors >>> 0} sectors`;
  return new CorralError('ERR_IO', {
    reason: `The kernel sent a request that makes no sense (${what}): it is refused`,
  });
}
