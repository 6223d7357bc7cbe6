/**
 * An image as a Linux block device, `/dev/ublkbN`.
 *
 * The control plane is here, on the caller's thread; the data plane is a worker (ublk-worker.ts). Order of a life: the
 * worker opens the image; ADD_DEV, SET_PARAMS; the worker fetches with every tag; START_DEV, which serves I/O before it
 * returns. And of its end: STOP_DEV; the worker sees its tags come back, flushes and closes the image; DEL_DEV.
 */
import type { BitmapFacts } from '../bitmaps.js';
import { isDirect, isWriteThrough } from '../cache-mode.js';
import { cacheSizeOf } from '../cache-size.js';
import { CorralError, cancelled } from '../errors.js';
import type { ImageFacts } from '../image-facts.js';
import { overlapBits } from '../overlap-check.js';
import type { NewSnapshot, Snapshot, SnapshotSelection } from '../snapshot-record.js';
import type { Addon, UblkInfo } from './addon.js';
import { requireAddon } from './addon.js';
import type { DiskFacts } from './disk-facts.js';
import { fromRecord } from './error-record.js';
import type { MeterReading } from './request-meter.js';
import { refuseOwnDevices } from './storage-stack.js';
import { refuseSwap } from './swap-use.js';
import { addDevice, pathsFor } from './ublk-add.js';
import type { BitmapChange } from './ublk-bitmaps.js';
import { removeDevice, stopDevice } from './ublk-control.js';
import { blockNode, describe, requireUblk } from './ublk-errors.js';
import { type UblkEvent, UblkEvents } from './ublk-events.js';
import { type ChosenFeatures, chooseFeatures } from './ublk-features.js';
import { type CheckedOptions, checkOptions, type UblkDeviceOptions } from './ublk-options.js';
import { deviceSizeOf, parametersOf } from './ublk-parameters.js';
import { newMark, removeRecord, writeRecord } from './ublk-record.js';
import { type IoErrorReport, ServingThread } from './ublk-thread.js';
import { awaitNode, isAdministrator } from './ublk-users.js';
import type { UblkEngineStatistics, UblkVerb } from './ublk-verbs.js';

/** The image is open and the device is known to the driver; it serves; it serves no more; nothing of it is left. */
export type UblkState = 'created' | 'live' | 'stopped' | 'deleted';

/** What a device is made of, before it serves. @internal */
export interface UblkParts {
  readonly addon: Addon;
  readonly thread: ServingThread;
  readonly events: UblkEvents;
  readonly facts: DiskFacts;
  readonly granted: UblkInfo;
  readonly features: ChosenFeatures;
  readonly options: CheckedOptions;
  /** Bytes. */
  readonly deviceSize: number;
  /** Makes the block device, or lets it go on; the worker serves it. */
  begin(id: number): Promise<void>;
  /** For whoever serves the device after this process. */
  keepCacheSize: ((size: number) => Promise<void>) | undefined;
}

/** Milliseconds. */
const HAND_OVER_TIMEOUT = 30_000;

export interface StopOptions {
  /** Milliseconds that requests under way may take; without it, as long as they need. */
  timeout?: number | undefined;
}

export class UblkDevice {
  readonly id: number;
  /** Path of the block device, which is there from `start` to `stop`. */
  readonly node: string;
  /** Facts of the image's header when it was opened; undefined for a raw disk. */
  readonly info: ImageFacts | undefined;
  readonly readOnly: boolean;
  /** What of the driver is used. */
  readonly features: ChosenFeatures;
  /**
   * Ends when nothing is served any more and the image is closed, whoever stopped the device; rejects with a CorralError
   * when something went wrong on the way, above all when the last flush failed.
   */
  readonly closed: Promise<void>;
  private current: UblkState = 'created';
  private deviceSize: number;
  private virtualSize: number;
  private starting: Promise<void> | undefined;
  private stopping: Promise<void> | undefined;
  private deleting: Promise<void> | undefined;
  private handing: Promise<void> | undefined;

  /** @internal */
  constructor(private readonly parts: UblkParts) {
    const { granted, facts, options, thread, events } = parts;
    this.id = granted.id;
    this.node = blockNode(granted.id);
    this.info = facts.image;
    this.readOnly = options.readOnly;
    this.features = parts.features;
    this.deviceSize = parts.deviceSize;
    this.virtualSize = facts.virtualSize;
    this.closed = thread.ended.finally(() => {
      this.current = 'stopped';
      thread.release();
    });
    // Whoever does not ask is not to be ended by an unhandled rejection: stop() and the events tell as well.
    this.closed.then(
      () => events.emit({ type: 'stopped', error: undefined }),
      (error: CorralError) => events.emit({ type: 'stopped', error }),
    );
  }

