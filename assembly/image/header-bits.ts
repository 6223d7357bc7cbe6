/** Incompatible feature bits that change while an image is in use: dirty and corrupt (version 3 only). */

import { Status } from '../abi/status';
import { storeU64 } from '../base/bytes';
import { HeaderOffset } from '../format/header';
import { commitHeaderSector, needHeaderSector } from './header-sector';
import { Image } from './image';
import { Task } from './task';

/**
 * Sets and clears bits of the incompatible features in the header. Ok when that is durable, at once when nothing
 * changes; until then the task calls it again. Whoever clears a bit has made durable before what the bit warned of.
 */
export function changeFeatures(image: Image, task: Task, set: u64, clear: u64): Status {
  const features = (image.info.incompatibleFeatures & ~clear) | set;
  if (features === image.info.incompatibleFeatures || image.version < 3) return Status.Ok;
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU64(image.headerSector + HeaderOffset.IncompatibleFeatures, features);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  image.info.incompatibleFeatures = features;
  return Status.Ok;
}
