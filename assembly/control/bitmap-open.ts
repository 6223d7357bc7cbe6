/** The bitmaps extension, when an image is opened. */

import { Field, Structure } from '../abi/failure';
import { Status } from '../abi/status';
import { isAligned } from '../base/align';
import { loadU32, loadU64 } from '../base/bytes';
import { refuse } from '../base/refuse';
import {
  BITMAP_HEADER_SIZE,
  BITMAPS_EXTENSION_LENGTH,
  BitmapsExtension,
  MAXIMUM_BITMAP_DIRECTORY_LENGTH,
  MAXIMUM_BITMAPS,
} from '../format/bitmap-directory';
import { AUTOCLEAR_BITMAPS } from '../format/features';
import { Image } from '../image/image';

/**
 * Takes what the extension in the page says. Without autoclear bit 0 it says nothing, as in QEMU: who changed the image
 * without knowing bitmaps may have given their clusters to somebody else. Corrupt, and there are no bitmaps, when it
 * makes no sense.
 */
export function readBitmaps(image: Image): Status {
  const state = image.bitmaps;
  const info = image.info;
  const address: usize = state.extensionAddress;
  state.count = 0;
  state.directoryOffset = 0;
  state.directoryLength = 0;
  info.hasBitmaps = 0;
  if (address === 0) return Status.Ok;
  if (state.extensionLength !== BITMAPS_EXTENSION_LENGTH) {
    return refuseField(image, Field.ExtensionLength, state.extensionLength, BITMAPS_EXTENSION_LENGTH);
  }
  if ((info.autoclearFeatures & AUTOCLEAR_BITMAPS) === 0) {
    info.hasBitmaps = 2;
    return Status.Ok;
  }
  const count = loadU32(address + BitmapsExtension.Count);
  const offset = loadU64(address + BitmapsExtension.DirectoryOffset);
  const length = loadU64(address + BitmapsExtension.DirectoryLength);
  if (count === 0 || count > MAXIMUM_BITMAPS) return refuseField(image, Field.BitmapCount, count, MAXIMUM_BITMAPS);
  if (length < u64(count) * BITMAP_HEADER_SIZE || length > MAXIMUM_BITMAP_DIRECTORY_LENGTH) {
    return refuseField(image, Field.Length, length, MAXIMUM_BITMAP_DIRECTORY_LENGTH);
  }
  const clusterSize = u64(image.geometry.clusterSize);
  const inside = offset < info.fileLength && length <= info.fileLength - offset;
  if (offset < clusterSize || !isAligned(offset, clusterSize) || !inside) {
    return refuseField(image, Field.Offset, offset, info.fileLength);
  }
  info.hasBitmaps = 1;
  state.count = count;
  state.directoryOffset = offset;
  state.directoryLength = length;
  return Status.Ok;
}

function refuseField(image: Image, field: Field, found: u64, limit: u64): Status {
  const at = u64(image.bitmaps.extensionAddress) - u64(image.page);
  return refuse(image.failure, Status.Corrupt, Structure.HeaderExtension, field, at, found, limit);
}
