/** Runs tasks: starts requests, hands completions to their owners, goes on with whatever was woken, ends requests. */

import { Failure, Field, Structure } from './abi/failure';
import { Operation, OperationFile, OperationKind } from './abi/operation';
import { RequestKind } from './abi/request';
import { Status } from './abi/status';
import { NO_GUEST_OFFSET, refuse } from './base/refuse';
import { isEmpty, shift } from './base/wait-list';
import { finishRequest, Owner, operationAt, release } from './block';
import { completeLoad, TableSlice } from './cache/table-cache';
import { completeWriteOut, isUnderPressure, noteFailedFlush, relievePressure } from './cache/write-order';
import { stepCheck } from './check/check';
import { abandonAmend, stepAmend } from './control/amend';
import { abandonBitmap, isBitmapRequest, stepBitmap } from './control/bitmap';
import { stepClose } from './control/close';
import { stepCreate } from './control/create';
import { stepMap } from './control/map';
import { stepOpen } from './control/open';
import { abandonResize, endZeroingNew, isZeroingNew, stepResize } from './control/resize';
import { stepSnapshotApply } from './control/snapshot-apply';
import { stepSnapshotCreate } from './control/snapshot-create';
import { stepSnapshotDelete } from './control/snapshot-delete';
import { stepSnapshotList } from './control/snapshot-list';
import { abandonSnapshot } from './control/snapshot-verb';
import { abandonVmStateRoom, stepVmStateRoom } from './control/vm-state-room';
import { abandonOwnership } from './image/abandon';
import { noteChanged } from './image/bitmap-track';
import { taskAt } from './image/configure';
import { endMarking, isChange, judgeFinding, markCorrupt, refuseCorrupt } from './image/corrupt-bit';
import { leaveGate, passGate } from './image/exclusive';
import { Image, ImageState } from './image/image';
import { setDirty, startLazyRefcounts, wantsLazyRefcounts } from './image/lazy-refcounts';
import { holdReads } from './image/read-barrier';
import { skipReclaim, stepReclaim } from './image/reclaim';
import { beginSeeing, endSeeing, runSurvey } from './image/survey';
import { resetTask, Task } from './image/task';
import { isAboutVmState, isVmStateRequest, l1EntriesWithVmState, moveToVmState } from './image/vm-state';
import { stepDiscard } from './request/discard';
import { stepFlush } from './request/flush';
import { enterFlight, leaveFlight, waitForEarlier } from './request/in-flight';
import { abandonNewClusters } from './request/new-clusters';
import { stepPreallocate } from './request/preallocate';
import { stepRead } from './request/read';
import { startSimpleRead } from './request/simple-read';
import { stepWrite } from './request/write';
import { abandonCompressed, isCompressing, noteCompressedLength } from './request/write-compressed';
import { stepWriteZeroes } from './request/write-zeroes';

/** Takes the request in slot `slot`. Invalid when there is no such slot or its last request is not done. */
export function submitRequest(image: Image, slot: u32): Status {
  if (slot >= image.requestCapacity) return Status.Invalid;
  const task = taskAt(image, slot);
  if (task.active) return Status.Invalid;
  if (task.request.kind === RequestKind.Read && startSimpleRead(image, task)) return Status.Ok;
  start(image, task);
  drain(image);
  return Status.Ok;
}

/** Takes the host's answer to an operation. Invalid when the host was not asked. */
export function completeOperation(image: Image, index: u32, status: Status): Status {
  if (index >= image.operations.capacity) return Status.Invalid;
  const operation = operationAt(image.operations, index);
  if (operation.kind === 0) return Status.Invalid;
  const owner = operation.owner;
  const record: usize = operation.ownerRecord;
  if (status === Status.Ok && owner === Owner.Task && endsRead(changetype<Task>(record))) {
    release(image.operations, index);
    changetype<Task>(record).outstanding = 0;
    finishTask(image, changetype<Task>(record));
    // Nothing has changed, so there is nothing to do unless somebody waited for this request.
    if (!isEmpty(image.ready)) drain(image);
    return Status.Ok;
  }
  if (status === Status.Ok && operation.kind !== OperationKind.Read) noteWritten(image, operation);
  if (status !== Status.Ok && owner === Owner.Task)
    noteFailed(image, changetype<Task>(record), operation, index, status);
  if (operation.kind === OperationKind.Compress) {
    noteCompressedLength(image, changetype<Task>(record), operation.sourceLength);
  }
  release(image.operations, index);
  if (owner === Owner.Task) {
    const task = changetype<Task>(record);
    task.outstanding--;
    if (!task.queued) runTask(image, task);
  } else if (owner === Owner.Load) {
    completeLoad(image.cache, changetype<TableSlice>(record), status, index);
  } else {
    completeWriteOut(image.order, changetype<TableSlice | null>(record), status, index);
  }
  drain(image);
  return Status.Ok;
}

