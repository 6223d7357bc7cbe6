/** What the ublk driver can do, by the bits of its answer to GET_FEATURES, and what of it a device uses. */
import { CorralError } from '../errors.js';

/** UBLK_F bits that mean something here. Numbers and not an enum of bits: the answer has more than 32. */
export const UblkFeature = {
  UserRecovery: 2 ** 3,
  UserRecoveryReissue: 2 ** 4,
  /** The command numbers that this program speaks. */
  CommandIoctlEncode: 2 ** 6,
  /** The capacity may change while the device lives. */
  UpdateSize: 2 ** 10,
} as const;

/** All that drivers up to Linux 7.2 know, by the number of the bit. */
const NAMES = [
  'zero-copy',
  'completion-in-task',
  'need-get-data',
  'user-recovery',
  'user-recovery-reissue',
  'unprivileged',
  'ioctl-encoded',
  'user-copy',
  'zoned',
  'user-recovery-fail-io',
  'update-size',
  'auto-buffer-registration',
  'quiesce',
  'per-io-daemon',
  'buffer-registration-off-daemon',
  'batch-io',
];

/**
 * What becomes of a device whose server dies:
 * - `off`: it goes away, and all its I/O fails.
 * - `fail`: it waits for a new server. What the dead one had in hand fails, everything else waits.
 * - `reissue`: as that, but what the dead one had in hand is asked of the new one: nobody sees an error.
 */
export type UblkRecovery = 'off' | 'fail' | 'reissue';

/** What a device uses of its driver. */
export interface ChosenFeatures {
  /** UBLK_F bits for ADD_DEV. */
  readonly flags: number;
  /** How guest bytes get here and back: the driver copies them between its pages and a buffer of each tag. */
  readonly dataPath: 'plain';
  readonly recovery: UblkRecovery;
  /** The device's capacity can follow the disk's. */
  readonly updateSize: boolean;
}

/** The names of these bits; those of bits that have none are their numbers. */
export function featureNames(features: number): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 53; bit++) {
    if (hasFeature(features, 2 ** bit)) names.push(NAMES[bit] ?? `bit-${bit}`);
  }
  return names;
}

/** @throws CorralError ERR_NO_UBLK when the driver lacks what no device can do without, ERR_UNSUPPORTED when what was wanted */
export function chooseFeatures(features: number, recovery: UblkRecovery): ChosenFeatures {
  if (!hasFeature(features, UblkFeature.CommandIoctlEncode)) {
    throw new CorralError('ERR_NO_UBLK', { reason: 'The ublk driver is too old: it has no ioctl-encoded commands' });
  }
  let flags: number = UblkFeature.CommandIoctlEncode;
  for (const needed of recoveryBits(recovery)) {
    if (!hasFeature(features, needed)) {
      throw new CorralError('ERR_UNSUPPORTED', {
        reason: `This kernel's ublk driver cannot recover devices in the way '${recovery}'`,
      });
    }
    flags += needed;
  }
  const updateSize = hasFeature(features, UblkFeature.UpdateSize);
  if (updateSize) flags += UblkFeature.UpdateSize;
  return { flags, dataPath: 'plain', recovery, updateSize };
}

/** What a device that exists was made with. */
export function featuresOf(flags: number): ChosenFeatures {
  const reissues = hasFeature(flags, UblkFeature.UserRecoveryReissue);
  const recovers = hasFeature(flags, UblkFeature.UserRecovery);
  return {
    flags,
    dataPath: 'plain',
    recovery: reissues ? 'reissue' : recovers ? 'fail' : 'off',
    updateSize: hasFeature(flags, UblkFeature.UpdateSize),
  };
}

function recoveryBits(recovery: UblkRecovery): number[] {
  if (recovery === 'off') return [];
  return recovery === 'fail' ? [UblkFeature.UserRecovery] : [UblkFeature.UserRecovery, UblkFeature.UserRecoveryReissue];
}

function hasFeature(features: number, bit: number): boolean {
  return Math.floor(features / bit) % 2 === 1;
}
