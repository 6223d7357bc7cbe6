/** A queue of a ublk device gets its serving thread. */
import { CorralError } from '../errors.js';
import { DataPath, isSystemError, type Ring } from './addon.js';
import { adviceFor } from './errno.js';
import type { UblkOrder } from './ublk-messages.js';

const PATHS = {
  'zero-copy': DataPath.ZeroCopy,
  registered: DataPath.ZeroCopy,
  'user-copy': DataPath.UserCopy,
  plain: DataPath.Plain,
} as const;

/**
 * Fetches with every tag, on the ring's thread. Tag n is request slot firstSlot + n. Returns the descriptor of the char
 * device.
 *
 * @param device that of the first queue, for all others
 * @throws CorralError that names device and queue
 */
export function attachQueue(
  ring: Ring,
  { deviceId, queueDepth, maxIoBytes, deviceSize, unmap, durable, dataPath, pinned }: UblkOrder & { type: 'attach' },
  queue: number,
  firstSlot: number,
  device?: number,
): number {
  try {
    return ring.attachQueue({
      device,
      deviceId,
      queueId: queue,
      depth: queueDepth,
      firstSlot,
      maxIoBytes,
      deviceSize,
      unmap,
      durable,
      path: PATHS[dataPath],
      autoBuffers: dataPath === 'zero-copy',
      pinned,
    });
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const { operation, errno, code, message } = error;
    const reason = `Queue ${queue} cannot be served: ${adviceFor(code, message)}`;
    throw new CorralError('ERR_IO', { device: deviceId, queue, operation, errno, reason, cause: error });
  }
}
