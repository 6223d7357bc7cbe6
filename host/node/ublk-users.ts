/**
 * Devices of users who are not the machine's administrator. The driver makes them for whoever may open /dev/ublk-control; who may
 * control and use one is decided by the permissions of its nodes, which udev gives to the device's owner (systemd/).
 */
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { CorralError, systemErrorCode } from '../errors.js';

/** The capability with which the driver makes any device. */
const CAP_SYS_ADMIN = 21n;
/** Milliseconds that udev may take for a node, and between two looks at it. */
const PATIENCE = 5000;
const PAUSE = 20;

/** Whether this process may make and control any ublk device; true where that cannot be told. */
export async function isAdministrator(): Promise<boolean> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  const capabilities = /^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1];
  return capabilities === undefined || (BigInt(`0x${capabilities}`) >> CAP_SYS_ADMIN) % 2n === 1n;
}

/** The nodes of a device: by one it is controlled and served, the other is the disk. */
export type UblkNode = 'ublkc' | 'ublkb';

/**
 * Waits until a node of a device is there, and this process may read and write it.
 *
 * @param patience milliseconds
 * @throws CorralError ERR_PERMISSION that says what to do
 */
export async function awaitNode(id: number, node: UblkNode, patience = PATIENCE): Promise<void> {
  const path = `/dev/${node}${id}`;
  const end = performance.now() + patience;
  while (true) {
    const code = await access(path, constants.R_OK | constants.W_OK).then(
      () => undefined,
      (error: unknown) => systemErrorCode(error) ?? 'EACCES',
    );
    if (code === undefined) return;
    if (performance.now() > end) {
      const reason =
        `${path} did not become yours: udev needs a rule that gives ublk devices to their owners ` +
        `(60-corral-ublk.rules); root can take the device away: corral detach /dev/ublkb${id}`;
      throw new CorralError('ERR_PERMISSION', { device: id, reason });
    }
    await wait(PAUSE);
  }
}
