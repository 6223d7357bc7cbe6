/** An image as a block device for as long as the process is not asked to stop. */

import { CorralError } from '../errors.js';
import { createUblkDevice, type UblkDevice } from '../node/ublk-device.js';
import { whyNoUblk } from './devices.js';
import { cannotOpen, openFile } from './open.js';
import { CommandError, reasonOf } from './output.js';
import type { StopSignal } from './signals.js';

export interface DeviceOptions {
  readOnly?: boolean;
  /** Bytes. */
  cacheSize?: number;
  queueDepth?: number;
  /** `--no-backing`: false keeps backing files closed. */
  backing?: boolean;
}

/**
 * Makes the device, reports it, and ends when it is gone: because of a signal, or because somebody else removed it.
 * Throws `CommandError`.
 */
export async function serveDevice(
  path: string,
  options: DeviceOptions,
  { signal }: StopSignal,
  onReady: (device: UblkDevice) => void,
): Promise<void> {
  const device = await makeDevice(path, options);
  const stopped = new Promise<void>((resolve, reject) => {
    const stop = (): void => void device.stop().then(resolve, reject);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  try {
    if (!signal.aborted) onReady(device);
  } catch (error) {
    // Nobody has heard of the device.
    await device.stop();
    throw error;
  }
  try {
    // When both of us remove it, only one finds it there.
    await Promise.race([
      device.closed,
      stopped.catch((error) => (isMissing(error) ? device.closed : Promise.reject(error))),
    ]);
  } catch (error) {
    throw new CommandError(`${device.node} ('${path}'): ${reasonOf(error)}`, 1, { cause: error });
  }
}

async function makeDevice(path: string, options: DeviceOptions): Promise<UblkDevice> {
  const write = options.readOnly !== true;
  // What is wrong with the file is told on a machine without ublk, too.
  await (await openFile(path, { write, mayReadOnly: true })).close();
  const obstacle = await whyNoUblk();
  if (obstacle !== undefined) throw new CommandError(`Cannot attach '${path}': ${obstacle}`);
  try {
    // As everywhere on the command line, an image may name any file.
    const { backing, ...rest } = options;
    return await createUblkDevice(path, { ...rest, mayOpen: 'any', noBacking: backing === false });
  } catch (error) {
    if (error instanceof CorralError && 'operation' in error.details) {
      throw new CommandError(`Cannot attach '${path}': ${reasonOf(error)}`, 1, { cause: error });
    }
    throw cannotOpen(path, error, { write, mayReadOnly: true });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof CorralError && error.code === 'ERR_NOT_FOUND';
}
