/** Giving back what a failed task owns on behalf of everybody. */

import { Status } from '../abi/status';
import { abandonMarks } from './bitmap-track';
import { abandonGrowth } from './grow-refcounts';
import { abandonHeaderSector } from './header-sector';
import { Image } from './image';
import { abandonL2Table } from './l2-table';
import { Task } from './task';

/**
 * Ends the ownership of header sector, growth, the marks of bitmaps, and the table that is being made. Miss while a
 * refcount is being loaded: call again.
 */
export function abandonOwnership(image: Image, task: Task): Status {
  abandonHeaderSector(image, task);
  if (image.growthOwner === task) abandonGrowth(image);
  abandonMarks(image, task);
  return image.tableOwner === task ? abandonL2Table(image, task) : Status.Ok;
}
