/** Images as block devices for as long as the process is not asked to stop. */

import { setTimeout as wait } from 'node:timers/promises';
import { CorralError } from '../errors.js';
import { serveControl } from '../node/control-server.js';
import type { MetricsAddress } from '../node/metrics-address.js';
import type { MetricsServer } from '../node/metrics-server.js';
import { createDevice, type UblkDevice } from '../node/ublk-device.js';
import type { UblkDeviceOptions } from '../node/ublk-options.js';
import { whyNoUblk } from './devices.js';
import { cannotOpen, openFile } from './open.js';
import { CommandError, reasonOf } from './output.js';
import type { StopSignal } from './signals.js';

/** Milliseconds between two tries to stop a device. */
const POLL = 1000;

export interface DeviceOptions extends Omit<UblkDeviceOptions, 'mayOpen' | 'noBacking'> {
  /** `--no-backing`: false keeps backing files closed. */
  backing?: boolean;
}

interface Reports {
  /** The device serves. */
  onReady(device: UblkDevice): void;
  /** A line for people: something is not as it should be, and all goes on. */
  warn(line: string): void;
  /** Where to serve metrics of all devices. */
  metrics?: MetricsAddress | undefined;
}

/** A device that lives, and what it is called in messages. */
export interface ServedDevice {
  readonly device: UblkDevice;
  readonly path: string;
}

/**
 * Brings the devices to life one after the other and reports each, and ends when all of them are gone: because of a
 * signal, or because somebody else removed them. When one cannot be made, those before it go away. Throws `CommandError`.
 */
export async function serveDevices(
  makers: readonly (() => Promise<ServedDevice>)[],
  { signal }: StopSignal,
  { onReady, warn, metrics }: Reports,
): Promise<void> {
  const served: ServedDevice[] = [];
  const stopAll = (): Promise<unknown> => Promise.all(served.map(({ device }) => stopWhenFree(device, warn)));
  // Ahead of the devices: where it cannot be, nothing has to be taken back.
  const measured = metrics && (await serveAllMetrics(metrics, served));
  try {
    for (const make of makers) {
      if (signal.aborted) break;
      const one = await make();
      served.push(one);
      await giveControl(one.device, warn);
      if (!signal.aborted) onReady(one.device);
    }
  } catch (error) {
    // Nobody will serve them.
    await measured?.close();
    await stopAll();
    await Promise.allSettled(served.map(({ device }) => device.delete()));
    throw error;
  }
  if (signal.aborted) void stopAll();
  else signal.addEventListener('abort', () => void stopAll(), { once: true });
  const ends = await Promise.allSettled(served.map(untilGone));
  await measured?.close();
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

/** A device with swap space on it goes on until that is ended. Other failures are told when the device is gone. */
async function stopWhenFree(device: UblkDevice, warn: (line: string) => void): Promise<void> {
  for (let told = false; ; told = true) {
    try {
      return await device.stop();
    } catch (error) {
      const isHeld = error instanceof CorralError && error.code === 'ERR_LOCKED' && device.state === 'live';
      if (!isHeld) return;
      if (!told) warn(`${device.node} goes on for now: ${reasonOf(error)}`);
      await wait(POLL);
    }
  }
}

async function serveAllMetrics(address: MetricsAddress, served: readonly ServedDevice[]): Promise<MetricsServer> {
  const { serveMetrics } = await import('../node/metrics-server.js');
  // What has ended is still read: it counts until the last device is gone.
  const devices = (): UblkDevice[] => served.map(({ device }) => device);
  return serveMetrics(address, devices).catch((error: unknown) => {
    throw new CommandError(`Cannot serve metrics: ${reasonOf(error)}`, 1, { cause: error });
  });
}

/** A machine on which there can be no socket still serves. */
async function giveControl(device: UblkDevice, warn: (line: string) => void): Promise<void> {
  try {
    const control = await serveControl(device);
    const close = (): void => void control.close();
    device.closed.then(close, close);
  } catch (error) {
    warn(`${device.node} cannot be controlled while it serves: ${reasonOf(error)}`);
  }
}

/** Whoever stopped it, nothing of it is left then. */
async function untilGone({ device, path }: ServedDevice): Promise<void> {
  try {
    await device.closed.finally(() => device.delete());
  } catch (error) {
    throw new CommandError(`${device.node} ('${path}'): ${reasonOf(error)}`, 1, { cause: error });
  }
}

/** Throws `CommandError`. */
export async function makeDevice(path: string, options: DeviceOptions): Promise<ServedDevice> {
  const write = options.readOnly !== true;
  // What is wrong with the file is told on a machine without ublk, too.
  await (await openFile(path, { write, mayReadOnly: true })).close();
  const obstacle = await whyNoUblk();
  if (obstacle !== undefined) throw new CommandError(`Cannot attach '${path}': ${obstacle}`);
  try {
    const device = await createDevice(path, deviceOptions(options));
    try {
      await device.start();
    } catch (error) {
      await device.delete().catch(() => {});
      throw error;
    }
    return { device, path };
  } catch (error) {
    throw cannotAttach(path, options, error);
  }
}

/** As everywhere on the command line, an image may name any file. */
export function deviceOptions({ backing, ...options }: DeviceOptions): UblkDeviceOptions {
  return { ...options, mayOpen: 'any', noBacking: backing === false };
}

export function cannotAttach(path: string, { readOnly }: DeviceOptions, error: unknown): unknown {
  if (error instanceof CorralError && ('operation' in error.details || error.code === 'ERR_INVALID_ARGUMENT')) {
    return new CommandError(`Cannot attach '${path}': ${reasonOf(error)}`, 1, { cause: error });
  }
  return cannotOpen(path, error, { write: readOnly !== true, mayReadOnly: true });
}
