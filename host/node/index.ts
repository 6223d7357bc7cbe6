/** The library on Node: everything portable, and files by path. */

import { isDirect } from '../cache-mode.js';
import type { CreateImageOptions } from '../create-image.js';
import { Image } from '../image.js';
import type { OpenOptions } from '../open-options.js';
import { loadCore } from './core.js';
import { nodeCodec } from './node-codec.js';
import { NodeFile } from './node-file.js';

export * from '../index.js';
export { loadCore } from './core.js';
export { NodeFile, type NodeFileOptions } from './node-file.js';
export { type PathGateOptions, pathGate } from './path-gate.js';
export { checkDevice, type UblkPlan } from './ublk-check.js';
export { detachUblkDevice, listUblkDevices, type UblkListEntry } from './ublk-control.js';
export { createDevice, type StopOptions, UblkDevice, type UblkState } from './ublk-device.js';
export type { UblkEvent } from './ublk-events.js';
export type { ChosenFeatures, UblkRecovery } from './ublk-features.js';
export type { UblkDeviceOptions } from './ublk-options.js';
export { findWaitingDevices, recoverDevice } from './ublk-recover.js';

/** `lock: false` leaves QEMU's image locks alone. */
export type NodeOpenOptions = Partial<OpenOptions> & { lock?: boolean };

/**
 * As `Image.open`, for a path. With `cache` none or directsync the image is opened past the page cache, and this rejects
 * with ERR_UNSUPPORTED where the file system cannot do that; other files are the gate's and the caller's.
 */
export async function openImage(path: string, options: NodeOpenOptions = {}): Promise<Image> {
  const file = await NodeFile.open(path, { write: options.write, lock: options.lock, direct: isDirect(options.cache) });
  try {
    return await Image.open(file, { core: loadCore(), codec: nodeCodec, ...options });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** As `Image.create`, for a path. The file must not exist unless `overwrite`. */
export async function createImage(
  path: string,
  options: Omit<CreateImageOptions, 'core'> & { core?: WebAssembly.Module; overwrite?: boolean },
): Promise<void> {
  const file = await NodeFile.open(path, { create: true, overwrite: options.overwrite });
  try {
    await Image.create(file, { core: loadCore(), ...options });
  } finally {
    await file.close();
  }
}