/** Asks the request in slot `slot` to end soon. It still ends through `block.finish`. */
export function cancelRequest(image: Image, slot: u32): Status {
  if (slot >= image.requestCapacity) return Status.Invalid;
  taskAt(image, slot).cancelled = true;
  return Status.Ok;
}

/** Brings the statistics record up to date. */
export function refreshStatistics(image: Image): void {
  const statistics = image.statistics;
  statistics.cacheHits = image.cache.hits;
  statistics.cacheMisses = image.cache.misses;
  statistics.cacheEvictions = image.cache.evictions;
  statistics.cacheSize = u64(image.cache.count) << image.cache.sliceBits;
  statistics.allocatedClusters = image.allocatedTotal;
  statistics.writeOuts = image.order.passes;
  statistics.flushes = image.operations.flushes;
  statistics.waits = image.waits;
}

function structureOfOperation(kind: u32): Structure {
  if (kind === OperationKind.ReadBacking) return Structure.BackingFile;
  const onData =
    kind === OperationKind.Read ||
    kind === OperationKind.Write ||
    kind === OperationKind.Decompress ||
    kind === OperationKind.Compress;
  return onData ? Structure.DataCluster : Structure.File;
}

/** A read whose last operation has ended needs no further step; most requests take this way. */
function endsRead(task: Task): bool {
  return (
    task.outstanding === 1 &&
    task.kind === RequestKind.Read &&
    task.cursor === task.guestEnd &&
    task.failed === Status.Ok &&
    !task.queued
  );
}

/** An operation of a task failed: the task ends with it once nothing is in flight any more. */
function noteFailed(image: Image, task: Task, operation: Operation, index: u32, status: Status): void {
  const kind = operation.kind;
  if (kind === OperationKind.Flush) noteFailedFlush(image.order, status, index);
  endMarking(image, task);
  // What could not be given back stays: nothing is wrong with that.
  if (task.failed !== Status.Ok || kind === OperationKind.Discard) return;
  const field = kind === OperationKind.Decompress || kind === OperationKind.Compress ? Field.Compression : Field.None;
  refuse(image.failure, status, structureOfOperation(kind), field, operation.hostOffset, 0, 0);
  image.failure.operation = index;
  keepFailure(image, task, status);
}

/** The file is at least as long as the furthest byte written, and holds something that no flush has covered yet. */
function noteWritten(image: Image, operation: Operation): void {
  const kind = operation.kind;
  const grows = kind === OperationKind.Write || kind === OperationKind.WriteZeroes || kind === OperationKind.Truncate;
  if (!grows) return;
  const length = u64(operation.zeroBefore) + u64(operation.length) + u64(operation.zeroAfter);
  const end = operation.hostOffset + length;
  if (operation.file === OperationFile.Data) image.dataFileLength = max(image.dataFileLength, end);
  else image.fileLength = max(image.fileLength, end);
  // The write-out keeps its own account of its own writes.
  if (operation.owner !== Owner.WriteOut) image.order.unflushed = true;
}

function start(image: Image, task: Task): void {
  resetTask(task);
  const status = admit(image, task);
  if (status === Status.Miss) return;
  if (status !== Status.Ok) keepFailure(image, task, status);
  runTask(image, task);
}

