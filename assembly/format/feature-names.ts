/** The feature name table that new images get (specification, "Feature name table"): QEMU's names, in QEMU's order. */

import { storeU32 } from '../base/bytes';
import { FEATURE_ENTRY_SIZE } from './features';
import { EXTENSION_HEADER_SIZE, ExtensionType } from './header-extensions';

enum FeatureKind {
  Incompatible = 0,
  Compatible = 1,
  Autoclear = 2,
}

/** Bytes of the extension's data. */
export const FEATURE_NAMES_LENGTH: u32 = 384;

/** Writes the extension at `address`; returns its length in bytes. */
export function writeFeatureNames(address: usize): u32 {
  storeU32(address, ExtensionType.FeatureNames);
  storeU32(address + 4, FEATURE_NAMES_LENGTH);
  let entry = address + EXTENSION_HEADER_SIZE;
  entry = writeEntry(entry, FeatureKind.Incompatible, 0, 'dirty bit');
  entry = writeEntry(entry, FeatureKind.Incompatible, 1, 'corrupt bit');
  entry = writeEntry(entry, FeatureKind.Incompatible, 2, 'external data file');
  entry = writeEntry(entry, FeatureKind.Incompatible, 3, 'compression type');
  entry = writeEntry(entry, FeatureKind.Incompatible, 4, 'extended L2 entries');
  entry = writeEntry(entry, FeatureKind.Compatible, 0, 'lazy refcounts');
  entry = writeEntry(entry, FeatureKind.Autoclear, 0, 'bitmaps');
  entry = writeEntry(entry, FeatureKind.Autoclear, 1, 'raw external data');
  return u32(entry - address);
}

function writeEntry(entry: usize, kind: FeatureKind, bit: u8, name: string): usize {
  memory.fill(entry, 0, FEATURE_ENTRY_SIZE);
  store<u8>(entry, u8(kind));
  store<u8>(entry + 1, bit);
  for (let index = 0; index < name.length; index++) {
    store<u8>(entry + 2 + usize(index), u8(name.charCodeAt(index)));
  }
  return entry + FEATURE_ENTRY_SIZE;
}
