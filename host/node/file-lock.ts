/**
 * Locks on image files that QEMU understands, so that QEMU and this program keep each other out.
 *
 * A file's users say with shared locks on single bytes what they do (byte 100 + i) and what they bear no other user to do
 * (byte 200 + i). Whoever comes locks its own bytes first and then looks whether somebody else's contradict; of two
 * who come at once at least one sees the other. The locks belong to the open file: they end when it is closed.
 */
import { CorralError } from '../errors.js';
import type { Addon } from './addon.js';
import { findAddon, isSystemError } from './addon.js';

/** What a user of a file may do, as in QEMU's block layer; the value is the offset of its byte. */
enum Permission {
  /** Reads, and relies on what it read. */
  ConsistentRead = 0,
  Write = 1,
  Resize = 3,
}

/** First byte of the permissions that are used. */
const HELD = 100;

/** First byte of the permissions that others are refused. */
const REFUSED = 200;

/** Bytes of each of the two ranges that QEMU knows. */
const RANGE_LENGTH = 4;

/** Errnos of file systems that have no locks. */
const NO_LOCKS = ['ENOSYS', 'EOPNOTSUPP', 'ENOTTY', 'EINVAL'];

/**
 * Says that the open file `descriptor` is used as an image, for reading or for writing. Readers tolerate readers, nobody
 * tolerates a writer. Does nothing where the addon is missing or the file system has no locks.
 *
 * @throws CorralError ERR_LOCKED when somebody uses the file in a way that contradicts; nothing stays locked then
 */
export function lockImage(descriptor: number, options: { write: boolean; path?: string }): void {
  const addon = findAddon();
  if (addon === undefined) return;

  const held = [Permission.ConsistentRead, ...(options.write ? [Permission.Write, Permission.Resize] : [])];
  const refused = [Permission.Write, Permission.Resize];
  try {
    for (const permission of held) addon.shareLock(descriptor, HELD + permission, 1);
    for (const permission of refused) addon.shareLock(descriptor, REFUSED + permission, 1);
    const free =
      held.every((permission) => !addon.isLockedByOthers(descriptor, REFUSED + permission, 1)) &&
      refused.every((permission) => !addon.isLockedByOthers(descriptor, HELD + permission, 1));
    if (free) return;
  } catch (error) {
    unlock(addon, descriptor);
    if (!isSystemError(error)) throw error;
    if (NO_LOCKS.includes(error.code)) return;
    if (error.code !== 'EAGAIN') throw new CorralError('ERR_IO', { ...describe(options), reason: error.message });
    throw locked(options);
  }
  unlock(addon, descriptor);
  throw locked(options);
}

/** Takes back what `lockImage` said, ahead of closing the file. */
export function unlockImage(descriptor: number): void {
  const addon = findAddon();
  if (addon !== undefined) unlock(addon, descriptor);
}

function unlock(addon: Addon, descriptor: number): void {
  try {
    addon.releaseLock(descriptor, HELD, RANGE_LENGTH);
    addon.releaseLock(descriptor, REFUSED, RANGE_LENGTH);
  } catch {
    // Closing the file releases what is left.
  }
}

function locked(options: { write: boolean; path?: string }): CorralError {
  return new CorralError('ERR_LOCKED', {
    ...describe(options),
    reason: options.write ? 'Another process is using the image' : 'Another process is writing to the image',
  });
}

function describe({ path }: { path?: string }): { path?: string } {
  return path === undefined ? {} : { path };
}
