/**
 * The core's side of a request: where it stands and what it holds. One for every request slot.
 *
 * A step of a task is a function that either changes nothing and returns Miss (it parked the task, which then starts
 * the step over), or reaches its commit point with everything resident and cannot miss any more.
 */

import { Failure } from '../abi/failure';
import { Request } from '../abi/request';
import { Status } from '../abi/status';
import { Waiter, WaitList } from '../base/wait-list';
import { TableSlice } from '../cache/table-cache';

/** Most operations that one task has in flight at once. */
export const TASK_OPERATIONS: u32 = 8;

@unmanaged
export class Task extends Waiter {
  slot: u32 = 0;
  kind: u32 = 0;
  flags: u32 = 0;
  /** Each verb's own: where its sequence stands. 0 at the start. */
  stage: u32 = 0;
  /** Guest range of the request, and how far its plan has come. */
  guestOffset: u64 = 0;
  guestEnd: u64 = 0;
  cursor: u64 = 0;
  /** How far a raw data file has been zeroed: see raw-data.ts. */
  zeroedEnd: u64 = 0;
  zeroing: bool = false;
  /** Order of submission. */
  sequence: u64 = 0;
  /** Operations in flight for this task. */
  outstanding: u32 = 0;
  active: bool = false;
  cancelled: bool = false;
  /** Waits for an earlier request that it overlaps. */
  waiting: bool = false;
  /** Waits at the gate: see exclusive.ts. */
  gated: bool = false;
  /** Counted in `image.lookers`. */
  looks: bool = false;
  /** What it did is durable and stays: cancelling comes too late. */
  committed: bool = false;
  /** Alone with the image: what lies in `image.exclusiveMemory` is this task's. */
  entered: bool = false;
  /** Enabled bitmaps: which one is next, up to where its bits are set, and whether all are done. */
  noteIndex: u32 = 0;
  /** Which of them is marked next, or loses its mark. */
  markIndex: u32 = 0;
  noteCursor: u64 = 0;
  noted: bool = false;
  /** See corrupt-bit.ts. */
  marking: u32 = 0;
  /** In the list of requests in flight. */
  inFlight: bool = false;
  /** Giving clusters back failed: they leak. */
  leak: bool = false;
  /** First failure; the request ends with it as soon as nothing is in flight any more. */
  failed: Status = Status.Ok;
  request: Request = changetype<Request>(0);
  /** Copy of the failure record for `failed`. */
  failure: Failure = changetype<Failure>(0);

  /** Neighbours in the list of requests in flight. */
  flightPrevious: Task | null = null;
  flightNext: Task | null = null;
  /** Requests that wait for this one to end, or to link its clusters. */
  followers: WaitList = changetype<WaitList>(0);

  /** Allocating write: next in the list of tasks with clusters that are not linked yet. */
  allocatingNext: Task | null = null;
  /** Guest range, in whole clusters, that is being allocated; empty when equal. */
  allocatingStart: u64 = 0;
  allocatingEnd: u64 = 0;
  /** Pinned L2 slice that gets the entries, and the first of them. */
  slice: TableSlice | null = null;
  sliceIndex: u32 = 0;
  clusterCount: u32 = 0;
  /** Host clusters that nothing refers to yet. */
  hostOffset: u64 = 0;
  /** The host clusters are fresh: a failure gives them back. */
  fresh: bool = false;
  /** The fresh clusters read as zeros where nothing is written. */
  virgin: bool = false;
  /** A read that began before some clusters lost their last reference: see read-barrier.ts. */
  held: bool = false;
  /** Guest range that is written to the new clusters: the new bytes up to `newEnd`, and what surrounds them. */
  edgeStart: u64 = 0;
  edgeEnd: u64 = 0;
  newEnd: u64 = 0;
  /** The cluster is only copied: a snapshot shares it, and parts of it will be written then. */
  unshares: bool = false;
  /** The clusters are only reserved: with extended L2 entries their subclusters stay what they are. */
  reserves: bool = false;
  /** They take the place of zeros without a cluster, and are marked as zeros too. */
  keepsZero: bool = false;
  /** Scratch buffer for the edges of the new clusters: its number plus one, 0 when none; and where the head lies in it. */
  scratch: u32 = 0;
  edgeOffset: u32 = 0;
  /** Host clusters that lose a reference when the new ones are linked. */
  dropCount: u32 = 0;
  dropCluster: u64 = 0;
  /** Compressed write: bytes of whole sectors that the compressed cluster takes; 0 when it is not smaller. */
  packedLength: u32 = 0;
  /** L2 table that is being made, 0 when none. */
  tableOffset: u64 = 0;
}

/** Behind each task in their array lie its copy of the failure record and its wait list. */
export const TASK_FAILURE_OFFSET: usize = (offsetof<Task>() + 7) & ~7;
export const TASK_FOLLOWERS_OFFSET: usize = TASK_FAILURE_OFFSET + offsetof<Failure>();
/** Bytes between two tasks. */
export const TASK_SIZE: usize = (TASK_FOLLOWERS_OFFSET + offsetof<WaitList>() + 63) & ~63;

/** The task handed out an operation and goes on when it ends. */
export function parkOnOperation(task: Task): Status {
  task.outstanding++;
  task.outcome = Status.Miss;
  return Status.Miss;
}

/** Gets a task ready for the request in its slot. */
export function resetTask(task: Task): void {
  const request = task.request;
  task.active = true;
  task.kind = request.kind;
  task.flags = request.flags;
  task.stage = 0;
  task.guestOffset = request.guestOffset;
  task.guestEnd = request.guestOffset + request.length;
  task.cursor = request.guestOffset;
  task.zeroedEnd = request.guestOffset;
  task.zeroing = false;
  task.cancelled = false;
  task.waiting = false;
  task.noteIndex = 0;
  task.markIndex = 0;
  task.noteCursor = request.guestOffset;
  task.noted = false;
  task.gated = false;
  task.looks = false;
  task.committed = false;
  task.entered = false;
  task.reserves = false;
  task.keepsZero = false;
  task.marking = 0;
  task.inFlight = false;
  task.leak = false;
  task.failed = Status.Ok;
  task.outcome = Status.Ok;
}
