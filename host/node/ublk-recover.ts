/**
 * Devices whose server died go on: the image is opened again, and the driver gives its requests to this process.
 *
 * The dead server's open files end when its last request does: until then the driver calls the device busy, and the
 * image is locked. Both are waited for, so no write of the dead one can come after a write of ours.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { CorralError } from '../errors.js';
import type { Addon, UblkInfo } from './addon.js';
import { isSystemError, requireAddon } from './addon.js';
import type { DiskFacts } from './disk-facts.js';
import { refuseOwnDevices } from './storage-stack.js';
import { listUblkDevices } from './ublk-control.js';
import { serve, UblkDevice } from './ublk-device.js';
import { blockNode, describe, requireUblk } from './ublk-errors.js';
import { UblkEvents } from './ublk-events.js';
import { featuresOf } from './ublk-features.js';
import { type CheckedOptions, checkOptions } from './ublk-options.js';
import { readRecord, type UblkRecord, writeRecord } from './ublk-record.js';
import type { ServingThread } from './ublk-thread.js';

/** Values of UblkInfo.state: the server is dead, and I/O waits, or fails, for a new one. */
const QUIESCED = 2;
const FAILING = 3;

/** Milliseconds between two looks. */
const POLL = 50;
/** Milliseconds. */
const DEFAULT_PATIENCE = 15_000;

/** Numbers of the devices of this machine that wait for a server. Rejects as `listUblkDevices`. */
export async function findWaitingDevices(): Promise<number[]> {
  return (await listUblkDevices()).filter(waits).map(({ id }) => id);
}

/** What the new server does otherwise than the old one. */
export interface RecoverOptions {
  /** Milliseconds that the end of the dead server may take. Default: 15 s. */
  patience?: number | undefined;
  /** Bytes of the metadata cache. Default: as it was. */
  cacheSize?: number | undefined;
}

/**
 * Takes over a device whose server died, from the record that this left: the same image, the same options. The device is
 * live when the promise ends.
 *
 * @throws CorralError ERR_NOT_FOUND when there is no such device or nothing is known of it; ERR_LOCKED when it has a
 * server; of opening the image. The device goes on waiting then.
 */
export async function recoverDevice(
  id: number,
  { patience = DEFAULT_PATIENCE, cacheSize }: RecoverOptions = {},
): Promise<UblkDevice> {
  const addon = requireAddon();
  await requireUblk(addon);
  const deadline = Date.now() + patience;
  const granted = await whenWaiting(addon, id, deadline);
  const record = await readRecord(id, granted.mark);
  await refuseOwnDevices(addon, record.image, id);
  const kept = { ...record.options, queueDepth: granted.queueDepth, queues: granted.queues };
  const options = checkOptions({ ...kept, cacheSize: cacheSize ?? kept.cacheSize });
  const { size } = await addon.ublk.getParameters(id).catch((error) => Promise.reject(describe(error, id)));
  const events = new UblkEvents();
  const { thread, facts } = await whenUnlocked(addon, record, options, events, deadline);
  const keepCacheSize = (size: number): Promise<void> =>
    writeRecord(id, granted.mark, record.image, { ...options, cacheSize: size }, record.folder);
  try {
    if (facts.virtualSize < size) {
      throw new CorralError('ERR_INVALID_ARGUMENT', { path: blockNode(id), reason: 'Its image has become smaller' });
    }
    await whenFree(() => addon.ublk.startRecovery(id), deadline);
    const device = new UblkDevice({
      addon,
      thread,
      events,
      facts,
      granted,
      features: featuresOf(granted.flags),
      options,
      deviceSize: size,
      begin: (number) => addon.ublk.endRecovery(number, process.pid),
      keepCacheSize,
    });
    await device.start();
    if (cacheSize !== undefined) await keepCacheSize(cacheSize);
    return device;
  } catch (error) {
    thread.order({ type: 'close' });
    await thread.ended.catch(() => {});
    thread.release();
    throw describe(error, id);
  }
}

function waits({ state }: UblkInfo): boolean {
  return state === QUIESCED || state === FAILING;
}

async function whenWaiting(addon: Addon, id: number, deadline: number): Promise<UblkInfo> {
  while (true) {
    const info = await addon.ublk.getInfo(id).catch((error) => Promise.reject(describe(error, id)));
    if (waits(info)) return info;
    // Of a process that ends, the driver hears a moment later.
    if (isAlive(info.serverPid) || Date.now() > deadline) {
      const reason =
        info.state === 0 ? 'The device is dead: nothing of it can be recovered' : 'The device has a server';
      throw new CorralError('ERR_LOCKED', { path: blockNode(id), device: id, reason });
    }
    await wait(POLL);
  }
}

async function whenUnlocked(
  addon: Addon,
  record: UblkRecord,
  options: CheckedOptions,
  events: UblkEvents,
  deadline: number,
): Promise<{ thread: ServingThread; facts: DiskFacts }> {
  while (true) {
    const thread = serve(addon, record.image, options, events, record.folder);
    thread.begin();
    try {
      return { thread, facts: await thread.opened };
    } catch (error) {
      await thread.ended.catch(() => {});
      thread.release();
      const locked = error instanceof CorralError && error.code === 'ERR_LOCKED';
      if (!locked || Date.now() > deadline) throw error;
    }
    await wait(POLL);
  }
}

async function whenFree(start: () => Promise<void>, deadline: number): Promise<void> {
  while (true) {
    try {
      await start();
      return;
    } catch (error) {
      if (!isSystemError(error) || error.code !== 'EBUSY' || Date.now() > deadline) throw error;
    }
    await wait(POLL);
  }
}

function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
}
