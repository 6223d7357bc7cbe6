/** The ublk devices of this machine, whoever serves them, and whether there can be any. */

import { existsSync } from 'node:fs';
import { CorralError } from '../errors.js';
import { requireAddon } from '../node/addon.js';
import { listUblkDevices, type UblkListEntry } from '../node/ublk-control.js';
import { requireUblk } from '../node/ublk-errors.js';
import { CommandError, reasonOf } from './output.js';

/** Every device has an entry here; the folder is missing where the driver is not loaded. */
const CLASS = '/sys/class/ublk-char';

/** Why no ublk device can be made here, and what to do about it; undefined when nothing is in the way. */
export async function whyNoUblk(): Promise<string | undefined> {
  try {
    await requireUblk(requireAddon());
    return undefined;
  } catch (error) {
    if (!(error instanceof CorralError)) throw error;
    return error.code === 'ERR_ADDON_MISSING' ? `The native addon is missing: ${reasonOf(error)}` : reasonOf(error);
  }
}

/** All devices by number. Where there is no driver there are none, and nobody needs a permission to know that. */
export async function findDevices(): Promise<UblkListEntry[]> {
  if (!existsSync(CLASS)) return [];
  const obstacle = await whyNoUblk();
  if (obstacle !== undefined) throw new CommandError(`Cannot list devices: ${obstacle}`);
  return listUblkDevices();
}

/** N of `/dev/ublkbN` or N. Throws `CommandError`. */
export function deviceNumber(name: string): number {
  const digits = /^(?:\/dev\/ublk[bc])?(\d{1,9})$/.exec(name)?.[1];
  if (digits === undefined) throw new CommandError(`'${name}' is no ublk device: /dev/ublkbN or N is needed`);
  return Number(digits);
}

/** Nothing of the device is left. */
export function isGone(id: number): boolean {
  return !existsSync(`/dev/ublkb${id}`) && !existsSync(`/dev/ublkc${id}`);
}
