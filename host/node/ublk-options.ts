/** What may be said of a block device, checked before anything is made. */
import { availableParallelism } from 'node:os';
import type { CacheMode } from '../cache-mode.js';
import type { PassDiscard } from '../core-instance.js';
import { CorralError } from '../errors.js';
import { type OverlapCheckOption, overlapBits } from '../overlap-check.js';
import type { MayOpen } from './may-open.js';
import { DATA_PATHS, RECOVERIES, type UblkDataPath, type UblkRecovery } from './ublk-features.js';

const DEFAULT_QUEUE_DEPTH = 128;
const DEFAULT_MAX_IO_BYTES = 512 * 1024;
const DEFAULT_CACHE_SIZE = 4 * 1024 * 1024;
const DEFAULT_HELPER_JOBS = 8;
const MAXIMUM_HELPER_JOBS = 64;
const MAXIMUM_DEVICE_ID = 2 ** 20;
const MAXIMUM_QUEUE_DEPTH = 4096;
/** Request slots of the core, of which one is not the kernel's. */
const MAXIMUM_REQUESTS = 16_385;

export interface UblkDeviceOptions {
  /** Default: reading and writing. */
  readOnly?: boolean | undefined;
  /** Of the file: an image, or the disk itself as it is. Default: qcow2. */
  format?: 'qcow2' | 'raw' | undefined;
  /** Of a raw disk: writes that put an image's header into its first sector are refused. Default: true. */
  guard?: boolean | undefined;
  /** N of `/dev/ublkbN`; the driver chooses when it is left out. */
  id?: number | undefined;
  /** Requests at once in each queue, 1 to 4096, default 128. */
  queueDepth?: number | undefined;
  /**
   * Hardware queues of the block device, each served by a thread of its own, on one core: 1 to the machine's processors,
   * default 1.
   */
  queues?: number | undefined;
  /** Bytes of the largest request, a multiple of 4096 up to 32 MiB, default 512 KiB. */
  maxIoBytes?: number | undefined;
  /** Bytes of the metadata cache, default 4 MiB. */
  cacheSize?: number | undefined;
  /** Bytes of a logical block: 512, the default, or 4096, which the disk's size must be a multiple of. */
  blockSize?: number | undefined;
  /**
   * Clusters that are decompressed, or stretches that are read from behind the image, at once: 1 to 64, default 8. Each
   * holds memory for a cluster or request; images that need none hold none.
   */
  helperJobs?: number | undefined;
  /** Files that may be opened because the image names them, backing and data files: these paths, or `any`. Default: none. */
  mayOpen?: MayOpen | undefined;
  /** Backing files stay closed, whatever `mayOpen` says: an image that has one is refused. */
  noBacking?: boolean | undefined;
  /**
   * When writes are durable. With `writethrough` the device has no cache to flush: each change is durable when it is
   * answered. With `unsafe` flushes do nothing. With `none` and `directsync` the image, and what lies behind it, is open past
   * the page cache (ERR_UNSUPPORTED where the file system cannot do that). Default: writeback.
   */
  cache?: CacheMode | undefined;
  /** Whether the device offers discards; without them zeros keep their space, too. Default: unmap. */
  discard?: 'unmap' | 'ignore' | undefined;
  /** As of `Image.open`. */
  lazyRefcounts?: boolean | undefined;
  /** As of `Image.open`. */
  discardNoUnref?: boolean | undefined;
  /** As of `Image.open`. */
  passDiscard?: PassDiscard | undefined;
  /** As of `Image.open`. */
  overlapCheck?: OverlapCheckOption | undefined;
  /** What becomes of the device when this process dies. Default: off. */
  recovery?: UblkRecovery | undefined;
  /** How guest bytes get to the image and back. Default: auto, the best that the driver has for this image. */
  dataPath?: UblkDataPath | 'auto' | undefined;
}

type Defaulted =
  | 'readOnly'
  | 'format'
  | 'guard'
  | 'queueDepth'
  | 'queues'
  | 'maxIoBytes'
  | 'cacheSize'
  | 'blockSize'
  | 'helperJobs'
  | 'noBacking'
  | 'cache'
  | 'discard'
  | 'recovery'
  | 'dataPath';

