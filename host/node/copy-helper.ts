/** Copying bytes by the addon's threads, where it was built. */

import type { CopyHelper } from '../convert.js';
import type { Place } from '../copy-range.js';
import { type Addon, findAddon } from './addon.js';
import { NodeFile } from './node-file.js';

/** What helps `convert` here; undefined without the addon. */
export function copyHelper(): CopyHelper | undefined {
  const addon = findAddon();
  if (addon === undefined) return undefined;
  return {
    findData: (bytes, blockLength, places) => addon.findData(bytes, blockLength, places),
    copy: (from, to, length, how) => copy(addon, { from, to, length, ...how }),
  };
}

interface Copy {
  readonly from: Place;
  readonly to: Place;
  readonly length: number;
  readonly blockLength: number;
  readonly shares: boolean;
}

async function copy(addon: Addon, { from, to, length, blockLength, shares }: Copy): Promise<boolean> {
  const [source, target] = [descriptorOf(from), descriptorOf(to)];
  if (source === undefined || target === undefined) return false;
  return new Promise((resolve) => {
    const ended = (answer: number): void => resolve(answer === 0);
    addon.copyRange(source, from.offset, target, to.offset, length, blockLength, shares, ended);
  });
}

/** Of a file that takes any bytes at any place. */
function descriptorOf({ file }: Place): number | undefined {
  return file instanceof NodeFile && !file.isDirect ? file.descriptor : undefined;
}
