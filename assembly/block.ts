/**
 * The abstract block I/O import: the only way out of the sandbox, and the only file that declares one.
 *
 * A submission returns at once. The host answers it later, from outside of any import, through the export
 * `complete(operation, status)`; the operation's owner then gets it back.
 */

import { BufferSpace, Operation, OperationFile, OperationKind } from './abi/operation';
import { Status } from './abi/status';
import { Arena, take } from './base/arena';

/** Carry out operation record number `operation`. */
declare function submit(operation: u32): void;
/** Zero `length` bytes at `bufferOffset` of the buffer of request `request`, now; there is no answer. */
declare function fill(request: u32, bufferOffset: u32, length: u32): void;
/** Request number `request` is done. The failure record says more when `status` is not Ok. */
declare function finish(request: u32, status: u32): void;

/** Which part of the core gets a completion. */
export enum Owner {
  /** `ownerRecord` is a Task. */
  Task = 1,
  /** `ownerRecord` is a TableSlice that is being loaded. */
  Load = 2,
  /** `ownerRecord` is a staged table slice, or 0 for the write-out's flush. */
  WriteOut = 3,
}

const OPERATION_SIZE: usize = 64;
const END: u32 = 0xffffffff;

/** All operation records and the list of the free ones. */
@unmanaged
export class Operations {
  records: usize = 0;
  capacity: u32 = 0;
  firstFree: u32 = 0;
  /** Operations that the host has in hand. */
  inFlight: u32 = 0;
  /** Where guest data lies. */
  dataFile: OperationFile = OperationFile.Image;
  /** Flushes handed out, for the statistics. */
  flushes: u64 = 0;
}

/** Makes room for `capacity` operations at once; null when the memory is too small. */
export function openOperations(arena: Arena, capacity: u32): Operations | null {
  const address = take(arena, offsetof<Operations>());
  const records = take(arena, u64(capacity) * OPERATION_SIZE);
  if (address === 0 || records === 0) return null;
  const operations = changetype<Operations>(address);
  operations.records = records;
  operations.capacity = capacity;
  operations.firstFree = 0;
  for (let index: u32 = 0; index < capacity; index++) {
    operationAt(operations, index).nextFree = index + 1 < capacity ? index + 1 : END;
  }
  return operations;
}

export function operationAt(operations: Operations, index: u32): Operation {
  return changetype<Operation>(operations.records + usize(index) * OPERATION_SIZE);
}

/** Takes back a completed operation; false when the host names one that it does not have. */
export function release(operations: Operations, index: u32): bool {
  if (index >= operations.capacity) return false;
  const operation = operationAt(operations, index);
  if (operation.kind === 0) return false;
  operation.kind = 0;
  operation.nextFree = operations.firstFree;
  operations.firstFree = index;
  operations.inFlight--;
  return true;
}

/** Reads file bytes into the guest buffer of request `request`. */
export function readGuest(
  operations: Operations,
  task: usize,
  request: u32,
  hostOffset: u64,
  bufferOffset: u32,
  length: u32,
): void {
  const operation = prepare(operations, OperationKind.Read, Owner.Task, task, hostOffset, length);
  operation.file = operations.dataFile;
  operation.space = BufferSpace.Guest;
  operation.request = request;
  operation.bufferOffset = bufferOffset;
  send(operations, operation);
}

/** Reads file bytes into scratch buffer `scratch`. */
export function readScratch(
  operations: Operations,
  task: usize,
  scratch: u32,
  hostOffset: u64,
  bufferOffset: u32,
  length: u32,
): void {
  const operation = prepare(operations, OperationKind.Read, Owner.Task, task, hostOffset, length);
  operation.file = operations.dataFile;
  operation.space = BufferSpace.Scratch;
  operation.request = scratch;
  operation.bufferOffset = bufferOffset;
  send(operations, operation);
}

/** Reads bytes of the backing disk, and zeros behind them, into buffer `buffer` of `space`. */
export function readBacking(
  operations: Operations,
  task: usize,
  space: BufferSpace,
  buffer: u32,
  guestOffset: u64,
  bufferOffset: u32,
  length: u32,
  zeroAfter: u32,
): void {
  const operation = prepare(operations, OperationKind.ReadBacking, Owner.Task, task, guestOffset, length);
  operation.space = space;
  operation.request = buffer;
  operation.bufferOffset = bufferOffset;
  operation.zeroAfter = zeroAfter;
  send(operations, operation);
}

/** Decompresses a cluster and puts a part of it into buffer `buffer` of `space`. */
export function decompress(
  operations: Operations,
  task: usize,
  space: BufferSpace,
  buffer: u32,
  hostOffset: u64,
  sourceLength: u32,
  sourceOffset: u32,
  bufferOffset: u32,
  length: u32,
): void {
  const operation = prepare(operations, OperationKind.Decompress, Owner.Task, task, hostOffset, length);
  operation.space = space;
  operation.request = buffer;
  operation.bufferOffset = bufferOffset;
  operation.sourceOffset = sourceOffset;
  operation.sourceLength = sourceLength;
  send(operations, operation);
}

/** Compresses the first `length` bytes of the guest buffer of request `request` into scratch buffer `scratch` - 1. */
export function compress(operations: Operations, task: usize, request: u32, length: u32, scratch: u32): void {
  const operation = prepare(operations, OperationKind.Compress, Owner.Task, task, 0, length);
  operation.space = BufferSpace.Guest;
  operation.request = request;
  operation.edges = scratch;
  operation.sourceLength = 0;
  send(operations, operation);
}