/** Options of which those with a default are filled in. */
export type CheckedOptions = UblkDeviceOptions & { [Name in Defaulted]: NonNullable<UblkDeviceOptions[Name]> };

/** @throws CorralError ERR_INVALID_ARGUMENT, ERR_UNSUPPORTED */
export function checkOptions(options: UblkDeviceOptions): CheckedOptions {
  const checked: CheckedOptions = {
    ...options,
    readOnly: options.readOnly ?? false,
    format: options.format ?? 'qcow2',
    guard: options.guard ?? true,
    queueDepth: options.queueDepth ?? DEFAULT_QUEUE_DEPTH,
    queues: options.queues ?? 1,
    maxIoBytes: options.maxIoBytes ?? DEFAULT_MAX_IO_BYTES,
    cacheSize: options.cacheSize ?? DEFAULT_CACHE_SIZE,
    blockSize: options.blockSize ?? 512,
    helperJobs: options.helperJobs ?? DEFAULT_HELPER_JOBS,
    noBacking: options.noBacking ?? false,
    cache: options.cache ?? 'writeback',
    discard: options.discard ?? 'unmap',
    recovery: options.recovery ?? 'off',
    dataPath: options.dataPath ?? 'auto',
  };
  const { id, queueDepth, queues, maxIoBytes, blockSize, helperJobs, cache, recovery, discard, dataPath } = checked;
  refuseUnless(['qcow2', 'raw'].includes(checked.format), "The format must be 'qcow2' or 'raw'");
  refuseUnless(checked.format !== 'raw' || queues === 1, 'A raw disk has one queue');
  refuseUnless(
    id === undefined || inRange(id, 0, MAXIMUM_DEVICE_ID),
    `The device's number must be from 0 to ${MAXIMUM_DEVICE_ID}`,
  );
  refuseUnless(inRange(queueDepth, 1, MAXIMUM_QUEUE_DEPTH), `The queue depth must be from 1 to ${MAXIMUM_QUEUE_DEPTH}`);
  refuseUnless(
    inRange(queues, 1, availableParallelism()),
    `The number of queues must be from 1 to ${availableParallelism()}, the processors of this machine`,
  );
  refuseUnless(
    queues * queueDepth < MAXIMUM_REQUESTS,
    `All queues together must not hold more than ${MAXIMUM_REQUESTS - 1} requests`,
  );
  refuseUnless(
    inRange(maxIoBytes, 4096, 32 << 20) && maxIoBytes % 4096 === 0,
    'The largest request must be a multiple of 4096 bytes from 4 KiB to 32 MiB',
  );
  refuseUnless(blockSize === 512 || blockSize === 4096, 'The block size must be 512 or 4096');
  refuseUnless(
    inRange(helperJobs, 1, MAXIMUM_HELPER_JOBS),
    `The helper's jobs at once must be from 1 to ${MAXIMUM_HELPER_JOBS}`,
  );
  refuseUnless(RECOVERIES.includes(recovery), `The recovery must be one of ${RECOVERIES.join(', ')}`);
  refuseUnless(
    dataPath === 'auto' || DATA_PATHS.includes(dataPath),
    "The data path must be 'auto', 'zero-copy', 'registered', 'user-copy' or 'plain'",
  );
  refuseUnless(['unmap', 'ignore'].includes(discard), "The discard option must be 'unmap' or 'ignore'");
  refuseUnless(
    ['writeback', 'writethrough', 'none', 'directsync', 'unsafe'].includes(cache),
    "The cache mode must be 'writeback', 'writethrough', 'none', 'directsync' or 'unsafe'",
  );
  overlapBits(options.overlapCheck ?? 'cached');
  return checked;
}

function inRange(value: number, minimum: number, maximum: number): boolean {
  return Number.isInteger(value) && value >= minimum && value <= maximum;
}

function refuseUnless(good: boolean, reason: string): void {
  if (!good) throw new CorralError('ERR_INVALID_ARGUMENT', { reason });
}