/** Whether the request makes sense now; guest requests get in line with those that they overlap. */
function admit(image: Image, task: Task): Status {
  const kind = task.kind;
  if (kind === RequestKind.Open || kind === RequestKind.Create) return Status.Ok;
  const lists = kind === RequestKind.BitmapList || kind === RequestKind.SnapshotList;
  if (image.state !== ImageState.Open && !(lists && image.state === ImageState.Inspected))
    return refuseRequest(image, task, Status.Invalid);
  if (image.tablesOnly && !isAboutTables(kind)) return refuseRequest(image, task, Status.Invalid);
  if (image.overhangingSnapshots !== 0 && kind !== RequestKind.Check && kind !== RequestKind.Close)
    return refuseOverhanging(image);
  if (image.corrupt && isChange(kind)) return refuseCorrupt(image);
  // A repair is alone with the image: it was opened for nothing else.
  const checks = kind === RequestKind.Check && !image.tablesOnly;
  const looks = kind === RequestKind.Map || kind === RequestKind.SnapshotList || checks;
  if (!isGuestRequest(kind) && !looks) return Status.Ok;
  if (passGate(image, task) !== Status.Ok) return Status.Miss;
  if (looks) {
    task.looks = true;
    image.lookers++;
    if (kind !== RequestKind.Map) return Status.Ok;
  }
  const length = task.request.length;
  if (isAboutVmState(task)) {
    const status = admitVmState(image, task);
    if (status !== Status.Ok) return status;
  } else if (length > image.virtualSize || task.guestOffset > image.virtualSize - length) {
    return refuseRequest(image, task, Status.OutOfRange);
  }
  if (kind === RequestKind.Map) return Status.Ok;
  const buffered = kind === RequestKind.Read || kind === RequestKind.Write;
  if (buffered && length > 0xffffffff) return refuseRequest(image, task, Status.TooLarge);
  if (kind !== RequestKind.Read) {
    if (!image.writable) return refuseRequest(image, task, Status.ReadOnly);
    if (image.order.broken) return refuseRequest(image, task, Status.Broken);
  }
  if (length === 0) return Status.Ok;
  task.inFlight = true;
  const status = enterFlight(image, task);
  task.waiting = status === Status.Miss;
  return status;
}

/** There is room for what is written of the machine's saved state; what is read may be nowhere. */
function admitVmState(image: Image, task: Task): Status {
  if (!isVmStateRequest(task)) return refuseRequest(image, task, Status.Invalid);
  // A data file has a place for each byte of the disk, and none for this.
  if (image.hasDataFile) {
    return refuse(image.failure, Status.Unsupported, Structure.Request, Field.SnapshotOfDataFile, 0, 0, 0);
  }
  if (!moveToVmState(image, task)) return refuseRequest(image, task, Status.OutOfRange);
  const needed = l1EntriesWithVmState(image, task.request.guestOffset + task.request.length);
  if (task.kind === RequestKind.Read || needed <= image.l1Size) return Status.Ok;
  return refuseRequest(image, task, Status.OutOfRange);
}

/** What an image takes that was opened for its tables only. */
function isAboutTables(kind: u32): bool {
  const looks = kind === RequestKind.Map || kind === RequestKind.SnapshotList || kind === RequestKind.Check;
  return looks || kind === RequestKind.Amend || kind === RequestKind.Close || isBitmapRequest(kind);
}

function isGuestRequest(kind: u32): bool {
  return (
    kind === RequestKind.Read ||
    kind === RequestKind.Write ||
    kind === RequestKind.WriteZeroes ||
    kind === RequestKind.Discard
  );
}

/** The header still names them: nothing but a repair may be built on the others. */
function refuseOverhanging(image: Image): Status {
  const count = u64(image.info.snapshotCount);
  const found = count + image.overhangingSnapshots;
  return refuse(image.failure, Status.Corrupt, Structure.Header, Field.SnapshotCount, 0, found, count);
}

function refuseRequest(image: Image, task: Task, status: Status): Status {
  refuse(image.failure, status, Structure.Request, Field.Offset, 0, task.request.length, image.virtualSize);
  image.failure.guestOffset = task.guestOffset;
  return status;
}

