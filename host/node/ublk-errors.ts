/** What the ublk driver refuses, in words. */
import { CorralError } from '../errors.js';
import type { Addon } from './addon.js';
import { isSystemError } from './addon.js';

/** UBLK_F_CMD_IOCTL_ENCODE: the command numbers that this program speaks. */
export const FEATURE_IOCTL_ENCODE = 1 << 6;

/** @throws CorralError ERR_NO_UBLK or ERR_PERMISSION that says what is missing and what to do */
export async function requireUblk(addon: Addon): Promise<void> {
  const features = await addon.ublk.getFeatures().catch((error: unknown) => {
    if (!isSystemError(error)) throw error;
    if (error.operation === 'open /dev/ublk-control' && ['ENOENT', 'ENODEV', 'ENXIO'].includes(error.code)) {
      throw new CorralError('ERR_NO_UBLK', {
        reason: 'This kernel offers no ublk devices: load the module with: modprobe ublk_drv',
        cause: error,
      });
    }
    if (error.operation === 'io_uring_setup') {
      throw new CorralError('ERR_NO_UBLK', { reason: `io_uring cannot be used: ${error.message}`, cause: error });
    }
    if (['EACCES', 'EPERM'].includes(error.code)) throw describe(error, undefined);
    throw new CorralError('ERR_NO_UBLK', {
      reason: 'The ublk driver is too old: Linux 6.5 or newer is needed',
      cause: error,
    });
  });
  if ((features & FEATURE_IOCTL_ENCODE) === 0) {
    throw new CorralError('ERR_NO_UBLK', { reason: 'The ublk driver is too old: it has no ioctl-encoded commands' });
  }
}

/** An error of the control plane in the library's words; others pass. */
export function describe(error: unknown, id: number | undefined): unknown {
  if (!isSystemError(error)) return error;
  const details = { ...(id === undefined ? {} : { path: blockNode(id) }), operation: error.operation, cause: error };
  switch (error.code) {
    case 'EACCES':
    case 'EPERM':
      return new CorralError('ERR_PERMISSION', {
        ...details,
        reason: 'Managing ublk devices is not permitted: run it as root',
      });
    case 'ENOENT':
    case 'ENODEV':
      return new CorralError('ERR_NOT_FOUND', { ...details, reason: 'No such ublk device' });
    case 'EEXIST':
      return new CorralError('ERR_EXISTS', { ...details, reason: 'A ublk device with this number exists already' });
    case 'ENOSPC':
    case 'EUSERS':
      return new CorralError('ERR_NO_SPACE', { ...details, reason: 'The kernel allows no more ublk devices' });
    default:
      return new CorralError('ERR_IO', { ...details, reason: error.message });
  }
}

export function isGone(error: unknown): boolean {
  return isSystemError(error) && ['ENOENT', 'ENODEV', 'EINVAL'].includes(error.code);
}

export function blockNode(id: number): string {
  return `/dev/ublkb${id}`;
}
