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
import { clusterOffset, hasReservedBits, isCompressed, isCopied, isZero } from '../format/l2-entry';
import { clusterStart, dataLength, Image } from './image';
import { rememberL1Entry } from './l1-memo';
import { hostOf, NO_HOST } from './mapping-host';
import { extendSubclusters, isExtendedEntryValid } from './mapping-subclusters';
import { Task } from './task';

/**
 * Fills `image.run` with what lies at `guestOffset`: the longest stretch of one kind, contiguous in the file, that one
 * L2 slice describes, cut to `length` bytes. Changes nothing.
 */
export function mapRun(image: Image, task: Task, guestOffset: u64, length: u64): Status {
  const geometry = image.geometry;
  const run = image.run;
  // Too short for the disk only in a snapshot; for saved state, which never was saved, anywhere.
  if (l1Index(geometry, guestOffset) >= image.l1Size) return setUnallocated(image, guestOffset, length);
  const l1Offset = image.l1Offset + (l1Index(geometry, guestOffset) << 3);
  const l1Slice = needSlice(image.cache, TableKind.L1, l1Offset, task);
  if (l1Slice === null) return task.outcome;
  const l1Entry = loadU64(l1Slice.data + usize(l1Offset - l1Slice.hostOffset));
  const tableOffset = l2TableOffset(l1Entry);
  if (checkL1Entry(l1Entry, geometry.clusterSize) !== Status.Ok || tableOffset >= image.fileLength) {
    const aligned = (tableOffset & u64(geometry.clusterSize - 1)) === 0;
    const field: Field = aligned ? Field.Offset : Field.Alignment;
    return refuseAt(image, Structure.L1Table, field, l1Offset, l1Entry, guestOffset);
  }
  if (tableOffset === 0) return setUnallocated(image, guestOffset, length);

  rememberL1Entry(image, l1Index(geometry, guestOffset), l1Entry);
  const entryOffset = tableOffset + (u64(l2Index(geometry, guestOffset)) << geometry.l2EntryBits);
  const slice = needSlice(image.cache, TableKind.L2, entryOffset, task);
  if (slice === null) return task.outcome;
  run.hasTable = true;
  run.sliceOffset = slice.hostOffset;
  run.sliceIndex = u32(entryOffset - slice.hostOffset) >> geometry.l2EntryBits;
  const status = begin(image, slice.data, guestOffset, length);
  if (status !== Status.Ok) return status;
  // A shared L2 table may not be changed, whatever its entries say of their own clusters.
  run.tableShared = !isL1Copied(l1Entry);
  if (run.tableShared) run.copied = false;
  return Status.Ok;
}

/** There is no L2 table: nothing up to the end of what one would describe. */
function setUnallocated(image: Image, guestOffset: u64, length: u64): Status {
  const coverage = l2Coverage(image.geometry);
  const run = image.run;
  run.kind = ExtentKind.Unallocated;
  run.copied = false;
  run.hasTable = false;
  run.tableShared = false;
  run.hostOffset = 0;
  run.length = min(length, coverage - (guestOffset & (coverage - 1)));
  return Status.Ok;
}

/** Looks at the entries of the slice at `data` from `run.sliceIndex` on. */
function begin(image: Image, data: usize, guestOffset: u64, length: u64): Status {
  const geometry = image.geometry;
  const run = image.run;
  const inCluster = guestOffset & (u64(geometry.clusterSize) - 1);
  const address = data + (usize(run.sliceIndex) << geometry.l2EntryBits);
  const first = loadU64(address);
  run.copied = isCopied(first);
  if (isCompressed(first)) {
    run.kind = ExtentKind.Compressed;
    run.length = min(length, u64(geometry.clusterSize) - inCluster);
    return noteCompressed(image, first, guestOffset);
  }
  const status = checkEntry(image, address, guestOffset);
  if (status !== Status.Ok) return status;
  const host = hostOf(image, first);
  run.hostOffset = host === NO_HOST ? 0 : host + inCluster;
  if (geometry.extended) extendSubclusters(image, data, inCluster, length);
  else extend(image, data, inCluster, length);
  return Status.Ok;
}

