/**
 * An image as a Linux block device, `/dev/ublkbN`.
 *
 * The control plane is here, on the caller's thread; the data plane is a worker (ublk-worker.ts). Order of a life: the
 * worker opens the image; ADD_DEV, SET_PARAMS; the worker fetches with every tag; START_DEV, which serves I/O before it
 * returns. And of its end: STOP_DEV; the worker sees its tags come back, flushes and closes the image; DEL_DEV.
 */
import { readdir } from 'node:fs/promises';
import { CorralError } from '../errors.js';
import type { ImageFacts } from '../image-facts.js';
import type { Addon, UblkInfo, UblkParameters } from './addon.js';
import { requireAddon } from './addon.js';
import type { MayOpen } from './may-open.js';
import { blockNode, describe, FEATURE_IOCTL_ENCODE, isGone, requireUblk } from './ublk-errors.js';
import { ServingThread } from './ublk-thread.js';

const DEFAULT_QUEUE_DEPTH = 128;
const DEFAULT_MAX_IO_BYTES = 512 * 1024;
const DEFAULT_CACHE_SIZE = 4 * 1024 * 1024;
const DEFAULT_HELPER_JOBS = 8;
const MAXIMUM_HELPER_JOBS = 64;
/** The core has one request slot more than the queue has tags, and at most 4096. */
const MAXIMUM_QUEUE_DEPTH = 4095;

const LOGICAL_BLOCK_SIZE = 512;
const PHYSICAL_BLOCK_SIZE = 4096;

export interface UblkDeviceOptions {
  /** Default: reading and writing. */
  readOnly?: boolean;
  /** N of `/dev/ublkbN`; the driver chooses when it is left out. */
  id?: number;
  /** Requests at once, 1 to 4095, default 128. */
  queueDepth?: number;
  /** Bytes of the largest request, a multiple of 4096 up to 32 MiB, default 512 KiB. */
  maxIoBytes?: number;
  /** Bytes of the metadata cache, default 4 MiB. */
  cacheSize?: number;
  /**
   * Clusters that are decompressed, or stretches that are read from behind the image, at once: 1 to 64, default 8. Each
   * holds memory for a cluster or request; images that need none hold none.
   */
  helperJobs?: number;
  /** Files that may be opened because the image names them, backing and data files: these paths, or `any`. Default: none. */
  mayOpen?: MayOpen;
  /** Backing files stay closed, whatever `mayOpen` says: an image that has one is refused. */
  noBacking?: boolean;
}

/** A device of this machine, whoever serves it. */
export interface UblkListEntry extends UblkInfo {
  node: string;
  parameters: Required<UblkParameters>;
}

export class UblkDevice {
  /** Path of the block device. */
  readonly node: string;
  /**
   * Ends when the device is gone and the image is closed, whoever stopped it; rejects with a CorralError when something
   * went wrong on the way, above all when the last flush failed.
   */
  readonly closed: Promise<void>;
  private stopping: Promise<void> | undefined;

  /** @internal */
  constructor(
    readonly id: number,
    /** Facts of the image's header when it was opened. */
    readonly info: ImageFacts,
    readonly readOnly: boolean,
    private readonly addon: Addon,
    thread: ServingThread,
  ) {
    this.node = blockNode(id);
    this.closed = thread.ended.finally(() => removeDevice(addon, id)).finally(() => thread.release());
    // Whoever does not ask is not to be ended by an unhandled rejection: stop() tells as well.
    this.closed.catch(() => {});
  }

