/** `corral detach`: asks a device's server to end, and waits until the device is gone. */

import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import type { Command } from 'commander';
import { systemErrorCode } from '../../errors.js';
import { requireAddon } from '../../node/addon.js';
import { type Device, findDevice, isGone, requireUblk } from '../devices.js';
import { CommandError } from '../output.js';

const POLL = 20;
/** A server that writes a lot of metadata to a slow disk needs a while. */
const PATIENCE = 60_000;

export function detach(command: Command): void {
  command
    .description('Ends the server of a ublk block device in order, and waits until the device is gone.')
    .argument('<device>', '/dev/ublkbN, or N')
    .option('--force', 'also when the device is mounted or in use otherwise')
    .action(detachDevice);
}

async function detachDevice(name: string, { force }: { force?: boolean }): Promise<void> {
  const digits = /^(?:\/dev\/ublk[bc])?(\d{1,9})$/.exec(name)?.[1];
  if (digits === undefined) throw new CommandError(`'${name}' is no ublk device: /dev/ublkbN or N is needed`);
  requireUblk(`detach '${name}'`);
  const device = await findDevice(Number(digits));
  if (device === undefined) throw new CommandError(`There is no ublk device '${name}' (see corral list)`);
  if (!force && isInUse(device)) {
    throw new CommandError(`${device.path} is in use: unmount it first (--force detaches it all the same)`);
  }
  const { serverPid } = device.info;
  if (!ask(serverPid)) await removeOrphan(device);
  for (const end = Date.now() + PATIENCE; !isGone(device.id); await wait(POLL)) {
    if (Date.now() > end) throw new CommandError(`${device.path} is still there: process ${serverPid} does not end`);
  }
}

/** A mounted device cannot be opened exclusively. */
function isInUse({ path }: Device): boolean {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_EXCL));
    return false;
  } catch (error) {
    return systemErrorCode(error) === 'EBUSY';
  }
}

/** Asks the server to end; false when there is none any more. */
function ask(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 'SIGTERM');
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ESRCH') return false;
    throw new CommandError(`No permission to end process ${pid}, which serves the device`, 1, { cause: error });
  }
}

/** A device whose server was killed has nobody else to remove it. */
async function removeOrphan({ id }: Device): Promise<void> {
  const { ublk } = requireAddon();
  await ublk.stopDevice(id).catch(() => {});
  await ublk.deleteDevice(id);
}