function drain(image: Image): void {
  while (true) {
    const waiter = shift(image.ready);
    if (waiter !== null) {
      runTask(image, changetype<Task>(waiter));
    } else if (image.state !== ImageState.Open) {
      return;
    } else if (image.order.reclaimable.count !== 0 && !reclaimer(image).active) {
      startReclaim(image);
    } else if (wantsLazyRefcounts(image) && !marker(image).active) {
      startLazyRefcounts(image, marker(image));
    } else {
      if (!isUnderPressure(image.order)) return;
      relievePressure(image.order);
      if (isEmpty(image.ready)) return;
    }
  }
}

/** The core's own task: it has the slot behind the host's. */
function reclaimer(image: Image): Task {
  return taskAt(image, image.requestCapacity);
}

/** The core's own task that sets the dirty bit: it has the slot behind the reclaimer's. */
function marker(image: Image): Task {
  return taskAt(image, image.requestCapacity + 1);
}

function startReclaim(image: Image): void {
  const task = reclaimer(image);
  task.active = true;
  task.stage = 0;
  task.outcome = Status.Ok;
  holdReads(image);
  runReclaimer(image, task);
}

function runReclaimer(image: Image, task: Task): void {
  if (task.outcome !== Status.Ok && task.outcome !== Status.Miss) skipReclaim(image, task);
  task.outcome = Status.Ok;
  // A discard that failed changes nothing: the clusters are free all the same.
  task.failed = Status.Ok;
  if (task.outstanding !== 0) return;
  if (stepReclaim(image, task) === Status.Ok) task.active = false;
}

function runTask(image: Image, task: Task): void {
  if (task.slot === image.requestCapacity) return runReclaimer(image, task);
  if (task === image.tables.surveyor) return runSurvey(image, task);
  if (task.slot > image.requestCapacity) return setDirty(image, task);
  beginSeeing(image.tables, task);
  const outcome = task.outcome;
  task.outcome = Status.Ok;
  if (outcome !== Status.Ok && outcome !== Status.Miss) {
    if (task.failed !== Status.Ok) task.leak = true;
    refuse(image.failure, outcome, task.failedStructure, Field.None, task.failedOffset, 0, 0);
    image.failure.operation = task.failedOperation;
    keepFailure(image, task, outcome);
  }
  if (task.cancelled && task.failed === Status.Ok && !isSwitching(image, task) && !task.committed) {
    keepFailure(image, task, refuseRequest(image, task, Status.Cancelled));
  }
  if (task.gated && task.failed === Status.Ok) {
    const status = admit(image, task);
    if (status === Status.Miss) return;
    if (status !== Status.Ok) keepFailure(image, task, status);
  }
  if (task.failed === Status.Ok) {
    const status = step(image, task);
    endSeeing(image, task);
    if (status === Status.Miss) return;
    if (status === Status.Ok) return finishTask(image, task);
    keepFailure(image, task, status);
  }
  endSeeing(image, task);
  // Buffers stay in use until the last operation has ended.
  if (task.outstanding !== 0) return;
  if (markCorrupt(image, task) === Status.Miss) return;
  if (abandon(image, task) !== Status.Miss) finishTask(image, task);
}

/** Nobody may stop half way between two headers or refcount tables: then it would be unknown which one counts. */
function isSwitching(image: Image, task: Task): bool {
  return image.growthOwner === task || image.headerOwner === task;
}

