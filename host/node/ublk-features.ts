/** What the ublk driver can do, by the bits of its answer to GET_FEATURES, and what of it a device uses. */
import { CorralError } from '../errors.js';

/** UBLK_F bits that mean something here. Numbers and not an enum of bits: the answer has more than 32. */
export const UblkFeature = {
  /** Requests' pages can be put into a ring's table of buffers. */
  ZeroCopy: 2 ** 0,
  UserRecovery: 2 ** 3,
  UserRecoveryReissue: 2 ** 4,
  /** Made and controlled by whoever may open its nodes. */
  Unprivileged: 2 ** 5,
  /** The command numbers that this program speaks. */
  CommandIoctlEncode: 2 ** 6,
  /** The server moves bytes by reads and writes of the char device. */
  UserCopy: 2 ** 7,
  /** While a device waits for a server, its I/O fails and does not wait. */
  UserRecoveryFailIo: 2 ** 9,
  /** A server can give its device away without a failed request. */
  Quiesce: 2 ** 12,
  /** The capacity may change while the device lives. */
  UpdateSize: 2 ** 10,
  /** The driver puts pages into the table by itself. */
  AutoBuffers: 2 ** 11,
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
 * - `fail-all`: it waits for a new server, and until there is one all its I/O fails.
 * - `reissue`: as that, but what the dead one had in hand is asked of the new one: nobody sees an error.
 */
export const RECOVERIES = ['off', 'fail', 'fail-all', 'reissue'] as const;

export type UblkRecovery = (typeof RECOVERIES)[number];

/**
 * How guest bytes get here and back:
 * - `zero-copy`: not at all; the driver registers each request's pages with the ring, and files are read and written there.
 * - `registered`: as that, with a command of ours for each request.
 * - `user-copy`: the server copies them, by reads and writes of the char device.
 * - `plain`: the driver copies them between its pages and a buffer of each tag.
 *
 * What has to be in memory is copied in the first two, too: zeros, decompressed clusters, what lies behind the image.
 */
export type UblkDataPath = 'zero-copy' | 'registered' | 'user-copy' | 'plain';

export const DATA_PATHS: readonly UblkDataPath[] = ['zero-copy', 'registered', 'user-copy', 'plain'];

const PATH_BITS: Readonly<Record<UblkDataPath, number>> = {
  // What has to be in memory is copied as with user copy.
  'zero-copy': UblkFeature.ZeroCopy + UblkFeature.UserCopy + UblkFeature.AutoBuffers,
  registered: UblkFeature.ZeroCopy + UblkFeature.UserCopy,
  'user-copy': UblkFeature.UserCopy,
  plain: 0,
};

/** What a device uses of its driver. */
export interface ChosenFeatures {
  /** UBLK_F bits for ADD_DEV. */
  readonly flags: number;
  readonly dataPath: UblkDataPath;
  readonly recovery: UblkRecovery;
  /** The device's capacity can follow the disk's. */
  readonly updateSize: boolean;
  /** Another process can become its server without a failed request. */
  readonly handOver: boolean;
}

/** The names of these bits; those of bits that have none are their numbers. */
export function featureNames(features: number): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 53; bit++) {
    if (hasFeature(features, 2 ** bit)) names.push(NAMES[bit] ?? `bit-${bit}`);
  }
  return names;
}

/**
 * @param unprivileged by a user who is not the machine's administrator: the driver does not let such devices wait for a server
 * @throws CorralError ERR_NO_UBLK when the driver lacks what no device can do without, ERR_UNSUPPORTED when what was wanted
 */
export function chooseFeatures(features: number, recovery: UblkRecovery, unprivileged = false): ChosenFeatures {
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
  if (unprivileged) {
    if (!hasFeature(features, UblkFeature.Unprivileged)) {
      throw new CorralError('ERR_PERMISSION', {
        reason: "This kernel's ublk driver makes devices for root only: run it as root",
      });
    }
    if (recovery !== 'off') {
      throw new CorralError('ERR_UNSUPPORTED', { reason: 'Only the devices of root can wait for another server' });
    }
    flags += UblkFeature.Unprivileged;
  }
  const updateSize = hasFeature(features, UblkFeature.UpdateSize);
  if (updateSize) flags += UblkFeature.UpdateSize;
  const handOver = recovery !== 'off' && hasFeature(features, UblkFeature.Quiesce);
  if (handOver) flags += UblkFeature.Quiesce;
  return { flags, dataPath: 'plain', recovery, updateSize, handOver };
}

/**
 * The data paths to try, the best one first.
 *
 * @param wanted one of them, or `auto`
 * @param options.inMemory the image lies in a memory file system: each of its reads is a copy, which plain system calls do best
 * @param options.unprivileged the device is not root's: it gets the plain path only
 * @throws CorralError ERR_UNSUPPORTED when the driver does not have what is wanted
 */
export function choosePaths(
  features: number,
  wanted: UblkDataPath | 'auto',
  { inMemory = false, unprivileged = false }: { inMemory?: boolean; unprivileged?: boolean } = {},
): UblkDataPath[] {
  const offered = DATA_PATHS.filter((path) =>
    unprivileged ? path === 'plain' : hasFeatures(features, PATH_BITS[path]),
  );
  if (wanted === 'auto') return inMemory ? ['plain'] : offered;
  if (offered.includes(wanted)) return [wanted];
  throw noPath(wanted);
}

/** The same with this data path. */
export function withPath(chosen: ChosenFeatures, dataPath: UblkDataPath): ChosenFeatures {
  return { ...chosen, dataPath, flags: chosen.flags + PATH_BITS[dataPath] };
}

/** Drivers name features that they do not grant: Linux 6.12 does so with zero copy. */
export function isGranted(flags: number, dataPath: UblkDataPath): boolean {
  return hasFeatures(flags, PATH_BITS[dataPath]);
}

export function noPath(dataPath: UblkDataPath): CorralError {
  return new CorralError('ERR_UNSUPPORTED', {
    reason: `This kernel's ublk driver does not have the data path '${dataPath}'`,
  });
}

/** What a device that exists was made with. */
export function featuresOf(flags: number): ChosenFeatures {
  const reissues = hasFeature(flags, UblkFeature.UserRecoveryReissue);
  const failsAll = hasFeature(flags, UblkFeature.UserRecoveryFailIo);
  const recovers = hasFeature(flags, UblkFeature.UserRecovery);
  return {
    flags,
    dataPath: DATA_PATHS.find((path) => isGranted(flags, path)) as UblkDataPath,
    recovery: reissues ? 'reissue' : failsAll ? 'fail-all' : recovers ? 'fail' : 'off',
    updateSize: hasFeature(flags, UblkFeature.UpdateSize),
    handOver: hasFeature(flags, UblkFeature.Quiesce),
  };
}

function recoveryBits(recovery: UblkRecovery): number[] {
  const { UserRecovery, UserRecoveryReissue, UserRecoveryFailIo } = UblkFeature;
  switch (recovery) {
    case 'off':
      return [];
    case 'fail':
      return [UserRecovery];
    case 'fail-all':
      return [UserRecovery, UserRecoveryFailIo];
    case 'reissue':
      return [UserRecovery, UserRecoveryReissue];
  }
}

function hasFeatures(features: number, wanted: number): boolean {
  return [...Array(53).keys()].every((bit) => !hasFeature(wanted, 2 ** bit) || hasFeature(features, 2 ** bit));
}

function hasFeature(features: number, bit: number): boolean {
  return Math.floor(features / bit) % 2 === 1;
}
