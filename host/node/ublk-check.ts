/** Whether a device could be made here, without making anything. */
import { isDirect } from '../cache-mode.js';
import { Image } from '../image.js';
import type { ImageFacts } from '../image-facts.js';
import type { UblkParameters } from './addon.js';
import { requireAddon } from './addon.js';
import { loadCore } from './core.js';
import { type DiskFacts, imageDisk, rawDisk } from './disk-facts.js';
import { gateOf } from './may-open.js';
import { nodeCodec } from './node-codec.js';
import { NodeFile } from './node-file.js';
import { refuseOwnDevices } from './storage-stack.js';
import { pathsFor } from './ublk-add.js';
import { requireUblk } from './ublk-errors.js';
import { type ChosenFeatures, chooseFeatures, featureNames, withPath } from './ublk-features.js';
import { checkOptions, type UblkDeviceOptions } from './ublk-options.js';
import { deviceSizeOf, parametersOf } from './ublk-parameters.js';
import { isAdministrator } from './ublk-users.js';

/** What `createDevice` would do. */
export interface UblkPlan {
  readonly info: ImageFacts | undefined;
  readonly parameters: UblkParameters;
  readonly queueDepth: number;
  /** What the driver can do. */
  readonly offered: readonly string[];
  readonly features: ChosenFeatures;
}

/**
 * Checks options, driver, permissions and the image, and everything behind it, and changes nothing: an image that was not
 * closed cleanly stays so. Rejects as `createDevice` would.
 */
export async function checkDevice(path: string, options: UblkDeviceOptions = {}): Promise<UblkPlan> {
  const checked = checkOptions(options);
  const { readOnly, maxIoBytes, queueDepth } = checked;
  const direct = isDirect(checked.cache);
  const addon = requireAddon();
  const offered = await requireUblk(addon);
  const unprivileged = !(await isAdministrator());
  const chosen = chooseFeatures(offered, checked.recovery, unprivileged);
  const [dataPath = 'plain'] = await pathsFor(path, offered, checked, unprivileged);
  const features = withPath(chosen, dataPath);
  await refuseOwnDevices(addon, path);
  const file = await NodeFile.open(path, { write: !readOnly, direct });
  const planOf = (facts: DiskFacts): UblkPlan => {
    const parameters = parametersOf(facts, checked, { maxIoBytes }, deviceSizeOf(facts, checked));
    return { info: facts.image, parameters, queueDepth, offered: featureNames(offered), features };
  };
  if (checked.format === 'raw') {
    try {
      return planOf(rawDisk(await file.size()));
    } finally {
      await file.close();
    }
  }
  const gate = gateOf(checked.noBacking ? undefined : checked.mayOpen, { direct });
  const { discardNoUnref, overlapCheck } = checked;
  const read = { core: loadCore(), codec: nodeCodec, gate, tablesOnly: false, discardNoUnref, overlapCheck };
  const image = await Image.open(file, read).catch(async (error: unknown) => {
    await file.close();
    throw error;
  });
  try {
    return planOf(imageDisk(image.info));
  } finally {
    await image.close();
  }
}