function step(image: Image, task: Task): Status {
  switch (task.kind) {
    case RequestKind.Read:
      if (task.waiting && isHeldUp(image, task)) return Status.Miss;
      return stepRead(image, task);
    case RequestKind.Write:
    case RequestKind.WriteZeroes:
    case RequestKind.Discard:
      return stepChange(image, task);
    case RequestKind.Flush:
      return stepFlush(image, task);
    case RequestKind.Map:
      return stepMap(image, task);
    case RequestKind.Check:
      return stepCheck(image, task);
    case RequestKind.SnapshotCreate:
      return stepSnapshotCreate(image, task);
    case RequestKind.SnapshotDelete:
      return stepSnapshotDelete(image, task);
    case RequestKind.SnapshotApply:
      return stepSnapshotApply(image, task);
    case RequestKind.SnapshotList:
      return stepSnapshotList(image, task);
    case RequestKind.Open:
      return stepOpen(image, task);
    case RequestKind.Create:
      return stepCreate(image, task);
    case RequestKind.Close:
      return stepClose(image, task);
    case RequestKind.Amend:
      return stepAmend(image, task);
    case RequestKind.Resize:
      return runResize(image, task);
    case RequestKind.Preallocate:
      return stepPreallocate(image, task);
    case RequestKind.VmStateRoom:
      return stepVmStateRoom(image, task);
    default:
      if (isBitmapRequest(task.kind)) return stepBitmap(image, task);
      return refuseRequest(image, task, Status.Invalid);
  }
}

/** What a longer disk shows must be zeros before the header says that it is longer: that is another verb's work. */
function runResize(image: Image, task: Task): Status {
  while (true) {
    if (isZeroingNew(image, task)) {
      const status = stepWriteZeroes(image, task);
      if (status !== Status.Ok) return status;
      endZeroingNew(image);
    }
    const status = stepResize(image, task);
    if (status !== Status.Ok || !isZeroingNew(image, task)) return status;
  }
}

/** A guest request that changes the disk: the bitmaps know of it first. */
function stepChange(image: Image, task: Task): Status {
  if (task.waiting && isHeldUp(image, task)) return Status.Miss;
  // Bitmaps are about the disk.
  const status = isAboutVmState(task) ? Status.Ok : noteChanged(image, task);
  if (status !== Status.Ok) return status;
  if (task.kind === RequestKind.Write) return stepWrite(image, task);
  return task.kind === RequestKind.WriteZeroes ? stepWriteZeroes(image, task) : stepDiscard(image, task);
}

function isHeldUp(image: Image, task: Task): bool {
  task.waiting = waitForEarlier(image, task) === Status.Miss;
  return task.waiting;
}

/** Gives back what a failed task holds. */
function abandon(image: Image, task: Task): Status {
  const kind = task.kind;
  if (isCompressing(task)) return abandonCompressed(image, task);
  if (kind === RequestKind.Resize) abandonResize(image, task);
  if (kind === RequestKind.VmStateRoom) abandonVmStateRoom(image, task);
  const allocates = kind === RequestKind.Write || kind === RequestKind.WriteZeroes || kind === RequestKind.Preallocate;
  if (allocates || isZeroingNew(image, task)) return abandonNewClusters(image, task);
  if (task.kind === RequestKind.Open || task.kind === RequestKind.Create) image.state = ImageState.Closed;
  if (isSnapshotVerb(task.kind)) return abandonSnapshot(image, task);
  const status = abandonOwnership(image, task);
  if (status !== Status.Miss && isBitmapRequest(kind)) abandonBitmap(image, task);
  return status !== Status.Miss && kind === RequestKind.Amend ? abandonAmend(image, task) : status;
}

function isSnapshotVerb(kind: u32): bool {
  return kind >= u32(RequestKind.SnapshotCreate) && kind <= u32(RequestKind.SnapshotApply);
}

function keepFailure(image: Image, task: Task, status: Status): void {
  if (task.failed !== Status.Ok) return;
  task.failed = status;
  if (image.failure.status !== status) refuse(image.failure, status, Structure.Request, Field.None, 0, 0, 0);
  if (image.failure.guestOffset === NO_GUEST_OFFSET && task.inFlight) image.failure.guestOffset = task.cursor;
  memory.copy(changetype<usize>(task.failure), changetype<usize>(image.failure), offsetof<Failure>());
  judgeFinding(image, task);
}

function finishTask(image: Image, task: Task): void {
  if (task.inFlight) leaveFlight(image, task);
  if (task.looks) image.lookers--;
  leaveGate(image, task);
  task.active = false;
  if (task.failed !== Status.Ok) {
    memory.copy(changetype<usize>(image.failure), changetype<usize>(task.failure), offsetof<Failure>());
  }
  finishRequest(task.slot, task.failed);
}
