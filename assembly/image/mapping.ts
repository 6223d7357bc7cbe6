/** From guest offsets to what is there: L1, then L2, then as many neighbouring entries as make one run. */

import { ExtentKind } from '../abi/extent';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import { needSlice, TableKind } from '../cache/table-cache';
import { compressedLength, compressedOffset } from '../format/compressed';
import { l1Index, l2Coverage, l2Index } from '../format/geometry';
import { checkL1Entry, isL1Copied, l2TableOffset } from '../format/l1-entry';
import { clusterOffset, hasReservedBits, isCompressed, isCopied, isZero, L2_ENTRY_BITS } from '../format/l2-entry';
import { Image } from './image';
import { rememberL1Entry } from './l1-memo';
import { Task } from './task';

/**
 * Fills `image.run` with what lies at `guestOffset`: the longest stretch of one kind, contiguous in the file, that one
 * L2 slice describes, cut to `length` bytes. Changes nothing.
 */
export function mapRun(image: Image, task: Task, guestOffset: u64, length: u64): Status {
  const geometry = image.geometry;
  const run = image.run;
  const l1Offset = image.l1Offset + (l1Index(geometry, guestOffset) << 3);
  const l1Slice = needSlice(image.cache, TableKind.L1, l1Offset, task);
  if (l1Slice === null) return task.outcome;
  const l1Entry = loadU64(l1Slice.data + usize(l1Offset - l1Slice.hostOffset));
  const tableOffset = l2TableOffset(l1Entry);
  if (checkL1Entry(l1Entry, geometry.clusterSize) !== Status.Ok || tableOffset >= image.fileLength) {
    return refuseAt(image, Structure.L1Table, Field.Offset, l1Offset, l1Entry, guestOffset);
  }
  if (tableOffset === 0) {
    const coverage = l2Coverage(geometry);
    run.kind = ExtentKind.Unallocated;
    run.copied = false;
    run.hasTable = false;
    run.hostOffset = 0;
    run.length = min(length, coverage - (guestOffset & (coverage - 1)));
    return Status.Ok;
  }

  rememberL1Entry(image, l1Index(geometry, guestOffset), l1Entry);
  const entryOffset = tableOffset + (u64(l2Index(geometry, guestOffset)) << L2_ENTRY_BITS);
  const slice = needSlice(image.cache, TableKind.L2, entryOffset, task);
  if (slice === null) return task.outcome;
  run.hasTable = true;
  run.sliceOffset = slice.hostOffset;
  run.sliceIndex = u32(entryOffset - slice.hostOffset) >> L2_ENTRY_BITS;
  const status = extend(image, slice.data, guestOffset, length);
  if (status !== Status.Ok) return status;
  // A shared L2 table may not be changed, whatever its entries say of their own clusters.
  if (!isL1Copied(l1Entry)) run.copied = false;
  return Status.Ok;
}

/** Looks at entries of the slice at `data` from `run.sliceIndex` on while they continue the run. */
function extend(image: Image, data: usize, guestOffset: u64, length: u64): Status {
  const run = image.run;
  const clusterSize = u64(image.geometry.clusterSize);
  const inCluster = guestOffset & (clusterSize - 1);
  const entries = u32(1) << (image.geometry.sliceBits - L2_ENTRY_BITS);
  let index = run.sliceIndex;

  const first = loadU64(data + (usize(index) << L2_ENTRY_BITS));
  const kind = kindOf(first);
  run.kind = kind;
  run.copied = isCopied(first);
  run.length = min(length, clusterSize - inCluster);
  if (kind === ExtentKind.Compressed) {
    return noteCompressed(image, first, guestOffset);
  }
  const status = checkEntry(image, first, index, guestOffset);
  if (status !== Status.Ok) return status;
  const host = clusterOffset(first);
  run.hostOffset = host === 0 ? 0 : host + inCluster;

  let expected: u64 = host === 0 ? 0 : host + clusterSize;
  while (run.length < length && ++index < entries) {
    const entry = loadU64(data + (usize(index) << L2_ENTRY_BITS));
    if (kindOf(entry) !== kind || clusterOffset(entry) !== expected || isCopied(entry) !== run.copied) break;
    // A wrong entry ends the run; it is refused when somebody asks for its own bytes.
    if (hasReservedBits(entry, image.version) || clusterOffset(entry) >= image.fileLength) break;
    run.length = min(length, run.length + clusterSize);
    if (expected !== 0) expected += clusterSize;
  }
  return Status.Ok;
}

/** A compressed cluster must begin inside the file; its last sector may be cut short by the end. */
function noteCompressed(image: Image, entry: u64, guestOffset: u64): Status {
  const run = image.run;
  run.hostOffset = compressedOffset(entry, image.geometry.clusterBits);
  run.compressedLength = u32(compressedLength(entry, image.geometry.clusterBits));
  if (run.hostOffset < image.fileLength) return Status.Ok;
  const entryOffset = run.sliceOffset + (u64(run.sliceIndex) << L2_ENTRY_BITS);
  return refuseAt(image, Structure.L2Table, Field.Offset, entryOffset, entry, guestOffset);
}

function kindOf(entry: u64): ExtentKind {
  if (isCompressed(entry)) return ExtentKind.Compressed;
  if (clusterOffset(entry) === 0) return isZero(entry) ? ExtentKind.ZeroPlain : ExtentKind.Unallocated;
  return isZero(entry) ? ExtentKind.ZeroAllocated : ExtentKind.Data;
}

/** A standard entry must be free of reserved bits, aligned, and data must lie inside the file. */
function checkEntry(image: Image, entry: u64, index: u32, guestOffset: u64): Status {
  const entryOffset = image.run.sliceOffset + (u64(index) << L2_ENTRY_BITS);
  if (hasReservedBits(entry, image.version)) {
    return refuseAt(image, Structure.L2Table, Field.ReservedBits, entryOffset, entry, guestOffset);
  }
  const host = clusterOffset(entry);
  if ((host & (u64(image.geometry.clusterSize) - 1)) !== 0) {
    return refuseAt(image, Structure.L2Table, Field.Alignment, entryOffset, entry, guestOffset);
  }
  // QEMU reads a cluster beyond the end of the file as zeros. That is data lost in silence: refuse. A reserved cluster
  // there would be written to, wherever that is.
  if (host >= image.fileLength) {
    return refuseAt(image, Structure.L2Table, Field.Offset, entryOffset, entry, guestOffset);
  }
  return Status.Ok;
}

function refuseAt(
  image: Image,
  structure: Structure,
  field: Field,
  hostOffset: u64,
  found: u64,
  guestOffset: u64,
): Status {
  const status = refuse(image.failure, Status.Corrupt, structure, field, hostOffset, found, image.fileLength);
  image.failure.guestOffset = guestOffset;
  return status;
}