  /** Requests that the kernel may have under way at one time. */
  get queueDepth(): number {
    return this.parts.granted.queueDepth;
  }

  get state(): UblkState {
    return this.current;
  }

  /** Bytes of the block device, which may be fewer than those of the disk. */
  get size(): number {
    return this.deviceSize;
  }

  /** Bytes of the virtual disk. */
  get diskSize(): number {
    return this.virtualSize;
  }

  /** Everything that happens from now on; ends with the event `stopped`. */
  events(): AsyncIterableIterator<UblkEvent> {
    return this.parts.events.iterate();
  }

  /**
   * Makes the block device and serves it. A second call is the first one's. After a failure the device is to be deleted.
   *
   * @throws CorralError ERR_PERMISSION, ERR_IO, ERR_CLOSED after `stop`
   */
  start(): Promise<void> {
    this.starting ??= this.begin();
    return this.starting;
  }

  /**
   * Takes the block device away: requests under way are answered first, everything answered is made durable, and the
   * image is closed. A second call is the first one's. Rejects with the CorralError of whatever failed; with ERR_CANCELLED
   * when the time was up, and then the device goes on stopping; with ERR_LOCKED while it holds swap space, and goes on.
   */
  stop({ timeout }: StopOptions = {}): Promise<void> {
    const again = (): void => {
      this.stopping = undefined;
    };
    this.stopping ??= this.unlessSwap(() => this.end(), again);
    return timeout === undefined ? this.stopping : inTime(this.stopping, timeout, this.node);
  }

  /** Lets the driver forget the device, which is stopped if it is not; rejects as that. A second call is the first one's. */
  delete(): Promise<void> {
    const again = (): void => {
      this.deleting = undefined;
    };
    this.deleting ??= this.unlessSwap(() => this.forget(), again);
    return this.deleting;
  }

  /**
   * Gives the device away without a failed request: what is under way is answered, the image is closed, and everything
   * that is asked from then on waits until `recoverDevice`, of any process, serves it. Neither `stop` nor `delete` change
   * anything of it afterwards. A second call is the first one's.
   *
   * @param timeout milliseconds that requests under way may take
   * @throws CorralError ERR_UNSUPPORTED for a device that was made without recovery, or by a driver without QUIESCE;
   * ERR_CLOSED when it does not serve; ERR_IO
   */
  handOver({ timeout = HAND_OVER_TIMEOUT }: StopOptions = {}): Promise<void> {
    this.handing ??= this.giveAway(timeout).catch((error) => {
      this.handing = undefined;
      throw error;
    });
    return this.handing;
  }

  /** Stops and deletes. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.delete();
  }

  /** The image's internal snapshots, in the order of the table. */
  snapshots(): Promise<Snapshot[]> {
    return this.call({ name: 'snapshotList' }) as Promise<Snapshot[]>;
  }

  /**
   * Makes a snapshot of the disk as it is, of everything that was answered before; the guest's requests wait meanwhile.
   * What its file system has not written yet is not in it.
   */
  async createSnapshot(snapshot: NewSnapshot): Promise<void> {
    await this.call({ name: 'snapshotCreate', snapshot });
  }

  /** A text is an id, or a name when no snapshot has that id. Rejects with ERR_NOT_FOUND. */
  async deleteSnapshot(snapshot: string | SnapshotSelection): Promise<void> {
    await this.call({ name: 'snapshotDelete', snapshot });
  }

  /** The image's persistent bitmaps, in the order of the directory. */
  bitmaps(): Promise<BitmapFacts[]> {
    return this.call({ name: 'bitmapList' }) as Promise<BitmapFacts[]>;
  }

  /** Rejects as the verb of `Image.bitmaps` does. */
  async changeBitmap(change: BitmapChange): Promise<void> {
    await this.call({ name: 'bitmapChange', change });
  }

