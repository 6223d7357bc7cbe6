/** The ublk devices of this machine, whoever serves them, and whether there can be any. */

import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { findAddon, isSystemError, requireAddon, type UblkInfo } from '../node/addon.js';
import { CommandError } from './output.js';

const CONTROL = '/dev/ublk-control';
const SECTOR = 512;

/** A device. Sizes are bytes. */
export interface Device {
  readonly id: number;
  /** `/dev/ublkbN`; not there before the device is started. */
  readonly path: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly info: UblkInfo;
}

/** Why no ublk device can be made here, and what to do about it; undefined when nothing is in the way. */
export function whyNoUblk(): string | undefined {
  if (process.platform !== 'linux') return 'ublk is a part of Linux';
  if (findAddon() === undefined) {
    try {
      requireAddon();
    } catch (error) {
      return `the native addon is missing: ${(error as { details?: { reason?: string } }).details?.reason ?? error}`;
    }
  }
  if (!existsSync(CONTROL)) {
    return `the kernel's ublk driver is not loaded (no ${CONTROL}): try 'modprobe ublk_drv' as root`;
  }
  try {
    accessSync(CONTROL, constants.R_OK | constants.W_OK);
  } catch {
    return `no permission to open ${CONTROL}: run it as root`;
  }
  return undefined;
}

/** As `whyNoUblk`, as an error. */
export function requireUblk(doing: string): void {
  const reason = whyNoUblk();
  if (reason !== undefined) throw new CommandError(`Cannot ${doing}: ${reason}`);
}

/** Numbers of the devices that there are. */
export function deviceIds(): number[] {
  return readdirSync('/dev')
    .map((name) => /^ublkc(\d+)$/.exec(name)?.[1])
    .filter((digits): digits is string => digits !== undefined)
    .map(Number)
    .sort((first, second) => first - second);
}

/** What is known of a device; undefined when there is none of this number. */
export async function findDevice(id: number): Promise<Device | undefined> {
  try {
    const info = await requireAddon().ublk.getInfo(id);
    const attribute = (name: string): string | undefined => readAttribute(`/sys/class/block/ublkb${id}/${name}`);
    return {
      id,
      path: blockDevice(id),
      size: Number(attribute('size') ?? 0) * SECTOR,
      readOnly: attribute('ro') === '1',
      info,
    };
  } catch (error) {
    if (isSystemError(error) && (error.code === 'ENODEV' || error.code === 'ENOENT' || error.code === 'EINVAL'))
      return undefined;
    throw error;
  }
}

/** The block device's node. */
export function blockDevice(id: number): string {
  return `/dev/ublkb${id}`;
}

/** Nothing of the device is left. */
export function isGone(id: number): boolean {
  return !existsSync(blockDevice(id)) && !existsSync(`/dev/ublkc${id}`);
}

function readAttribute(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined; // not started, or just gone
  }
}
