/** How a disk is opened, as the options of the program and of its commands say. */

import type { CacheMode } from '../../cache-mode.js';
import { cacheArgument } from '../arguments.js';
import { CommandError } from '../output.js';

export interface DiskOptions {
  readonly write: boolean;
  /** Also when somebody else writes to it. */
  readonly forceShare: boolean;
  readonly cache: CacheMode;
  /** Asked for the kernel's AIO, which only works past the page cache. */
  readonly native: boolean;
  /** Discards are carried out. */
  readonly discard: boolean;
  /** Writes go into a temporary file. */
  readonly snapshot: boolean;
  /** What is read from behind the image is kept in it. */
  readonly copyOnRead: boolean;
}

export const DEFAULT_DISK_OPTIONS: DiskOptions = {
  write: true,
  forceShare: false,
  cache: 'writeback',
  native: false,
  discard: true,
  snapshot: false,
  copyOnRead: false,
};

const AIO_MODES = ['threads', 'native', 'io_uring'];

/** The options with one more that the program and `open` share; others change nothing. Throws CommandError. */
export function withDiskOption(options: DiskOptions, letter: string, value: string): DiskOptions {
  switch (letter) {
    case 'r':
      return { ...options, write: false };
    case 's':
      return { ...options, snapshot: true };
    case 'C':
      return { ...options, copyOnRead: true };
    case 'U':
      return { ...options, forceShare: true };
    case 'n':
      return { ...options, cache: 'none' };
    case 't':
      return { ...options, cache: cacheArgument(value, 'cache') };
    case 'd':
      return { ...options, discard: discardArgument(value) };
    case 'i':
      if (!AIO_MODES.includes(value)) throw new CommandError(`Invalid aio option: ${value}`);
      return { ...options, native: value === 'native' };
    case 'k':
      return { ...options, native: true };
    default:
      return options;
  }
}

function discardArgument(text: string): boolean {
  if (text === 'unmap' || text === 'on') return true;
  if (text === 'ignore' || text === 'off') return false;
  throw new CommandError(`Invalid discard option: ${text}`);
}