  /**
   * Writes what the image holds into what lies behind it, where the disk is the same then, and empties the image unless
   * `keep`. Requests of the guest wait until it is done. What else continues from that file reads something else then.
   * Rejects with ERR_UNSUPPORTED where nothing lies behind the image, ERR_LOCKED when somebody else uses that file.
   *
   * @param options.bytesPerSecond 0, the default: as many as can be
   */
  async commit({ keep = false, bytesPerSecond = 0 }: { keep?: boolean; bytesPerSecond?: number } = {}): Promise<void> {
    if (!(bytesPerSecond >= 0)) throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'The rate is negative' });
    await this.call({ name: 'commit', keep, bytesPerSecond });
  }

  /**
   * Goes on with a metadata cache of so many bytes, raised to what the queue depth needs; `statistics` tells what it really
   * has. The guest's requests wait until the image is open with it. Rejects as `Image.setCacheSize` does, and with
   * ERR_UNSUPPORTED for a device with several queues.
   */
  async setCacheSize(cacheSize: number): Promise<void> {
    const size = cacheSizeOf({ cacheSize });
    await this.call({ name: 'changeCache', size });
    await this.parts.keepCacheSize?.(size);
  }

  /** Everything that was answered before becomes durable. */
  async flush(): Promise<void> {
    await this.call({ name: 'flush' });
  }

  /** The kernel's requests so far, by kind, with their latencies; costs the serving thread nothing. */
  requests(): MeterReading {
    return this.parts.thread.readMeter();
  }

  /** What the engine has counted since the image was opened, or got another cache. */
  statistics(): Promise<UblkEngineStatistics> {
    return this.call({ name: 'statistics' }) as Promise<UblkEngineStatistics>;
  }

  /**
   * Makes the disk longer, in whole blocks, and the block device with it where the driver can do that; else that has its
   * old size until it is made anew. Resolves with the bytes of both. Rejects with ERR_INVALID_ARGUMENT for a shorter one.
   */
  async resize(size: number): Promise<{ size: number; deviceSize: number }> {
    const { addon, options, features } = this.parts;
    if (!Number.isSafeInteger(size) || size % options.blockSize !== 0) {
      throw new CorralError('ERR_INVALID_ARGUMENT', {
        reason: `The new size must be a multiple of ${options.blockSize} bytes`,
      });
    }
    const deviceSize = features.updateSize ? size : this.deviceSize;
    await this.call({ name: 'resize', size, deviceSize });
    this.virtualSize = size;
    if (features.updateSize) {
      await addon.ublk.updateSize(this.id, { size }).catch((error) => Promise.reject(describe(error, this.id)));
      this.deviceSize = size;
    }
    return { size, deviceSize: this.deviceSize };
  }

  private call(verb: UblkVerb): Promise<unknown> {
    return this.parts.thread.call(verb);
  }

  private async begin(): Promise<void> {
    const { thread, granted, options, events } = this.parts;
    if (this.current !== 'created' || this.stopping !== undefined) throw new CorralError('ERR_CLOSED');
    thread.attach({
      type: 'attach',
      deviceId: this.id,
      queueDepth: granted.queueDepth,
      maxIoBytes: granted.maxIoBytes,
      deviceSize: this.deviceSize,
      unmap: options.discard === 'unmap',
      durable: isWriteThrough(options.cache),
      dataPath: this.features.dataPath,
      pinned: options.queues > 1,
    });
    try {
      await thread.attached;
      await Promise.race([this.parts.begin(this.id), thread.failure]);
    } catch (error) {
      throw describe(error, this.id);
    }
    this.current = 'live';
    events.emit({ type: 'started', node: this.node });
  }

  /** Before anything has changed. Whoever is refused may ask again. */
  private async unlessSwap(end: () => Promise<void>, again: () => void): Promise<void> {
    if (this.current === 'live' && this.handing === undefined) {
      await refuseSwap(this.id).catch((error: unknown) => {
        again();
        throw error;
      });
    }
    return end();
  }

  private async giveAway(timeout: number): Promise<void> {
    const { addon, features } = this.parts;
    if (!features.handOver) {
      const reason = 'The device cannot change its server: it needs --recovery, and a driver with QUIESCE (Linux 6.16)';
      throw new CorralError('ERR_UNSUPPORTED', { path: this.node, reason });
    }
    if (this.current !== 'live' || this.stopping !== undefined)
      throw new CorralError('ERR_CLOSED', { path: this.node });
    await addon.ublk.quiesceDevice(this.id, { timeout }).catch((error) => Promise.reject(describe(error, this.id)));
    await this.closed;
  }

  private async end(): Promise<void> {
    const { addon, thread } = this.parts;
    if (this.handing !== undefined) return this.handing;
    // A start under way would wait for queues that are gone.
    const started = await this.starting?.then(
      () => true,
      () => false,
    );
    if (started !== true) thread.order({ type: 'close' });
    // Somebody else may have stopped and deleted it: what counts is how the image was closed.
    const ended = this.current === 'stopped';
    if (started !== undefined && !ended) await stopDevice(addon, this.id).catch(passUnless('ERR_NOT_FOUND'));
    await this.closed;
  }

  private async forget(): Promise<void> {
    if (this.handing !== undefined) return this.handing;
    try {
      await this.stop();
    } finally {
      await removeDevice(this.parts.addon, this.id);
      await removeRecord(this.id);
      this.current = 'deleted';
    }
  }
}

