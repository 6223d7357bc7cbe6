/** The image of a block device as the command line names it: what of the options of its nodes a device can have. */

import { cacheSizeOf } from '../cache-size.js';
import type { UblkDeviceOptions } from '../node/ublk-options.js';
import { type NameOptions, readImageName } from './image-name.js';
import { cacheModeOf } from './node-options.js';
import { CommandError } from './output.js';

/** An image, and what was said of it alone. */
export interface DeviceName {
  readonly path: string;
  readonly options: UblkDeviceOptions;
}

/**
 * Reads a name; what it says goes before the options that all devices of the command line have. Throws `CommandError`, also
 * for what a device cannot do.
 */
export function readDeviceName(text: string, naming: NameOptions, common: UblkDeviceOptions): DeviceName {
  const { path, locked, format, window, generic, settings, backing, dataFile, faults } = readImageName(text, naming);
  const refuse = (reason: string): never => {
    throw new CommandError(`Cannot attach '${text}': ${reason}`);
  };
  if (window !== undefined) refuse('a part of a file is not attached');
  if (faults !== undefined) refuse('a device has no error injector');
  if (backing !== undefined) refuse('a device continues from what the image names, and from nothing else');
  if (dataFile !== undefined) refuse('a device has the data file that the image names');
  if (!locked || generic.forceShare) refuse('a device is always locked');
  const { lazyRefcounts, discardNoUnref, passDiscard, overlapCheck, l2CacheEntrySize, ...sizes } = settings;
  if (l2CacheEntrySize !== undefined) refuse('the entries of its cache have one size');
  const cacheSize = Object.keys(sizes).length === 0 ? undefined : cacheSizeOf(sizes);
  const { discard, readOnly } = generic;
  const said: UblkDeviceOptions = {
    format,
    readOnly: readOnly || undefined,
    discard: discard === undefined ? undefined : discard ? 'unmap' : 'ignore',
    cache: cacheModeOf(generic, common.cache),
    cacheSize,
    lazyRefcounts,
    discardNoUnref,
    passDiscard,
    overlapCheck,
  };
  const known = Object.entries(said).filter(([, value]) => value !== undefined);
  return { path, options: { ...common, ...Object.fromEntries(known) } };
}
