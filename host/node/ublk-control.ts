/** The ublk devices of this machine, whoever serves them. */
import { readdir } from 'node:fs/promises';
import type { Addon, UblkControl, UblkInfo } from './addon.js';
import { isSystemError, requireAddon } from './addon.js';
import { refuseSwap } from './swap-use.js';
import { blockNode, describe, isGone, requireUblk } from './ublk-errors.js';
import { UblkFeature } from './ublk-features.js';
import { isAdministrator } from './ublk-users.js';

/** A device of this machine. */
export interface UblkListEntry extends UblkInfo {
  node: string;
  parameters: Awaited<ReturnType<UblkControl['getParameters']>>;
}

/**
 * Removes any device of this machine; its server flushes and closes the image.
 *
 * @throws CorralError ERR_NOT_FOUND, ERR_PERMISSION, ERR_NO_UBLK, ERR_LOCKED while it holds swap space, ERR_IO
 */
export async function detachUblkDevice(id: number): Promise<void> {
  const addon = requireAddon();
  await requireUblk(addon);
  await refuseSwap(id);
  await stopDevice(addon, id);
  await removeDevice(addon, id);
}

/**
 * The ublk devices of this machine, by id; of users who are not its administrator, those that they may control.
 *
 * @throws CorralError ERR_NO_UBLK, ERR_PERMISSION, ERR_IO
 */
export async function listUblkDevices(): Promise<UblkListEntry[]> {
  const addon = requireAddon();
  await requireUblk(addon);
  const everything = await isAdministrator();
  const names = await readdir('/sys/class/ublk-char').catch(() => []);
  const ids = names.flatMap((name) => /^ublkc(\d+)$/.exec(name)?.slice(1).map(Number) ?? []).sort((a, b) => a - b);
  const entries: UblkListEntry[] = [];
  for (const id of ids) {
    try {
      const [info, parameters] = [await addon.ublk.getInfo(id), await addon.ublk.getParameters(id)];
      entries.push({ ...info, node: blockNode(id), parameters });
    } catch (error) {
      const another = !everything && isSystemError(error) && ['EACCES', 'EPERM'].includes(error.code);
      if (!isGone(error) && !another) throw describe(error, id);
    }
  }
  return entries;
}

/**
 * Who made a device, when that was no administrator; else undefined: such a device is root's.
 *
 * @throws CorralError ERR_NOT_FOUND, ERR_PERMISSION, ERR_NO_UBLK, ERR_IO
 */
export async function ublkOwner(id: number): Promise<{ uid: number; gid: number } | undefined> {
  const { flags, ownerUid, ownerGid } = await requireAddon()
    .ublk.getInfo(id)
    .catch((error) => Promise.reject(describe(error, id)));
  const unprivileged = Math.floor(flags / UblkFeature.Unprivileged) % 2 === 1;
  return unprivileged ? { uid: ownerUid, gid: ownerGid } : undefined;
}

/** Removes the block device; its server must go on serving until it sees the end. */
export async function stopDevice(addon: Addon, id: number): Promise<void> {
  await addon.ublk.stopDevice(id).catch((error) => {
    throw describe(error, id);
  });
}

/** Somebody else may have been faster. */
export async function removeDevice(addon: Addon, id: number): Promise<void> {
  await addon.ublk.stopDevice(id).catch(() => {});
  await addon.ublk.deleteDevice(id).catch((error) => {
    if (!isGone(error)) throw describe(error, id);
  });
}
