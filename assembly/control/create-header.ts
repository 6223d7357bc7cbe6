/** The header of a new image. */

import { CreateFlag, CreateOptions } from '../abi/create-options';
import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { storeU32, storeU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import {
  AUTOCLEAR_RAW_DATA,
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_COMPRESSION,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_EXTENDED_L2,
} from '../format/features';
import { HeaderOffset, MAGIC } from '../format/header';
import { completeHeader, HeaderNames, writeVersion3Fields } from '../format/header-writer';
import { Image } from '../image/image';
import { createNames, NewLayout } from './create-plan';

/** Builds it at `address`, in at most `capacity` bytes; TooLarge when the names do not fit the first cluster. */
export function buildHeader(
  image: Image,
  options: CreateOptions,
  layout: NewLayout,
  address: usize,
  capacity: u32,
): Status {
  memory.fill(address, 0, capacity);
  storeU32(address + HeaderOffset.Magic, MAGIC);
  storeU32(address + HeaderOffset.Version, options.version);
  storeU32(address + HeaderOffset.ClusterBits, options.clusterBits);
  storeU64(address + HeaderOffset.Size, options.virtualSize);
  storeU32(address + HeaderOffset.L1Size, layout.l1Size);
  storeU64(address + HeaderOffset.L1TableOffset, layout.l1Offset);
  storeU64(address + HeaderOffset.RefcountTableOffset, layout.tableOffset);
  storeU32(address + HeaderOffset.RefcountTableClusters, u32(layout.tableClusters));
  if (options.version === 3) {
    writeVersion3Fields(address, options.refcountOrder);
    writeFeatures(address, options);
  }
  const names = changetype<HeaderNames>(image.scratch);
  placeNames(image, options, names);
  layout.headerLength = completeHeader(address, capacity, names, 0, 0, 0, true);
  if (layout.headerLength !== 0) return Status.Ok;
  const field = options.backingFileLength !== 0 ? Field.BackingFileLength : Field.DataFile;
  const length = u64(options.backingFileLength) + options.backingFormatLength + options.dataFileLength;
  return refuse(image.failure, Status.Invalid, Structure.Request, field, 0, length, capacity);
}

function writeFeatures(address: usize, options: CreateOptions): void {
  const flags = options.flags;
  const zstd = options.compressionType !== 0;
  let incompatible: u64 = zstd ? INCOMPATIBLE_COMPRESSION : 0;
  if ((flags & CreateFlag.ExtendedL2) !== 0) incompatible |= INCOMPATIBLE_EXTENDED_L2;
  if ((flags & CreateFlag.DataFile) !== 0) incompatible |= INCOMPATIBLE_DATA_FILE;
  storeU64(address + HeaderOffset.IncompatibleFeatures, incompatible);
  const lazy = (flags & CreateFlag.LazyRefcounts) !== 0;
  storeU64(address + HeaderOffset.CompatibleFeatures, lazy ? COMPATIBLE_LAZY_REFCOUNTS : 0);
  const raw = (flags & CreateFlag.DataFileRaw) !== 0;
  storeU64(address + HeaderOffset.AutoclearFeatures, raw ? AUTOCLEAR_RAW_DATA : 0);
  store<u8>(address + HeaderOffset.CompressionType, u8(options.compressionType));
}

function placeNames(image: Image, options: CreateOptions, names: HeaderNames): void {
  names.backingFileAddress = createNames(image);
  names.backingFileLength = options.backingFileLength;
  names.backingFormatAddress = names.backingFileAddress + names.backingFileLength;
  names.backingFormatLength = options.backingFormatLength;
  names.dataFileAddress = names.backingFormatAddress + names.backingFormatLength;
  names.dataFileLength = options.dataFileLength;
}
