/** Requests that wait for something, first come, first served. A waiter is in at most one list at a time. */

import { Status } from '../abi/status';

/** Base of everything that can be parked. */
@unmanaged
export class Waiter {
  /** Next in the list that this waiter is in. */
  next: Waiter | null = null;
  /** In a list; whoever is may not be put into another one. */
  queued: bool = false;
  /** Miss while parked or when the step can be started over; else the failure that ends the request. */
  outcome: Status = Status.Ok;
  /** With a failure: the Structure, the place in the file and the operation that the host answered with an error. */
  failedStructure: u32 = 0;
  failedOperation: u32 = 0;
  failedOffset: u64 = 0;
}

@unmanaged
export class WaitList {
  head: Waiter | null = null;
  tail: Waiter | null = null;
}

export function isEmpty(list: WaitList): bool {
  return list.head === null;
}

export function push(list: WaitList, waiter: Waiter): void {
  waiter.next = null;
  waiter.queued = true;
  const tail = list.tail;
  if (tail === null) list.head = waiter;
  else tail.next = waiter;
  list.tail = waiter;
}

/** Takes the first waiter out; null when the list is empty. */
export function shift(list: WaitList): Waiter | null {
  const head = list.head;
  if (head === null) return null;
  list.head = head.next;
  if (head.next === null) list.tail = null;
  head.next = null;
  head.queued = false;
  return head;
}

/** Moves all of `from` to the end of `to`, in order. */
export function moveAll(from: WaitList, to: WaitList): void {
  const head = from.head;
  if (head === null) return;
  const tail = to.tail;
  if (tail === null) to.head = head;
  else tail.next = head;
  to.tail = from.tail;
  from.head = null;
  from.tail = null;
}

/** As `moveAll`; every waiter ends with the failure of `operation`, which was about `structure` at `hostOffset`. */
export function failAll(
  from: WaitList,
  to: WaitList,
  outcome: Status,
  structure: u32,
  hostOffset: u64,
  operation: u32,
): void {
  let waiter = from.head;
  while (waiter !== null) {
    waiter.outcome = outcome;
    waiter.failedStructure = structure;
    waiter.failedOffset = hostOffset;
    waiter.failedOperation = operation;
    waiter = waiter.next;
  }
  moveAll(from, to);
}