/**
 * Opens the image at `path` and makes a device of it, which `start` brings to life. An abort of the signal ends what is
 * under way with ERR_CANCELLED, and deletes the device whenever it comes.
 *
 * @throws CorralError of opening the image; ERR_INVALID_ARGUMENT; ERR_ADDON_MISSING; ERR_NO_UBLK when the kernel has no
 * ublk driver; ERR_UNSUPPORTED when that cannot do what is asked for; ERR_PERMISSION; ERR_EXISTS when the wanted id is
 * taken; ERR_IO
 */
export async function createDevice(
  path: string,
  { signal, ...options }: UblkDeviceOptions & { signal?: AbortSignal } = {},
): Promise<UblkDevice> {
  const checked = checkOptions(options);
  const addon = requireAddon();
  const offered = await requireUblk(addon);
  const events = new UblkEvents();
  // It starts while the rest is looked at.
  const thread = serve(addon, path, checked, events);
  let id: number | undefined;
  try {
    const unprivileged = !(await isAdministrator());
    const wanted = chooseFeatures(offered, checked.recovery, unprivileged);
    const paths = await pathsFor(path, offered, checked, unprivileged);
    if (signal?.aborted) throw cancelled(signal);
    await refuseOwnDevices(addon, path);
    thread.begin();
    const facts = await thread.opened;
    if (signal?.aborted) throw cancelled(signal);
    const deviceSize = deviceSizeOf(facts, checked);
    const mark = newMark();
    const { granted, features } = await addDevice(addon, checked, wanted, paths, mark);
    id = granted.id;
    if (unprivileged) await awaitNode(id, 'ublkc');
    await addon.ublk.setParameters(id, parametersOf(facts, checked, granted, deviceSize));
    if (checked.recovery !== 'off') await writeRecord(id, mark, path, checked);
    const begin = async (device: number): Promise<void> => {
      await addon.ublk.startDevice(device, process.pid);
      if (unprivileged) await awaitNode(device, 'ublkb');
    };
    const device = new UblkDevice({
      addon,
      thread,
      events,
      facts,
      granted,
      features,
      options: checked,
      deviceSize,
      begin,
      keepCacheSize:
        checked.recovery === 'off'
          ? undefined
          : (cacheSize) => writeRecord(granted.id, mark, path, { ...checked, cacheSize }),
    });
    if (signal?.aborted) throw cancelled(signal);
    const onAbort = (): void => void device.delete().catch(() => {});
    const forget = (): void => signal?.removeEventListener('abort', onAbort);
    signal?.addEventListener('abort', onAbort, { once: true });
    device.closed.then(forget, forget);
    return device;
  } catch (error) {
    await abandon(addon, thread, id);
    throw describe(error, id ?? checked.id);
  }
}

/**
 * Starts a thread that will open the image, once it is told to `begin`, and serve it.
 *
 * @param folder of names that are relative to where the server runs
 * @internal
 */
export function serve(
  addon: Addon,
  path: string,
  options: CheckedOptions,
  events: UblkEvents,
  folder = process.cwd(),
): ServingThread {
  let failed = false;
  return new ServingThread(
    addon,
    {
      path,
      format: options.format,
      guard: options.guard,
      folder,
      readOnly: options.readOnly,
      queueDepth: options.queueDepth,
      queues: options.queues,
      cacheSize: options.cacheSize,
      helperJobs: options.helperJobs,
      mayOpen: options.mayOpen,
      noBacking: options.noBacking,
      ignoresFlushes: options.cache === 'unsafe',
      direct: isDirect(options.cache),
      treatment: {
        lazyRefcounts: options.lazyRefcounts,
        keepDiscarded: options.discardNoUnref,
        passDiscard: options.passDiscard,
        overlapChecks: overlapBits(options.overlapCheck ?? 'cached'),
      },
    },
    ({ error, missed, broken }: IoErrorReport) => {
      // That the engine has failed is told once; the requests that suffer from it are told as any others.
      const first = broken && !failed;
      failed ||= broken;
      if (first) events.emit({ type: 'engineFailure', error: fromRecord(error) });
      else events.emit({ type: 'ioError', error: fromRecord(error), missed });
    },
  );
}

/** Takes back what was made of a device that did not come to life. */
async function abandon(addon: Addon, thread: ServingThread, id: number | undefined): Promise<void> {
  thread.order({ type: 'close' });
  await thread.ended.catch(() => {});
  if (id !== undefined) {
    await removeDevice(addon, id).catch(() => {});
    await removeRecord(id).catch(() => {});
  }
  thread.release();
}

async function inTime(work: Promise<void>, milliseconds: number, node: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const reason = `Requests are still under way after ${milliseconds / 1000} s: the storage below the image is stuck`;
    timer = setTimeout(() => reject(new CorralError('ERR_CANCELLED', { path: node, reason })), milliseconds);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function passUnless(code: string): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof CorralError) || error.code !== code) throw error;
  };
}