  /**
   * Removes the device. Requests under way are answered first, everything answered is made durable, and the image is
   * closed. Rejects with the CorralError of whatever failed.
   */
  stop(): Promise<void> {
    this.stopping ??= stopDevice(this.addon, this.id).then(() => this.closed);
    return this.stopping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/**
 * Makes a block device of the image at `path`.
 *
 * @throws CorralError of opening the image; ERR_ADDON_MISSING; ERR_NO_UBLK when the kernel has no ublk driver;
 * ERR_PERMISSION; ERR_EXISTS when the wanted id is taken; ERR_IO
 */
export async function createUblkDevice(path: string, options: UblkDeviceOptions = {}): Promise<UblkDevice> {
  const addon = requireAddon();
  const { queueDepth, maxIoBytes, helperJobs } = checkOptions(options);
  await requireUblk(addon);

  const thread = new ServingThread(addon, {
    path,
    readOnly: options.readOnly ?? false,
    queueDepth,
    cacheSize: options.cacheSize ?? DEFAULT_CACHE_SIZE,
    helperJobs,
    mayOpen: options.mayOpen,
    noBacking: options.noBacking ?? false,
  });
  let id: number | undefined;
  try {
    const facts = await thread.opened;
    const device = await addon.ublk
      .addDevice({ id: options.id, queueDepth, maxIoBytes, flags: FEATURE_IOCTL_ENCODE })
      .catch((error) => Promise.reject(describe(error, options.id)));
    id = device.id;
    const deviceSize = facts.virtualSize - (facts.virtualSize % LOGICAL_BLOCK_SIZE);
    await addon.ublk.setParameters(id, {
      size: deviceSize,
      maxIoBytes: device.maxIoBytes,
      readOnly: options.readOnly ?? false,
      logicalBlockSize: LOGICAL_BLOCK_SIZE,
      physicalBlockSize: PHYSICAL_BLOCK_SIZE,
      ioMin: PHYSICAL_BLOCK_SIZE,
      ioOpt: Math.max(facts.clusterSize, PHYSICAL_BLOCK_SIZE),
      // Only whole clusters are ever freed.
      discardGranularity: options.readOnly ? 0 : Math.max(facts.clusterSize, LOGICAL_BLOCK_SIZE),
    });
    thread.order({
      type: 'attach',
      deviceId: id,
      queueDepth: device.queueDepth,
      maxIoBytes: device.maxIoBytes,
      deviceSize,
    });
    await thread.attached;
    await Promise.race([addon.ublk.startDevice(id, process.pid), thread.failure]);
    return new UblkDevice(id, facts, options.readOnly ?? false, addon, thread);
  } catch (error) {
    await abandon(addon, thread, id);
    throw describe(error, id);
  }
}

/**
 * Removes any device of this machine; its server flushes and closes the image.
 *
 * @throws CorralError ERR_NOT_FOUND, ERR_PERMISSION, ERR_NO_UBLK, ERR_IO
 */
export async function detachUblkDevice(id: number): Promise<void> {
  const addon = requireAddon();
  await requireUblk(addon);
  await stopDevice(addon, id);
  await removeDevice(addon, id);
}

/**
 * The ublk devices of this machine, by id.
 *
 * @throws CorralError ERR_NO_UBLK, ERR_PERMISSION, ERR_IO
 */
export async function listUblkDevices(): Promise<UblkListEntry[]> {
  const addon = requireAddon();
  await requireUblk(addon);
  const names = await readdir('/sys/class/ublk-char').catch(() => []);
  const ids = names.flatMap((name) => /^ublkc(\d+)$/.exec(name)?.slice(1).map(Number) ?? []).sort((a, b) => a - b);
  const entries: UblkListEntry[] = [];
  for (const id of ids) {
    try {
      const [info, parameters] = [await addon.ublk.getInfo(id), await addon.ublk.getParameters(id)];
      entries.push({ ...info, node: blockNode(id), parameters });
    } catch (error) {
      if (!isGone(error)) throw describe(error, id);
    }
  }
  return entries;
}

/** Takes back what was made of a device that did not come to life. */
async function abandon(addon: Addon, thread: ServingThread, id: number | undefined): Promise<void> {
  thread.order({ type: 'close' });
  if (id !== undefined) await stopDevice(addon, id).catch(() => {});
  await thread.ended.catch(() => {});
  if (id !== undefined) await removeDevice(addon, id).catch(() => {});
  thread.release();
}

async function stopDevice(addon: Addon, id: number): Promise<void> {
  await addon.ublk.stopDevice(id).catch((error) => {
    throw describe(error, id);
  });
}

/** Somebody else may have been faster. */
async function removeDevice(addon: Addon, id: number): Promise<void> {
  await addon.ublk.stopDevice(id).catch(() => {});
  await addon.ublk.deleteDevice(id).catch((error) => {
    if (!isGone(error)) throw describe(error, id);
  });
}

type CheckedOptions = Required<Pick<UblkDeviceOptions, 'queueDepth' | 'maxIoBytes' | 'helperJobs'>>;

function checkOptions(options: UblkDeviceOptions): CheckedOptions {
  const { queueDepth = DEFAULT_QUEUE_DEPTH, maxIoBytes = DEFAULT_MAX_IO_BYTES } = options;
  const { helperJobs = DEFAULT_HELPER_JOBS } = options;
  if (!Number.isInteger(queueDepth) || queueDepth < 1 || queueDepth > MAXIMUM_QUEUE_DEPTH) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: `The queue depth must be from 1 to ${MAXIMUM_QUEUE_DEPTH}`,
    });
  }
  if (!Number.isInteger(maxIoBytes) || maxIoBytes < 4096 || maxIoBytes > 32 << 20 || maxIoBytes % 4096 !== 0) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: 'The largest request must be a multiple of 4096 bytes from 4 KiB to 32 MiB',
    });
  }
  if (!Number.isInteger(helperJobs) || helperJobs < 1 || helperJobs > MAXIMUM_HELPER_JOBS) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: `The helper's jobs at once must be from 1 to ${MAXIMUM_HELPER_JOBS}`,
    });
  }
  return { queueDepth, maxIoBytes, helperJobs };
}