/** Goes on with entries while they continue the run. */
function extend(image: Image, data: usize, inCluster: u64, length: u64): void {
  const run = image.run;
  const clusterSize = u64(image.geometry.clusterSize);
  const entries = u32(1) << (image.geometry.sliceBits - image.geometry.l2EntryBits);
  let index = run.sliceIndex;
  const first = loadU64(data + (usize(index) << 3));
  const kind = kindOf(image, first);
  const host = hostOf(image, first);
  const end = dataLength(image);
  run.kind = kind;
  run.length = min(length, clusterSize - inCluster);
  let expected = host === NO_HOST ? NO_HOST : host + clusterSize;
  while (run.length < length && ++index < entries) {
    const entry = loadU64(data + (usize(index) << 3));
    if (kindOf(image, entry) !== kind || hostOf(image, entry) !== expected || isCopied(entry) !== run.copied) break;
    // A wrong entry ends the run; it is refused when somebody asks for its own bytes.
    if (hasReservedBits(entry, image.version) || (expected !== NO_HOST && expected >= end)) break;
    run.length = min(length, run.length + clusterSize);
    if (expected !== NO_HOST) expected += clusterSize;
  }
}

/** A compressed cluster must begin inside the file; its last sector may be cut short by the end. */
function noteCompressed(image: Image, entry: u64, guestOffset: u64): Status {
  const run = image.run;
  run.hostOffset = compressedOffset(entry, image.geometry.clusterBits);
  run.compressedLength = u32(compressedLength(entry, image.geometry.clusterBits));
  // An external data file is plain data.
  if (run.hostOffset < image.fileLength && !image.hasDataFile) return Status.Ok;
  return refuseEntry(image, Field.Offset, entry, guestOffset);
}

function kindOf(image: Image, entry: u64): ExtentKind {
  if (isCompressed(entry)) return ExtentKind.Compressed;
  if (hostOf(image, entry) === NO_HOST) return isZero(entry) ? ExtentKind.ZeroPlain : ExtentKind.Unallocated;
  return isZero(entry) ? ExtentKind.ZeroAllocated : ExtentKind.Data;
}

/** The run's first entry must be free of reserved bits, aligned, and data must lie inside the file. */
function checkEntry(image: Image, address: usize, guestOffset: u64): Status {
  const entry = loadU64(address);
  if (hasReservedBits(entry, image.version)) return refuseEntry(image, Field.ReservedBits, entry, guestOffset);
  const host = clusterOffset(entry);
  const hasHost = hostOf(image, entry) !== NO_HOST;
  if ((host & (u64(image.geometry.clusterSize) - 1)) !== 0) {
    return refuseEntry(image, Field.Alignment, entry, guestOffset);
  }
  // QEMU reads a cluster beyond the end of the file as zeros. That is data lost in silence: refuse. A reserved cluster
  // there would be written to, wherever that is.
  if (hasHost && host >= dataLength(image)) return refuseEntry(image, Field.Offset, entry, guestOffset);
  // New clusters of a data file lie where the guest has them: another one's must not be there.
  const isOrdered = image.hasDataFile && (image.writable || image.isDataRaw);
  if (isOrdered && hasHost && host !== clusterStart(image, guestOffset)) {
    return refuseEntry(image, Field.Offset, entry, guestOffset);
  }
  if (image.geometry.extended && !isExtendedEntryValid(address, hasHost)) {
    return refuseEntry(image, Field.Subclusters, loadU64(address + 8), guestOffset);
  }
  return Status.Ok;
}

function refuseEntry(image: Image, field: Field, found: u64, guestOffset: u64): Status {
  const run = image.run;
  const entryOffset = run.sliceOffset + (u64(run.sliceIndex) << image.geometry.l2EntryBits);
  return refuseAt(image, Structure.L2Table, field, entryOffset, found, guestOffset);
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
