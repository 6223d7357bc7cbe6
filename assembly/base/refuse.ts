/** Filling the one failure record: the detail behind a status. */

import { Failure, Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';

export const NO_GUEST_OFFSET: u64 = 0xffffffffffffffff;
export const NO_OPERATION: u32 = 0xffffffff;

/**
 * Records what is wrong and returns `status`, so that a caller can `return refuse(…)`.
 * `hostOffset` is where the wrong value stands; `found` and `limit` are what it is and what was allowed.
 */
export function refuse(
  failure: Failure,
  status: Status,
  structure: Structure,
  field: Field,
  hostOffset: u64,
  found: u64,
  limit: u64,
): Status {
  failure.status = status;
  failure.structure = structure;
  failure.field = field;
  failure.operation = NO_OPERATION;
  failure.hostOffset = hostOffset;
  failure.guestOffset = NO_GUEST_OFFSET;
  failure.found = found;
  failure.limit = limit;
  failure.nameAddress = 0;
  failure.nameLength = 0;
  return status;
}
