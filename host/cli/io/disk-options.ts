/** How a disk is opened, as the options of the program and of its commands say. */

import { CommandError } from '../output.js';

const CACHE_MODES = ['none', 'off', 'directsync', 'writeback', 'unsafe', 'writethrough'] as const;
/** How writes reach the medium. */
export type CacheMode = (typeof CACHE_MODES)[number];

export interface DiskOptions {
  readonly write: boolean;
  /** Found out when undefined. */
  readonly format: string | undefined;
  /** Also when somebody else writes to it. */
  readonly forceShare: boolean;
  readonly cache: CacheMode;
  /** Discards are carried out. */
  readonly discard: boolean;
}

export const DEFAULT_DISK_OPTIONS: DiskOptions = {
  write: true,
  format: undefined,
  forceShare: false,
  cache: 'writeback',
  discard: true,
};

/** Throws CommandError. */
export function cacheArgument(text: string): CacheMode {
  const mode = CACHE_MODES.find((name) => name === text);
  if (mode === undefined) throw new CommandError(`Invalid cache option: ${text}`);
  return mode;
}

/** Throws CommandError. */
export function discardArgument(text: string): boolean {
  if (text === 'unmap' || text === 'on') return true;
  if (text === 'ignore' || text === 'off') return false;
  throw new CommandError(`Invalid discard option: ${text}`);
}