/**
 * Writes bytes of the guest buffer of request `request` as one write with what surrounds them: zeros when `edges` is 0;
 * else bytes of scratch buffer `edges` - 1, from its byte `edgeOffset` on and from its end.
 */
export function writeGuest(
  operations: Operations,
  task: usize,
  request: u32,
  hostOffset: u64,
  bufferOffset: u32,
  length: u32,
  before: u32,
  after: u32,
  edges: u32,
  edgeOffset: u32,
): void {
  const operation = prepare(operations, OperationKind.Write, Owner.Task, task, hostOffset, length);
  operation.file = operations.dataFile;
  operation.space = BufferSpace.Guest;
  operation.request = request;
  operation.bufferOffset = bufferOffset;
  operation.zeroBefore = before;
  operation.zeroAfter = after;
  operation.edges = edges;
  operation.sourceOffset = edgeOffset;
  send(operations, operation);
}

/** Writes bytes of scratch buffer `scratch`. */
export function writeScratch(
  operations: Operations,
  task: usize,
  scratch: u32,
  hostOffset: u64,
  bufferOffset: u32,
  length: u32,
): void {
  const operation = prepare(operations, OperationKind.Write, Owner.Task, task, hostOffset, length);
  operation.file = operations.dataFile;
  operation.space = BufferSpace.Scratch;
  operation.request = scratch;
  operation.bufferOffset = bufferOffset;
  send(operations, operation);
}

/** Reads file bytes to an address of the module. */
export function readModule(
  operations: Operations,
  owner: Owner,
  record: usize,
  hostOffset: u64,
  address: usize,
  length: u32,
): void {
  const operation = prepare(operations, OperationKind.Read, owner, record, hostOffset, length);
  operation.bufferOffset = u32(address);
  send(operations, operation);
}

/** Writes bytes at an address of the module; they must stay as they are until the completion. */
export function writeModule(
  operations: Operations,
  owner: Owner,
  record: usize,
  hostOffset: u64,
  address: usize,
  length: u32,
): void {
  const operation = prepare(operations, OperationKind.Write, owner, record, hostOffset, length);
  operation.bufferOffset = u32(address);
  send(operations, operation);
}

export function writeZeroes(operations: Operations, task: usize, hostOffset: u64, length: u32): void {
  send(operations, prepare(operations, OperationKind.WriteZeroes, Owner.Task, task, hostOffset, length));
}

export function discard(operations: Operations, task: usize, hostOffset: u64, length: u32): void {
  send(operations, prepare(operations, OperationKind.Discard, Owner.Task, task, hostOffset, length));
}

/** As `writeZeroes`, where guest data lies. */
export function zeroData(operations: Operations, task: usize, hostOffset: u64, length: u32): void {
  const operation = prepare(operations, OperationKind.WriteZeroes, Owner.Task, task, hostOffset, length);
  operation.file = operations.dataFile;
  send(operations, operation);
}

/** Really writes zeros, where guest data lies. */
export function writeZeroData(operations: Operations, task: usize, hostOffset: u64, length: u32): void {
  const operation = prepare(operations, OperationKind.Write, Owner.Task, task, hostOffset, 0);
  operation.file = operations.dataFile;
  operation.zeroBefore = length;
  send(operations, operation);
}

/** Makes the file that guest data lies in `length` bytes long. */
export function truncateData(operations: Operations, task: usize, length: u64): void {
  const operation = prepare(operations, OperationKind.Truncate, Owner.Task, task, length, 0);
  operation.file = operations.dataFile;
  send(operations, operation);
}

/** As `discard`, where guest data lies. */
export function discardData(operations: Operations, task: usize, hostOffset: u64, length: u32): void {
  const operation = prepare(operations, OperationKind.Discard, Owner.Task, task, hostOffset, length);
  operation.file = operations.dataFile;
  send(operations, operation);
}

export function flush(operations: Operations, owner: Owner, record: usize): void {
  operations.flushes++;
  send(operations, prepare(operations, OperationKind.Flush, owner, record, 0, 0));
}

/** Zeroes a stretch of a guest buffer at once. */
export function fillGuest(request: u32, bufferOffset: u32, length: u32): void {
  fill(request, bufferOffset, length);
}

export function finishRequest(request: u32, status: Status): void {
  finish(request, status);
}

/**
 * Fills a free record. There always is one: the capacity is the sum of what every owner can have in flight at once,
 * see `operationCapacity` in image/open-instance.ts.
 */
function prepare(
  operations: Operations,
  kind: OperationKind,
  owner: Owner,
  record: usize,
  hostOffset: u64,
  length: u32,
): Operation {
  const index = operations.firstFree;
  assert(index !== END, 'operations are sized for every owner');
  const operation = operationAt(operations, index);
  operations.firstFree = operation.nextFree;
  operation.kind = kind;
  operation.file = OperationFile.Image;
  operation.space = BufferSpace.Module;
  operation.request = 0;
  operation.length = length;
  operation.hostOffset = hostOffset;
  operation.bufferOffset = 0;
  operation.zeroBefore = 0;
  operation.zeroAfter = 0;
  operation.edges = 0;
  operation.owner = owner;
  operation.ownerRecord = u32(record);
  return operation;
}

function send(operations: Operations, operation: Operation): void {
  operations.inFlight++;
  submit(u32((changetype<usize>(operation) - operations.records) / OPERATION_SIZE));
}
