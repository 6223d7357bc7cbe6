/**
 * No write may hit metadata, whatever the tables claim: QEMU's overlap checks, at the level that the host asks for.
 *
 *   checkTableOverlap   header, L1 table, refcount table: known without looking
 *   checkOverlap        and whatever table is in the cache, whatever the level: no bytes may be known in two ways
 *   needNoTable         and every other table, by the map of all tables: may park the task
 */

import { OverlapCheck } from '../abi/configuration';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { findSlice, structureOf } from '../cache/table-cache';
import { Image } from './image';
import { fillMap, seekTable } from './survey';
import { mayHoldTable } from './table-map-state';
import { Task } from './task';

/** The checks that take a map of the tables. */
const MAPPED: u32 =
  OverlapCheck.ActiveL2 |
  OverlapCheck.RefcountBlock |
  OverlapCheck.SnapshotTable |
  OverlapCheck.InactiveL1 |
  OverlapCheck.InactiveL2 |
  OverlapCheck.BitmapDirectory;

/**
 * Ok when none of the `length` bytes from `hostOffset` on belongs to a table; they are about to be written, or to be free.
 * Miss: the task is parked, call again.
 */
export function needNoTable(image: Image, task: Task, hostOffset: u64, length: u64): Status {
  const status = checkOverlap(image, hostOffset, length);
  // Who repairs tables cannot believe them.
  if (status !== Status.Ok || image.tablesOnly || (image.configuration.overlapChecks & MAPPED) === 0) return status;
  const map = image.tables;
  if (!map.valid) {
    // A verb that is alone may be about to change the tables: who comes after it looks at them.
    return image.exclusiveOwner === task ? Status.Ok : fillMap(image, task);
  }
  const bits = image.geometry.clusterBits;
  const first = hostOffset >> bits;
  const last = (hostOffset + length - 1) >> bits;
  for (let cluster = first; cluster <= last; cluster++) {
    if (!mayHoldTable(map, cluster)) continue;
    if (map.found === 0 || map.foundCluster < first || map.foundCluster > last) {
      return seekTable(image, task, first, last);
    }
    return refuseOverlap(image, map.found, map.foundCluster << bits, map.foundCluster << bits);
  }
  return Status.Ok;
}

/** As `needNoTable`, for guest data: in a file of its own it hits nothing. */
export function needNoTableForData(image: Image, task: Task, hostOffset: u64, length: u64): Status {
  return image.hasDataFile ? Status.Ok : needNoTable(image, task, hostOffset, length);
}

/** Corrupt when the `length` bytes from `hostOffset` on touch the header, L1, refcount table or any cached table. */
export function checkOverlap(image: Image, hostOffset: u64, length: u64): Status {
  const status = checkTableOverlap(image, hostOffset, length);
  return status === Status.Ok ? checkCachedOverlap(image, hostOffset, hostOffset + length) : status;
}

/** Corrupt when an L2 table or refcount block there would lie on the header, the L1 table or the refcount table. */
export function checkTableOverlap(image: Image, hostOffset: u64, length: u64): Status {
  const checks = image.configuration.overlapChecks;
  const end = hostOffset + length;
  if ((checks & OverlapCheck.MainHeader) !== 0 && hostOffset < image.geometry.clusterSize) {
    return refuseOverlap(image, Structure.Header, hostOffset, 0);
  }
  if ((checks & OverlapCheck.ActiveL1) !== 0) {
    const l1End = image.l1Offset + (u64(image.l1Size) << 3);
    if (hostOffset < l1End && end > image.l1Offset) {
      return refuseOverlap(image, Structure.L1Table, hostOffset, image.l1Offset);
    }
  }
  if ((checks & OverlapCheck.RefcountTable) === 0) return Status.Ok;
  const tableEnd = image.refcountTableOffset + (u64(image.refcountTableClusters) << image.geometry.clusterBits);
  if (hostOffset < tableEnd && end > image.refcountTableOffset) {
    return refuseOverlap(image, Structure.RefcountTable, hostOffset, image.refcountTableOffset);
  }
  return Status.Ok;
}

function checkCachedOverlap(image: Image, hostOffset: u64, end: u64): Status {
  const sliceSize = u64(1) << image.cache.sliceBits;
  for (let offset = hostOffset & ~(sliceSize - 1); offset < end; offset += sliceSize) {
    const slice = findSlice(image.cache, offset);
    if (slice !== null) return refuseOverlap(image, structureOf(slice.kind), hostOffset, offset);
  }
  return Status.Ok;
}

function refuseOverlap(image: Image, structure: u32, hostOffset: u64, structureOffset: u64): Status {
  return refuse(image.failure, Status.Corrupt, structure, Field.Overlap, hostOffset, hostOffset, structureOffset);
}
