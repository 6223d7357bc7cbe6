/** No write of guest data may hit metadata, whatever the tables claim (as QEMU's overlap-check=constant, and cached). */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { refuse } from '../base/refuse';
import { findSlice } from '../cache/table-cache';
import { Image } from './image';

/** Corrupt when the `length` bytes from `hostOffset` on touch the header, L1, refcount table or any cached table. */
export function checkOverlap(image: Image, hostOffset: u64, length: u64): Status {
  const status = checkTableOverlap(image, hostOffset, length);
  return status === Status.Ok ? checkCachedOverlap(image, hostOffset, hostOffset + length) : status;
}

/** As `checkOverlap`, for guest data: in a file of its own it hits nothing. */
export function checkDataOverlap(image: Image, hostOffset: u64, length: u64): Status {
  return image.hasDataFile ? Status.Ok : checkOverlap(image, hostOffset, length);
}

/** Corrupt when an L2 table or refcount block there would lie on the header, the L1 table or the refcount table. */
export function checkTableOverlap(image: Image, hostOffset: u64, length: u64): Status {
  const end = hostOffset + length;
  if (hostOffset < image.geometry.clusterSize) return refuseOverlap(image, Structure.Header, hostOffset, 0);
  const l1End = image.l1Offset + (u64(image.l1Size) << 3);
  if (hostOffset < l1End && end > image.l1Offset) {
    return refuseOverlap(image, Structure.L1Table, hostOffset, image.l1Offset);
  }
  const tableEnd = image.refcountTableOffset + (u64(image.refcountTableClusters) << image.geometry.clusterBits);
  if (hostOffset < tableEnd && end > image.refcountTableOffset) {
    return refuseOverlap(image, Structure.RefcountTable, hostOffset, image.refcountTableOffset);
  }
  return Status.Ok;
}

function checkCachedOverlap(image: Image, hostOffset: u64, end: u64): Status {
  const sliceSize = u64(1) << image.cache.sliceBits;
  for (let offset = hostOffset & ~(sliceSize - 1); offset < end; offset += sliceSize) {
    if (findSlice(image.cache, offset) !== null) {
      return refuseOverlap(image, Structure.L2Table, hostOffset, offset);
    }
  }
  return Status.Ok;
}

function refuseOverlap(image: Image, structure: Structure, hostOffset: u64, structureOffset: u64): Status {
  return refuse(image.failure, Status.Corrupt, structure, Field.Overlap, hostOffset, hostOffset, structureOffset);
}
