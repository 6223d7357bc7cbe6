/** What the ublk driver refuses, in words. */
import { CorralError } from '../errors.js';
import type { Addon } from './addon.js';
import { isSystemError } from './addon.js';
import { adviceFor } from './errno.js';
import { chooseFeatures } from './ublk-features.js';

/**
 * The driver's feature bits.
 *
 * @throws CorralError ERR_NO_UBLK or ERR_PERMISSION that says what is missing and what to do
 */
export async function requireUblk(addon: Addon): Promise<number> {
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
  chooseFeatures(features, 'off');
  return features;
}

/** An error of the control plane in the library's words; others pass. */
export function describe(error: unknown, id: number | undefined): unknown {
  if (!isSystemError(error)) return error;
  const { operation, errno } = error;
  const device = id === undefined ? {} : { path: blockNode(id), device: id };
  const details = { ...device, operation, errno, cause: error };
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
      return new CorralError('ERR_NO_SPACE', {
        ...details,
        reason: 'The kernel allows no more ublk devices: end one, or raise the parameter ublks_max of ublk_drv',
      });
    case 'EBUSY':
      return new CorralError('ERR_LOCKED', { ...details, reason: 'Another process is serving this ublk device' });
    default:
      return new CorralError('ERR_IO', { ...details, reason: adviceFor(error.code, error.message) });
  }
}

export function isGone(error: unknown): boolean {
  return isSystemError(error) && ['ENOENT', 'ENODEV', 'EINVAL'].includes(error.code);
}

export function blockNode(id: number): string {
  return `/dev/ublkb${id}`;
}
