/** ADD_DEV with the best data path that the driver really has. */
import { statfs } from 'node:fs/promises';
import { CorralError } from '../errors.js';
import type { Addon, UblkInfo } from './addon.js';
import { isSystemError } from './addon.js';
import { removeDevice } from './ublk-control.js';
import { type ChosenFeatures, choosePaths, isGranted, noPath, type UblkDataPath, withPath } from './ublk-features.js';
import type { CheckedOptions } from './ublk-options.js';

/** Types of file systems that live in memory: tmpfs, ramfs. */
const IN_MEMORY: readonly number[] = [0x01021994, 0x858458f6];

/** With these the driver says that it cannot, or may not, do what the flags say. */
const REFUSALS: readonly string[] = ['EINVAL', 'EOPNOTSUPP', 'EPERM'];

/**
 * The data paths to try for an image, the best one first. Rejects as `choosePaths`.
 *
 * @param offered the driver's features
 */
export async function pathsFor(
  image: string,
  offered: number,
  { dataPath }: Pick<CheckedOptions, 'dataPath'>,
  unprivileged: boolean,
): Promise<UblkDataPath[]> {
  const type = await statfs(image).then(
    (status) => status.type,
    () => 0,
  );
  return choosePaths(offered, dataPath, { inMemory: IN_MEMORY.includes(type), unprivileged });
}

/**
 * Makes the char device; what is not granted is tried with the next data path.
 *
 * @param paths one at least
 * @throws SystemError of the driver; CorralError ERR_UNSUPPORTED when no path was granted
 */
export async function addDevice(
  addon: Addon,
  { id, queues, queueDepth, maxIoBytes }: Pick<CheckedOptions, 'id' | 'queues' | 'queueDepth' | 'maxIoBytes'>,
  wanted: ChosenFeatures,
  paths: readonly UblkDataPath[],
  mark: number,
): Promise<{ granted: UblkInfo; features: ChosenFeatures }> {
  for (const [index, path] of paths.entries()) {
    const features = withPath(wanted, path);
    const last = index === paths.length - 1;
    try {
      const granted = await addon.ublk.addDevice({ id, queues, queueDepth, maxIoBytes, flags: features.flags, mark });
      if (granted.queues === queues && isGranted(granted.flags, path)) return { granted, features };
      await removeDevice(addon, granted.id);
      if (granted.queues !== queues) {
        throw new CorralError('ERR_UNSUPPORTED', {
          reason: `This kernel gives a device only ${granted.queues} queues`,
        });
      }
    } catch (error) {
      if (last || !isSystemError(error) || !REFUSALS.includes(error.code)) throw error;
    }
  }
  throw noPath(paths.at(-1) ?? 'plain');
}
