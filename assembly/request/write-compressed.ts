/**
 * Write of one whole cluster in compressed form. The host compresses the guest bytes into a scratch buffer; then there is
 * room for them in the file, they are written, and the entry is changed. What does not become smaller is written plain.
 *
 *   Plan ── compressed ──▶ Compressing ──▶ Packing ── room found, written ──▶ Packed ──▶ entry changed
 *
 * The request covers all guest bytes of its cluster, so nobody else writes to it meanwhile.
 */

import { ConfigurationFlag } from '../abi/configuration';
import { Field, Structure } from '../abi/failure';
import { RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { loadU64, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { compress, writeScratch } from '../block';
import { needSlice, pin, TableKind, TableSlice, undoPin, unpin } from '../cache/table-cache';
import { dropClusters, markDirty, needRoom } from '../cache/write-order';
import { compressedLength, compressedOffset, makeCompressedEntry } from '../format/compressed';
import { clusterOffset, isCompressed } from '../format/l2-entry';
import { abandonOwnership } from '../image/abandon';
import { Image } from '../image/image';
import { makeL2Table } from '../image/l2-table';
import { mapRun } from '../image/mapping';
import { checkTableOverlap, needNoTable } from '../image/overlap';
import { packBytes } from '../image/pack';
import { giveScratch, needScratch, takeScratch } from '../image/scratch';
import { parkOnOperation, Task } from '../image/task';

/** `Task.stage`, beyond those of other writes. */
enum CompressedStage {
  Plan = 0,
  Compressing = 8,
  Packing = 9,
  Packed = 10,
}

const SECTOR: u32 = 512;

/** Ok with the cursor at the end when the cluster is linked; Ok with it at the start when it has to be written plain. */
export function stepWriteCompressed(image: Image, task: Task): Status {
  if (task.stage === CompressedStage.Plan) {
    const status = begin(image, task);
    if (status !== Status.Ok) return status;
  }
  if (task.outstanding !== 0) return Status.Miss;
  if (task.stage === CompressedStage.Compressing) {
    if (task.packedLength === 0) {
      giveScratch(image, task);
      task.stage = CompressedStage.Plan;
      return Status.Ok;
    }
    task.stage = CompressedStage.Packing;
  }
  return task.stage === CompressedStage.Packing ? pack(image, task) : link(image, task);
}

/** A failed write gives back what it holds. Miss while there is no room to note it: call again. */
export function abandonCompressed(image: Image, task: Task): Status {
  const status = abandonOwnership(image, task);
  if (status === Status.Miss) return status;
  if (task.stage === CompressedStage.Packed) {
    if (!task.leak && !image.order.broken) {
      if (!needRoom(image.order, task)) return Status.Miss;
      dropClusters(image.order, firstCluster(image, task), touchedClusters(image, task));
    }
    unpin(image.cache, task.slice as TableSlice);
    task.slice = null;
  }
  giveScratch(image, task);
  task.stage = CompressedStage.Plan;
  return Status.Ok;
}

/** The task is in a stage that `abandonCompressed` knows. */
export function isCompressing(task: Task): bool {
  return task.kind === RequestKind.Write && task.stage >= u32(CompressedStage.Compressing);
}

/** The host's answer to a Compress operation; what makes no sense counts as not smaller. */
export function noteCompressedLength(image: Image, task: Task, length: u32): void {
  const padded = (length + SECTOR - 1) & ~(SECTOR - 1);
  task.packedLength = length < image.geometry.clusterSize && padded < image.geometry.clusterSize ? padded : 0;
}

function begin(image: Image, task: Task): Status {
  const clusterSize = u64(image.geometry.clusterSize);
  const length = task.guestEnd - task.guestOffset;
  const whole = length === clusterSize || (length < clusterSize && task.guestEnd === image.virtualSize);
  if (!whole || (task.guestOffset & (clusterSize - 1)) !== 0) {
    refuse(image.failure, Status.Invalid, Structure.Request, Field.Offset, 0, task.guestOffset, clusterSize);
    image.failure.guestOffset = task.guestOffset;
    return Status.Invalid;
  }
  const needed = ConfigurationFlag.Compresses | ConfigurationFlag.Scratch;
  if ((image.configuration.flags & needed) !== needed || image.hasDataFile) {
    refuse(image.failure, Status.Unsupported, Structure.DataCluster, Field.Compression, 0, 0, 0);
    image.failure.guestOffset = task.guestOffset;
    return Status.Unsupported;
  }
  if (!needScratch(image, task)) return Status.Miss;
  takeScratch(image, task);
  task.packedLength = 0;
  task.stage = CompressedStage.Compressing;
  compress(image.operations, changetype<usize>(task), task.slot, u32(length), task.scratch);
  return parkOnOperation(task);
}

/** Finds the entry and room in the file, and hands out the write. */
function pack(image: Image, task: Task): Status {
  const mapped = mapRun(image, task, task.guestOffset, task.guestEnd - task.guestOffset);
  if (mapped !== Status.Ok) return mapped;
  const run = image.run;
  if (!run.hasTable || run.tableShared) {
    const status = makeL2Table(image, task, task.guestOffset);
    return status === Status.Ok ? pack(image, task) : status;
  }
  const sliceOffset = run.sliceOffset;
  const sliceIndex = run.sliceIndex;
  const slice = needSlice(image.cache, TableKind.L2, sliceOffset, task);
  if (slice === null) return task.outcome;
  const status = noteOld(image, task, slice, sliceIndex);
  if (status !== Status.Ok) return status;
  pin(slice);
  const packed = packBytes(image, task, task.packedLength);
  undoPin(slice);
  if (packed !== Status.Ok) return packed;

  pin(slice);
  task.slice = slice;
  task.sliceIndex = sliceIndex;
  task.hostOffset = image.packedOffset;
  task.stage = CompressedStage.Packed;
  const operations = image.operations;
  writeScratch(operations, changetype<usize>(task), task.scratch - 1, task.hostOffset, 0, task.packedLength);
  return parkOnOperation(task);
}

/** Remembers which host clusters lose a reference, and that none of them is a table. */
function noteOld(image: Image, task: Task, slice: TableSlice, sliceIndex: u32): Status {
  const geometry = image.geometry;
  const bits = geometry.clusterBits;
  const table = checkTableOverlap(image, slice.hostOffset, u64(1) << geometry.sliceBits);
  if (table !== Status.Ok) return table;
  const entry = loadU64(slice.data + (usize(sliceIndex) << geometry.l2EntryBits));
  const compressed = isCompressed(entry);
  const offset = compressed ? compressedOffset(entry, bits) : clusterOffset(entry);
  task.dropCount = 0;
  if (offset === 0) return Status.Ok;
  const length = compressed ? compressedLength(entry, bits) : u64(geometry.clusterSize);
  task.dropCluster = offset >> bits;
  task.dropCount = u32(((offset + length - 1) >> bits) - task.dropCluster + 1);
  return needNoTable(image, task, offset, compressed ? u64(1) : length);
}

/** The bytes are written: the entry makes them visible. */
function link(image: Image, task: Task): Status {
  if (task.dropCount !== 0) {
    if (!needRoom(image.order, task)) return Status.Miss;
    dropClusters(image.order, task.dropCluster, task.dropCount);
    task.dropCount = 0;
  }
  const slice = task.slice as TableSlice;
  const geometry = image.geometry;
  const address = slice.data + (usize(task.sliceIndex) << geometry.l2EntryBits);
  storeU64(address, makeCompressedEntry(task.hostOffset, task.packedLength, geometry.clusterBits));
  if (geometry.extended) storeU64(address + 8, 0);
  markDirty(image.order, slice);
  unpin(image.cache, slice);
  task.slice = null;
  giveScratch(image, task);
  task.stage = CompressedStage.Plan;
  task.cursor = task.guestEnd;
  return Status.Ok;
}

function firstCluster(image: Image, task: Task): u64 {
  return task.hostOffset >> image.geometry.clusterBits;
}

function touchedClusters(image: Image, task: Task): u64 {
  const last = (task.hostOffset + task.packedLength - 1) >> image.geometry.clusterBits;
  return last - firstCluster(image, task) + 1;
}
