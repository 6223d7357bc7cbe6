/**
 * Writing a header with its extensions (specification, "Header" and "Header extensions"):
 *
 *     fields | backing format | data file name | what was kept | feature names | end | … | backing file name
 *
 * Everything but the names and the feature name table is kept as it was, unknown fields and unknown extensions too.
 */

import { loadU32, storeU32, storeU64 } from '../base/bytes';
import { FEATURE_NAMES_LENGTH, writeFeatureNames } from './feature-names';
import { HEADER_LENGTH_KNOWN, HEADER_LENGTH_V2, HeaderOffset } from './header';
import { EXTENSION_HEADER_SIZE, ExtensionType, paddedLength } from './header-extensions';

/** Bytes of an extension that may come later, that of bitmaps: no feature name table shall be in its way. */
const SPARE: u32 = 32;

/** The names of a header: addresses and lengths in bytes; length 0 when there is none. */
@unmanaged
export class HeaderNames {
  backingFileAddress: u32 = 0;
  backingFileLength: u32 = 0;
  backingFormatAddress: u32 = 0;
  backingFormatLength: u32 = 0;
  dataFileAddress: u32 = 0;
  dataFileLength: u32 = 0;
}

/** Bytes of the fields at `address`, where the extensions begin. */
export function fieldsLength(address: usize): u32 {
  return loadU32(address + HeaderOffset.Version) === 2
    ? HEADER_LENGTH_V2
    : loadU32(address + HeaderOffset.HeaderLength);
}

/**
 * Completes the header at `address`, whose fields are in place: extensions and backing file name follow, and the fields
 * that say where that name is. `kept` is the first extension of the old header, 0 when there is none; `keptEnd` is where
 * the old extensions end at the latest. The backing file name lies at `nameOffset` or behind it. Returns the length in
 * bytes, 0 when more than `capacity` bytes would be needed. The feature name table is left out when it
 * does not fit, with some bytes to spare.
 */
export function completeHeader(
  address: usize,
  capacity: u32,
  names: HeaderNames,
  kept: usize,
  keptEnd: usize,
  nameOffset: u32,
  withFeatureNames: bool,
): u32 {
  const fields = fieldsLength(address);
  const nameLength = names.backingFileLength;
  let needed = u64(fields) + keptLength(kept, keptEnd) + EXTENSION_HEADER_SIZE;
  needed += extensionLength(names.backingFormatLength) + extensionLength(names.dataFileLength);
  const featureNames =
    withFeatureNames &&
    loadU32(address + HeaderOffset.Version) !== 2 &&
    max(needed + EXTENSION_HEADER_SIZE + FEATURE_NAMES_LENGTH, nameLength === 0 ? 0 : nameOffset) +
      nameLength +
      SPARE <=
      capacity;
  if (featureNames) needed += EXTENSION_HEADER_SIZE + FEATURE_NAMES_LENGTH;
  const nameStart = nameLength === 0 ? needed : max(needed, u64(nameOffset));
  if (nameStart + nameLength > capacity) return 0;

  memory.fill(address + fields, 0, usize(nameStart + nameLength - fields));
  let next = address + fields;
  next = writeExtension(next, ExtensionType.BackingFormat, names.backingFormatAddress, names.backingFormatLength);
  next = writeExtension(next, ExtensionType.DataFile, names.dataFileAddress, names.dataFileLength);
  next = copyKept(next, kept, keptEnd);
  if (featureNames) next += writeFeatureNames(next);
  // Zeros: an extension of type and length 0 ends the list.
  storeU64(address + HeaderOffset.BackingFileOffset, nameLength === 0 ? 0 : nameStart);
  storeU32(address + HeaderOffset.BackingFileLength, nameLength);
  memory.copy(address + usize(nameStart), names.backingFileAddress, nameLength);
  return u32(nameStart + nameLength);
}

/** Where the extensions at `address` end for who looks at them: behind the one that ends the list, at `end` at the latest. */
export function extensionsEnd(address: usize, end: usize): usize {
  let next = address;
  while (next + EXTENSION_HEADER_SIZE <= end) {
    if (loadU32(next) === ExtensionType.End) return next + EXTENSION_HEADER_SIZE;
    next = following(next, end);
  }
  return end;
}

/** Address of the first extension of that type; 0 when there is none. */
export function findExtension(address: usize, end: usize, type: ExtensionType): usize {
  let next = address;
  while (next + EXTENSION_HEADER_SIZE <= end) {
    const found = loadU32(next);
    if (found === u32(type)) return next;
    if (found === ExtensionType.End) return 0;
    next = following(next, end);
  }
  return 0;
}

/** Fields of version 3, with the defaults of what version 2 does not have, for a header that had 72 bytes. */
export function writeVersion3Fields(address: usize, refcountOrder: u32): void {
  memory.fill(address + HEADER_LENGTH_V2, 0, HEADER_LENGTH_KNOWN - HEADER_LENGTH_V2);
  storeU32(address + HeaderOffset.RefcountOrder, refcountOrder);
  storeU32(address + HeaderOffset.HeaderLength, HEADER_LENGTH_KNOWN);
}

function extensionLength(length: u32): u64 {
  return length === 0 ? 0 : EXTENSION_HEADER_SIZE + paddedLength(length);
}

function writeExtension(address: usize, type: ExtensionType, data: usize, length: u32): usize {
  if (length === 0) return address;
  storeU32(address, type);
  storeU32(address + 4, length);
  memory.copy(address + EXTENSION_HEADER_SIZE, data, length);
  return address + EXTENSION_HEADER_SIZE + usize(paddedLength(length));
}

/** Those that this engine writes anew are not kept. */
function isKept(type: u32): bool {
  return type !== ExtensionType.BackingFormat && type !== ExtensionType.DataFile && type !== ExtensionType.FeatureNames;
}

function keptLength(kept: usize, keptEnd: usize): u64 {
  let length: u64 = 0;
  let next = kept;
  while (next !== 0 && next + EXTENSION_HEADER_SIZE <= keptEnd) {
    const type = loadU32(next);
    if (type === ExtensionType.End) break;
    if (isKept(type)) length += EXTENSION_HEADER_SIZE + paddedLength(loadU32(next + 4));
    next = following(next, keptEnd);
  }
  return length;
}

function copyKept(target: usize, kept: usize, keptEnd: usize): usize {
  let next = kept;
  while (next !== 0 && next + EXTENSION_HEADER_SIZE <= keptEnd) {
    const type = loadU32(next);
    if (type === ExtensionType.End) break;
    const length = loadU32(next + 4);
    if (isKept(type)) {
      memory.copy(target, next, EXTENSION_HEADER_SIZE + length);
      target += usize(EXTENSION_HEADER_SIZE) + usize(paddedLength(length));
    }
    next = following(next, keptEnd);
  }
  return target;
}

/** The next extension; `end` when this one claims more than there is. */
function following(address: usize, end: usize): usize {
  const next = u64(address) + EXTENSION_HEADER_SIZE + paddedLength(loadU32(address + 4));
  return usize(min(next, u64(end)));
}
